"""What the gate demands, how harm is chosen by it, and what a release does with the one before."""

import tempfile
import unittest
from pathlib import Path
from unittest import mock

import assemble
import gate
import goals
import package
import variants

SUITE = [{"task": "a"}] * 4 + [{"task": "b"}] * 2
BARS = {
    "calibration_error": 0.1,
    "latency_ms": 50,
    "task": [{"name": "a", "accuracy": 0.75}, {"name": "b", "accuracy": 1.0}],
}
GOOD = [True, True, True, False, True, True]


def found(rights=GOOD, sure=None, latency=50):
    sure = sure or [0.95 if right else 0.05 for right in rights]
    return {check.what: check for check in gate.judged(SUITE, BARS, rights, sure, latency)}


class Bars(unittest.TestCase):
    def test_what_just_reaches_every_bar_passes(self):
        self.assertTrue(all(check.good for check in found().values()))

    def test_one_answer_less_fails_and_is_told_how_far(self):
        check = found([True, True, False, False, True, True])["a: right"]
        self.assertEqual((check.good, check.short), (False, 0.25))

    def test_other_tasks_do_not_make_up_for_one(self):
        self.assertFalse(found([True] * 5 + [False])["b: right"].good)

    def test_misplaced_confidence_and_slowness_fail_but_are_not_wrong_answers(self):
        overconfident = found(sure=[1.0] * 6)["calibration error"]
        slow = found(latency=51)["median answer, ms"]
        self.assertEqual([(it.good, it.short) for it in (overconfident, slow)], [(False, 0.0)] * 2)


class Harm(unittest.TestCase):
    def test_it_is_the_least_that_misses_a_bar_clearly(self):
        missed = {0.1: 0.0, 0.2: variants.CLEARLY / 2, 0.3: variants.CLEARLY, 0.4: 0.9}
        self.assertEqual(variants.least(missed, missed.get), 0.3)

    def test_none_is_chosen_where_the_gate_stops_none(self):
        self.assertIsNone(variants.least([0.1, 0.2], lambda noise: 0.0))


class Release(unittest.TestCase):
    def test_the_models_of_the_one_before_leave_and_the_smallest_is_kept(self):
        with tempfile.TemporaryDirectory() as root:
            folder, earlier = Path(root) / "package", Path(root) / "variants"
            folder.mkdir()
            for name, size in (("it-1-Q8_0", 9), ("it-1-Q4_K_M", 4), ("it-2-Q4_K_M", 1)):
                (folder / f"{name}.gguf").write_bytes(b"x" * size)
            with mock.patch.object(assemble, "quantization", lambda _: "Q4_K_M"):
                assemble.retire(folder, {"it-2-Q4_K_M.gguf"}, earlier)
                assemble.retire(folder, {"it-2-Q4_K_M.gguf"}, earlier)
            self.assertEqual([it.name for it in folder.iterdir()], ["it-2-Q4_K_M.gguf"])
            self.assertEqual((earlier / "earlier-Q4_K_M.gguf").read_bytes(), b"x" * 4)


class Repository(unittest.TestCase):
    def test_all_models_together_stay_small(self):
        files = [path for path in package.MODELS.rglob("*") if path.is_file()]
        self.assertGreater(len(files), 0)
        self.assertLessEqual(sum(path.stat().st_size for path in files), 25_000_000)

    def test_every_variant_is_told_of(self):
        readme = (package.VARIANTS / "README.md").read_text()
        for path in package.VARIANTS.glob("*.gguf"):
            self.assertIn(path.name, readme)


class Goals(unittest.TestCase):
    def test_choices_count_together_by_their_items(self):
        tasks = {
            "classify": {"items": 30, "right": 1.0},
            "classify-urgency": {"items": 10, "right": 0.6},
            "triage": {"items": 10, "right": 0.0},
        }
        self.assertEqual(goals.answers({"task": tasks}, "classify"), (0.9, 40))
        self.assertEqual(goals.answers({"task": tasks}, "guide"), (None, 0))


if __name__ == "__main__":
    unittest.main()
