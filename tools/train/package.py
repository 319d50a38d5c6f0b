"""What a person decides about the package, read from `package.toml`.

`tasks()` gives each task with its grammar's text or its choices, ready to be asked; an example of
the data generator belongs to the task whose `system` text it carries.
"""

import json
import tomllib
from pathlib import Path

DECLARATION = Path(__file__).with_name("package.toml")
FOLDER = Path(__file__).resolve().parents[2] / "models" / "factory-triage"


def declaration(path=DECLARATION):
    """The declaration as it stands in the file."""
    return tomllib.loads(Path(path).read_text())


def tasks(declared, folder=FOLDER):
    """The tasks by their system text, each with what constrains its answer."""
    return {task["system"]: _with_constraint(task, Path(folder)) for task in declared["task"]}


def is_json(task):
    """Whether the answers of a task are JSON, so that fields and values count, not their spelling."""
    return "grammar" in task["answer"] or "schema" in task["answer"]


def same(task, answer, expected):
    """Whether an answer is right."""
    if answer == expected:
        return True
    if not is_json(task):
        return False
    answer, expected = parsed(answer), parsed(expected)
    return answer is not None and same_value(answer, expected)


def same_value(left, right):
    """Equality as JSON values: `true` is not 1."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_value(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same_value, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and left == right


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
