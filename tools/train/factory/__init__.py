"""Messages of a factory line, with the right answers: the data that the bundled model learns from.

`example(split, index)` is a pure function: the same arguments give the same example on every
machine, so that no data file exists. Standard library only.

The splits share nothing. Each message has a key of its content (what is measured or said, without
machine, time and noise), and the hash of the key decides the split that it belongs to:

    train, validation, test, calibration, gate     by the hash of the key
    phrasings-validation, phrasings                wordings kept from all of the above
    outside-validation, outside                    families of strangers kept from all of the above

`calibration` holds strangers of the training's families too; `outside` holds only strangers.
"""

import hashlib
import json
import random
from dataclasses import asdict, dataclass

from . import marks as _marks
from . import outside as _outside
from .tasks import BUILDERS, MIX, finish, stranger

TASKS = tuple(BUILDERS)
SPLITS = ("train", "validation", "test", "calibration", "gate", "phrasings-validation", "phrasings",
          "outside-validation", "outside")

# Share of the keys, in thousandths, that each split owns: [from, to).
_OWNS = {"train": (0, 850), "validation": (850, 880), "test": (880, 940), "calibration": (940, 970), "gate": (970, 1000)}


@dataclass(frozen=True)
class Example:
    """One message with its answer. `odds` are all right answers with their probabilities;
    `findings` what the words up to a place in the input amount to: [end, category, level]."""

    split: str
    index: int
    task: str
    system: str
    input: str
    output: str
    kind: str
    language: str
    odds: list
    findings: list

    def record(self):
        """As plain values, for JSON."""
        return asdict(self)


def _owner(key):
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 1000


def _draft(r, split, task, language):
    if split.startswith("outside"):
        return stranger(r, language, lambda r: _outside.held(r, split))
    if split.startswith("phrasings"):
        return BUILDERS[task](r, language, split)
    low, high = _OWNS[split]
    while True:
        draft = BUILDERS[task](r, language, split)
        if low <= _owner(draft.key) < high:
            return draft


def example(split, index, task=None):
    """Example number `index` of the split; of one task, if it is named."""
    if split not in SPLITS:
        raise ValueError(f"no split {split!r}; there are {', '.join(SPLITS)}")
    r = random.Random(f"{split}:{index}:{task or ''}")
    if split.startswith("outside"):
        task = "triage"
    elif split.startswith("phrasings"):
        task = task or r.choices(["triage", "classify", "guide"], [0.8, 0.12, 0.08])[0]
    else:
        task = task or r.choices(list(MIX), list(MIX.values()))[0]
    language = "en" if r.random() < 0.6 else "de"
    draft = _draft(r, split, task, language)
    answers, odds = zip(*draft.odds)
    output = r.choices(answers, odds)[0]
    text, findings = _marks.split(finish(r, task, draft))
    return Example(split, index, task, draft.system, text, output, draft.kind, draft.language,
                   [list(pair) for pair in draft.odds], findings)


def digest():
    """What names the data: a hash over the first examples of each split."""
    total = hashlib.sha256()
    for split in SPLITS:
        for index in range(20_000 if split == "train" else 2_000):
            total.update(json.dumps(example(split, index).record(), ensure_ascii=False, sort_keys=True).encode())
    return f"sha256:{total.hexdigest()}"


def prompt(system, text):
    """The whole prompt as the model sees it."""
    return (f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{text}<|im_end|>\n"
            "<|im_start|>assistant\n")
