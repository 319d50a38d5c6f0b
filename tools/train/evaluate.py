"""Measures GGUF files on the generator's splits: `python evaluate.py MODEL.gguf … --out FILE`.

Every figure about the package comes from here, as one JSON file that `report.py` turns into tables
and pictures, and `assemble.py` takes the calibration from. An answer is right when it equals the
expected one, JSON as values. Accuracy counts the unambiguous items; an ambiguous item has several
right answers with known odds, so there the ceiling is known and stands beside the model's figure.
Confidence and calibration count all items: doubt is what they are about.

All answers under a constraint come from the appliance's own engine, one conversation at a time, so
that the figures come out the same again; what changes when eight share a pass is measured beside
them. Only the answers that are left free are decoded plainly.
"""

import argparse
import hashlib
import json
import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import gguf

import asking
import factory
import measures
import package
from gate import quantization

SPLITS = ("test", "phrasings", "outside")
MIXED_SPLITS = ("phrasings", "outside")
# Ways to make one figure of the free tokens; the first is what the appliance takes.
CONFIDENCES = {
    "product": measures.product,
    "minimum": measures.minimum,
    "mean": measures.mean,
    "clarity": measures.clarity,
}
# Conversations that share a pass in service, where the site sets no other number.
TOGETHER = 8
# More than the 2,000 that the goals speak of, also without the ambiguous ones.
COUNT = 2200
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)
CURVE_POINTS = 60


@dataclass
class Item:
    """An example, the task that it belongs to, and what the model made of it."""

    example: factory.Example
    task: dict
    answer: dict

    @property
    def right(self):
        return package.same(self.task, self.answer["text"], self.example.output)

    @property
    def ambiguous(self):
        return len(self.example.odds) > 1

    @property
    def product(self):
        return measures.product(self.answer)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=COUNT, help="examples of each task and split")
    parser.add_argument("--free", type=int, default=300, help="of each task's, also asked freely")
    parser.add_argument("--calibration", type=int, default=2500, help="of each task, to calibrate")
    parser.add_argument("--declaration", type=Path, default=package.DECLARATION)
    parser.add_argument("--folder", type=Path, default=package.FOLDER)
    options = parser.parse_args()

    tasks = package.Tasks(package.declaration(options.declaration), options.folder)
    counts = dict.fromkeys(SPLITS, options.count) | {"calibration": options.calibration}
    examples = {split: draw(split, count) for split, count in counts.items()}
    examples["free"] = draw("test", min(options.free, options.count))
    results = {
        "examples": {split: len(chosen) for split, chosen in examples.items()},
        "models": [evaluate(model, tasks, examples) for model in options.models],
    }
    options.out.write_text(json.dumps(rounded(results), indent=1, ensure_ascii=False) + "\n")


def rounded(value):
    """Without the digits that no sample of this size can tell."""
    if isinstance(value, dict):
        return {key: rounded(it) for key, it in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(it) for it in value]
    return round(value, 6) if isinstance(value, float) else value


def draw(split, count):
    """So many examples of each task; of the split as a whole where it decides the tasks itself."""
    tasks = [None] if split in MIXED_SPLITS else factory.TASKS
    return [factory.example(split, index, task) for task in tasks for index in range(count)]


def evaluate(model, tasks, examples):
    """All figures of one file."""
    print(f"{model.name}: asking", flush=True)
    asked = (*SPLITS, "calibration")
    items = {split: ask(model, tasks, examples[split]) for split in asked}
    free = ask(model, tasks, examples["free"], asking.ask, free=True)
    known_and_strange = items["test"] + items["outside"]
    return identity(model) | {
        "speed": asking.speed(model),
        "latency_ms": by_task(items["test"], latency),
        "accuracy": {split: accuracy(items[split]) for split in SPLITS},
        "together": together(model, items["test"]),
        "validity": validity(model, items["test"], free),
        "ambiguous": by_task([it for it in items["test"] if it.ambiguous], against_ceiling),
        "outside": outside(items["outside"]),
        "confidence": {
            "test": by_task(items["test"], confidence),
            "test and outside": by_task(known_and_strange, confidence),
            "all splits": by_task(known_and_strange + items["phrasings"], confidence),
        },
        "calibration": calibration(
            [item for item in items["calibration"] if tasks.declares(item.task)],
            [item for item in items["test"] if tasks.declares(item.task)],
        ),
    }


def ask(model, tasks, examples, way=asking.exam, **how):
    """What the model answers to the examples."""
    chosen = [tasks.of(example) for example in examples]
    requests = [asking.request(task, it.input) for task, it in zip(chosen, examples)]
    return [Item(*parts) for parts in zip(examples, chosen, way(model, requests, **how))]


def identity(model):
    content = model.read_bytes()
    return {
        "file": model.name,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "quantization": quantization(model),
        "parameters": sum(int(tensor.n_elements) for tensor in gguf.GGUFReader(model).tensors),
    }


# ---- what is right


def accuracy(items):
    """The share of unambiguous items answered entirely right, in all and by what they are."""
    clear = [item for item in items if not item.ambiguous]
    return {
        "all": right(clear),
        "task": by_task(clear, right),
        "kind": by(clear, lambda item: f"{item.task['name']}: {item.example.kind}", right),
        "language": by(clear, lambda item: f"{item.task['name']}: {item.example.language}", right),
        "fields": by_task([item for item in clear if package.is_json(item.task)], fields),
    }


def right(items):
    return shares(item.right for item in items)


def shares(rights):
    rights = list(rights)
    return {"items": len(rights), "right": measures.share(rights)}


