"""What counts as right, which task an example belongs to, and how the manifest is written."""

import tomllib
import unittest
from types import SimpleNamespace

import assemble
import package

JSON_TASK = {"name": "triage", "system": "triage", "answer": {"schema": "x.json"}, "max_tokens": 9}
CHOICE_TASK = {
    "name": "classify-colour",
    "system": "classify: red, green",
    "answer": {"choices": ["red", "green"]},
    "max_tokens": 4,
}


class Answers(unittest.TestCase):
    def test_json_answers_are_compared_as_values(self):
        self.assertTrue(package.same(JSON_TASK, '{"b": 1, "a": [true]}', '{"a":[true],"b":1}'))
        self.assertFalse(package.same(JSON_TASK, '{"a":1}', '{"a":2}'))
        self.assertFalse(package.same(JSON_TASK, '{"a":1', '{"a":1}'))

    def test_values_of_different_kinds_are_different(self):
        for left, right in (("1", "1.0"), ("1", "true"), ("0", "false"), ("null", "0")):
            self.assertFalse(package.same(JSON_TASK, left, right), f"{left} and {right}")

    def test_other_answers_are_compared_as_text(self):
        self.assertFalse(package.same(CHOICE_TASK, "red ", "red"))


class Belonging(unittest.TestCase):
    def setUp(self):
        self.tasks = package.Tasks({"task": [JSON_TASK, CHOICE_TASK]})

    def test_the_instruction_tells_the_task(self):
        task = self.tasks.of(SimpleNamespace(task="classify", system="classify: red, green"))
        self.assertEqual(task["name"], "classify-colour")
        self.assertEqual(task["choices"], ["red", "green"])
        self.assertTrue(self.tasks.declares(task))

    def test_other_words_for_a_task_are_kept_but_not_the_packages_own(self):
        task = self.tasks.of(SimpleNamespace(task="triage", system="Please triage."))
        self.assertEqual((task["name"], task["system"]), ("triage", "Please triage."))
        self.assertFalse(self.tasks.declares(task))

    def test_other_labels_are_a_task_of_their_own(self):
        task = self.tasks.of(SimpleNamespace(task="classify", system="classify: blue, red"))
        self.assertEqual((task["name"], task["choices"]), ("classify", ["blue", "red"]))
        self.assertFalse(self.tasks.declares(task))


class Manifest(unittest.TestCase):
    def test_it_reads_back_as_it_was_meant(self):
        meant = {
            "format": 1,
            "text": 'quote " backslash \\ ümlaut',
            "runtime": {"architecture": "llama", "context_tokens": 512},
            "task": [{"name": "a", "answer": {"choices": ["x", "y"]}, "free": True}],
            "calibration": [{"points": [[0.0, 1e-06], [1.0, 0.9999]]}],
            "bars": {"latency_ms": 250, "task": [{"name": "a", "accuracy": 0.9}]},
        }
        self.assertEqual(tomllib.loads(assemble.toml_table(meant)), meant)


if __name__ == "__main__":
    unittest.main()
