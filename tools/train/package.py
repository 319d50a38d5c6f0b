"""What a person decides about the package, read from `package.toml`.

`Tasks` gives each task with its grammar's text or its choices, ready to be asked, and knows which
task an example of the data generator belongs to.
"""

import json
import tomllib
from pathlib import Path

DECLARATION = Path(__file__).with_name("package.toml")
OTHER_LABELS_MAX_TOKENS = 16
MODELS = Path(__file__).resolve().parents[2] / "models"
FOLDER = MODELS / "factory-triage"
VARIANTS = MODELS / "variants"


def declaration(path=DECLARATION):
    """The declaration as it stands in the file."""
    return tomllib.loads(Path(path).read_text())


class Tasks:
    """The declared tasks by name, each with what constrains its answer."""

    def __init__(self, declared, folder=FOLDER):
        self.by_name = {it["name"]: _with_constraint(it, Path(folder)) for it in declared["task"]}
        self._by_system = {task["system"]: task for task in self.by_name.values()}

    def of(self, example):
        """The example's task, asked in the example's words.

        The generator also asks in other words than the package, and to classify by labels that the
        package does not offer. The former still belongs to its task; the latter becomes a task of
        its own, whose labels are the choices.
        """
        if example.system in self._by_system:
            return self._by_system[example.system]
        if example.task in self.by_name:
            return self.by_name[example.task] | {"system": example.system}
        name, labels = example.system.split(": ", 1)
        choices = labels.split(", ")
        return {
            "name": name,
            "system": example.system,
            "answer": {"choices": choices},
            "choices": choices,
            "max_tokens": OTHER_LABELS_MAX_TOKENS,
        }

    def declares(self, task):
        """Whether the package asks exactly this."""
        return task["system"] in self._by_system


def is_json(task):
    """Whether the answers of a task are JSON: then values count, not their spelling."""
    return "grammar" in task["answer"] or "schema" in task["answer"]


def same(task, answer, expected):
    """Whether an answer is right."""
    if answer == expected:
        return True
    if not is_json(task):
        return False
    value = parsed(answer)
    return value is not None and same_value(value, parsed(expected))


def same_value(left, right):
    """Equality as the appliance sees it: 2 is neither 2.0 nor, like in Python, a kind of `true`."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same_value(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same_value, left, right))
    return left == right


def parsed(text):
    """The JSON value of a text, or None."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _with_constraint(task, folder):
    answer = task["answer"]
    if "grammar" in answer:
        return task | {"grammar": (folder / answer["grammar"]).read_text()}
    if "choices" in answer:
        return task | {"choices": answer["choices"]}
    return task