def fields(items):
    """For each field of the expected JSON the share of answers that have it right."""
    found = defaultdict(list)
    for item in items:
        answer = package.parsed(item.answer["text"])
        answer = answer if isinstance(answer, dict) else {}
        for name, value in package.parsed(item.example.output).items():
            found[name].append(name in answer and package.same_value(answer[name], value))
    return {name: measures.share(rights) for name, rights in found.items()}


def together(model, items):
    """What becomes of these items' answers where several share a pass, as under load."""
    requests = [asking.request(it.task, it.example.input) for it in items]
    answers = asking.exam(model, requests, TOGETHER)
    others = [Item(it.example, it.task, answer) for it, answer in zip(items, answers)]
    changed = [it.answer["text"] != other.answer["text"] for it, other in zip(items, others)]
    return {
        "sequences": TOGETHER,
        "items": len(items),
        "changed": sum(changed),
        "right": right([item for item in others if not item.ambiguous])["right"],
    }


def validity(model, constrained, free):
    """The share of answers that fit the task's constraint: held to it, left free, and expected.

    The engine keeps to a constraint by code of its own, so the runtime's grammar is the judge.
    """
    asked = [it.task for it in constrained]
    given = asking.fits(model, asked, [it.answer["text"] for it in constrained])
    expected = asking.fits(model, asked, [it.example.output for it in constrained])
    kinds = {
        "constrained": [
            (it.task, fits and it.answer["whole"]) for it, fits in zip(constrained, given)
        ],
        "free": [(it.task, it.answer["fits"]) for it in free],
        "expected": [(it.task, fits) for it, fits in zip(constrained, expected)],
    }
    figures = defaultdict(dict)
    for kind, found in kinds.items():
        for name, pairs in sorted(grouped(found, lambda pair: pair[0]["name"]).items()):
            if "text" not in pairs[0][0]["answer"]:
                figures[name][kind] = shares(fits for _, fits in pairs)
    return figures


def against_ceiling(items):
    """How likely the answers were to be right by the known odds, and how likely they could be."""
    odds = [[chance for _, chance in item.example.odds] for item in items]
    reached = [
        next(
            (
                p
                for output, p in it.example.odds
                if package.same(it.task, it.answer["text"], output)
            ),
            0.0,
        )
        for it in items
    ]
    return {
        "items": len(items),
        "ceiling": statistics.fmean(map(max, odds)),
        "reached": statistics.fmean(reached),
        "most_likely": measures.share(p == max(chances) for p, chances in zip(reached, odds)),
    }


def outside(items):
    """Whether the model notices what is none of its business."""
    return {
        "items": len(items),
        "noticed": measures.share(map(noticed, items)),
        "task": by_task(items, lambda chosen: measures.share(map(noticed, chosen))),
    }


def noticed(item):
    answer = package.parsed(item.answer["text"])
    if not isinstance(answer, dict):
        return item.right
    asks_for_person = answer.get(item.task.get("needs_person_field")) is True
    return asks_for_person or answer.get("category") == "unknown"


def latency(items):
    return statistics.median(it.answer["took_ms"] for it in items)


# ---- how sure, and how honestly


def confidence(items):
    """How well each kind of confidence ranks and tells the truth, before calibration."""
    rights = [item.right for item in items]
    figures = {"items": len(items), "right": measures.share(rights)}
    for name, of in CONFIDENCES.items():
        values = [of(item.answer) for item in items]
        figures[name] = {
            "auroc": measures.auroc(values, rights),
            "ece": measures.calibration_error(values, rights),
            "aurc": measures.aurc(values, rights),
            "accuracy_at": {
                str(coverage): measures.accuracy_at(values, rights, coverage)
                for coverage in COVERAGES
            },
        }
    figures["curve"] = thinned(measures.risk_coverage([it.product for it in items], rights))
    return figures


def calibration(fitted_on, checked_on):
    """For each task the line from raw to calibrated confidence, and how honest that makes it.

    Checked by halves of the items that it is fitted on, and on the split test, which has another
    share of strangers.
    """
    fitting = grouped(fitted_on, lambda item: item.task["name"])
    figures = {}
    for name, items in sorted(grouped(checked_on, lambda item: item.task["name"]).items()):
        raw, rights = raw_and_right(fitting[name])
        points = measures.calibration_points(raw, rights)
        held_out = measures.held_out(raw, rights)
        test_raw, test_rights = raw_and_right(items)
        mapped = [measures.calibrated(points, value) for value in test_raw]
        threshold = items[0].task["threshold"]
        kept = [right for value, right in zip(mapped, test_rights) if value >= threshold]
        figures[name] = {
            "points": points,
            "items": {"calibration": len(raw), "test": len(items)},
            "ece_before": {
                "calibration": measures.calibration_error(raw, rights),
                "test": measures.calibration_error(test_raw, test_rights),
            },
            "ece_after": {
                "calibration": measures.calibration_error(held_out, rights),
                "test": measures.calibration_error(mapped, test_rights),
            },
            "reliability": {
                "before": measures.reliability(raw, rights),
                "after": measures.reliability(held_out, rights),
            },
            "threshold": threshold,
            "kept": len(kept) / len(items),
            "right_when_kept": measures.share(kept),
        }
    return figures


def raw_and_right(items):
    return [item.product for item in items], [item.right for item in items]


def thinned(curve):
    """About as many points of a curve as a picture shows, the last one among them."""
    step = max(1, len(curve) // CURVE_POINTS)
    return curve[::-1][::step][::-1]


# ---- groups


def by_task(items, figure):
    return by(items, lambda item: item.task["name"], figure)


def by(items, key, figure):
    return {name: figure(chosen) for name, chosen in sorted(grouped(items, key).items())}


def grouped(items, key):
    groups = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups


if __name__ == "__main__":
    main()
