"""The data holds what its datasheet says: `python -m unittest` in this folder."""

import json
import unittest

import factory
from factory import outside
from factory.guides import GUIDES
from factory.messages import half
from factory.readings import ACTIONS, METRICS, SEVERITIES
from factory.symptoms import SYMPTOMS
from factory.tasks import held_guides

SOME = 1500


def said(text):
    return " ".join(text.lower().split())


class Factory(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.train = [factory.example("train", i) for i in range(20 * SOME)]

    def test_an_example_is_a_pure_function_of_split_and_index(self):
        for split in factory.SPLITS:
            self.assertEqual(factory.example(split, 7), factory.example(split, 7))
        self.assertNotEqual(factory.example("train", 7).input, factory.example("train", 8).input)

    def test_no_other_split_repeats_a_message_of_training(self):
        seen = {(e.task, said(e.input)) for e in self.train}
        for split in factory.SPLITS[1:]:
            again = [e.input for i in range(SOME) if (e := factory.example(split, i)) and (e.task, said(e.input)) in seen]
            # A slip of the pen can turn one message into another; nothing else may.
            self.assertLessEqual(len(again), SOME // 500, f"{split}: {again[:5]}")

    def test_splits_share_no_content(self):
        owners = {}
        for split in ("train", "validation", "test", "calibration", "gate"):
            for i in range(SOME):
                r = factory.random.Random(f"{split}:{i}:")
                task = r.choices(list(factory.MIX), list(factory.MIX.values()))[0]
                language = "en" if r.random() < 0.6 else "de"
                key = factory._draft(r, split, task, language).key
                self.assertEqual(owners.setdefault(key, split), split, key)

    def test_held_out_wordings_stand_in_no_training_message(self):
        text = "\n".join(said(e.input) for e in self.train)
        held = [words for kinds in SYMPTOMS.values() for language in kinds.values() for words in language["held_sayings"]]
        held += [words for languages in GUIDES.values() for _, words, _ in languages.values() for words in words]
        for words in held:
            self.assertNotIn(said(words.lstrip("!")), text)

    def test_development_and_test_share_no_held_out_wording(self):
        for kinds in SYMPTOMS.values():
            for words in kinds.values():
                for held in (words["held_said"], words["held_sayings"]):
                    parts = [set(half(held, part)) for part in ("phrasings-validation", "phrasings")]
                    self.assertTrue(all(parts))
                    self.assertFalse(parts[0] & parts[1])
        guides = [set(half(held_guides("de"), part)) for part in ("phrasings-validation", "phrasings")]
        self.assertFalse(guides[0] & guides[1])
        for table in (outside._ORDERS, outside._WISHES):
            sayings = [{str(it) for it in table[split]} for split in ("trained", "outside-validation", "outside")]
            self.assertEqual(len(set.union(*sayings)), sum(map(len, sayings)))

    def test_families_of_strangers_are_in_one_split_only(self):
        names = [set(outside.TRAINED), set(outside.HELD_VALIDATION), set(outside.HELD)]
        self.assertEqual(len(set.union(*names)), sum(map(len, names)))

    def test_answers_are_what_their_grammar_says(self):
        for split in factory.SPLITS:
            for i in range(300):
                e = factory.example(split, i)
                self.assertAlmostEqual(sum(p for _, p in e.odds), 1.0)
                self.assertIn(e.output, [answer for answer, _ in e.odds])
                if e.task == "triage":
                    answer = json.loads(e.output)
                    self.assertIn(answer["severity"], SEVERITIES)
                    self.assertIn(answer["action"], ACTIONS[answer["category"]])
                elif e.task == "extract":
                    answer = json.loads(e.output)
                    self.assertIn(answer["metric"], [m.key for m in METRICS] + [None])
                elif e.task == "classify":
                    self.assertIn(e.output, e.system.removeprefix("classify: ").split(", "))

    def test_a_value_on_the_limit_counts_as_over_it(self):
        vibration = METRICS[0]
        self.assertEqual([vibration.level(v) for v in (4.4, 4.5, 7.0, 7.1)], [0, 1, 1, 2])
        coolant = next(m for m in METRICS if m.key == "coolant_level")
        self.assertEqual([coolant.level(v) for v in (41, 40, 21, 20)], [0, 1, 1, 2])

    def test_ambiguous_messages_have_odds_and_the_draw_follows_them(self):
        vague = [e for e in self.train if len(e.odds) > 1]
        self.assertGreater(len(vague), 300)
        expected = sum(max(p for _, p in e.odds) for e in vague) / len(vague)
        drawn = sum(e.output == max(e.odds, key=lambda o: o[1])[0] for e in vague) / len(vague)
        self.assertAlmostEqual(drawn, expected, delta=0.06)

    def test_both_languages_and_all_tasks_occur(self):
        self.assertEqual({e.language for e in self.train}, {"en", "de"})
        self.assertEqual({e.task for e in self.train}, set(factory.TASKS))


if __name__ == "__main__":
    unittest.main()
