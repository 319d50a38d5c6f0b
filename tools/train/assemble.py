"""Builds the package folder: `python assemble.py MODEL.gguf … --results RESULTS.json`.

The models come best first. The grammars and the README lie in the folder already; this copies the
models there, draws the gate suite, takes the calibration from the results of `evaluate.py`, and
writes `manifest.toml` with the hash and size of every file. The same inputs give the same bytes.

Before it changes anything, each model must pass the package's own gate, and what the files say
about themselves must be what the declaration says: a package that its devices would refuse is not
built. The models of the release before leave the folder.
"""

import argparse
import hashlib
import json
import shutil
import sys
import tomllib
from pathlib import Path

import gguf

import asking
import factory
import package
from gate import Gate, quantization, told

FORMAT = 1
SUITE = "gate.jsonl"
UNLISTED = {"manifest.toml", "README.md"}
PICTURES = "figures"  # the README's; no device needs them
SMALLEST_SUITE = 300
# Examples of each kind to draw for one item of a suite, at most; then the split is too poor.
DRAWS = 200


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+", help="best first")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--declaration", type=Path, default=package.DECLARATION)
    parser.add_argument("--folder", type=Path, default=package.FOLDER)
    parser.add_argument("--earlier", type=Path, default=package.VARIANTS, help="what leaves")
    options = parser.parse_args()

    declared = package.declaration(options.declaration)
    tasks = package.Tasks(declared, options.folder)
    results = json.loads(options.results.read_text())["models"]
    models = [described(model, declared) for model in options.models]
    calibrations = [calibration(model, task, results) for model in models for task in tasks.by_name]
    suite = gate_suite(tasks, declared["gate"]["each"])
    must_fit(options.models[0], tasks, suite)
    gate = Gate(tasks, suite, declared["bars"], calibrations)
    passed = [told(model.name, gate.checks(model)) for model in options.models]
    if not all(passed):
        sys.exit("a model fails the package's own gate; the package stays as it was")
    write_suite(options.folder / SUITE, suite)
    for model, it in zip(options.models, models):
        bring(model, options.folder / it["file"])
    retire(options.folder, {it["file"] for it in models}, options.earlier)
    write_manifest(options.folder, manifest(options.folder, declared, models, calibrations))


# ---- models


def described(model, declared):
    """The entry that the manifest has for a model. It must be what the declaration says."""
    about = gguf.GGUFReader(model).fields
    said = {
        key: about[f"general.{key}"].contents()
        for key in ("architecture", "name", "version", "license")
    }
    expected = {
        "architecture": declared["runtime"]["architecture"],
        "name": declared["name"],
        "version": declared["version"],
        "license": declared["license"],
    }
    if said != expected:
        sys.exit(f"{model} says {said}, the declaration {expected}")
    kind = quantization(model)
    return {
        "file": f"{declared['name']}-{declared['seq']}-{kind}.gguf",
        "quantization": kind,
        "data_digest": about["lineside.data_digest"].contents(),
        **fingerprint(model),
    }


def bring(model, place):
    """Copies a model into the folder, unless it is there."""
    if not place.exists() or not model.samefile(place):
        shutil.copyfile(model, place)


def retire(folder, current, earlier):
    """The models of an earlier release leave; the smallest one stays as the variant `earlier`."""
    left = [path for path in folder.glob("*.gguf") if path.name not in current]
    for place, path in enumerate(sorted(left, key=lambda it: it.stat().st_size)):
        if place == 0:
            earlier.mkdir(parents=True, exist_ok=True)
            kept = earlier / f"earlier-{quantization(path)}.gguf"
            path.replace(kept)
            print(f"{path.name} is {kept} now")
        else:
            path.unlink()


def fingerprint(path):
    content = path.read_bytes()
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def calibration(model, task, results):
    """The points for a model's answers to a task. The figures must be about this very file."""
    for measured in results:
        if measured["sha256"] == model["sha256"]:
            return {
                "task": task,
                "quantization": model["quantization"],
                "method": "isotonic",
                "points": measured["calibration"][task]["points"],
            }
    sys.exit(f"the results say nothing about {model['file']}; measure it first")


# ---- the gate


def gate_suite(tasks, each):
    """So many items for every task, none twice, as the split `gate` gives them, in its order."""
    suite = {name: {} for name in tasks.by_name}
    for index in range(each * DRAWS):
        for kind in factory.TASKS:
            example = factory.example("gate", index, kind)
            task = tasks.of(example)
            if tasks.declares(task) and len(suite[task["name"]]) < each:
                suite[task["name"]].setdefault(example.input, example)
        if all(len(items) == each for items in suite.values()):
            break
    else:
        sys.exit(f"the split gate is too poor for {each} items of each task")
    return [
        {
            "id": f"{name}-{number:04}",
            "task": name,
            "input": example.input,
            "expect": example.output,
            "kind": example.kind,
        }
        for name, items in suite.items()
        for number, example in enumerate(items.values(), 1)
    ]


def must_fit(model, tasks, suite):
    """An expected answer that the constraint forbids could never be given."""
    asked = [tasks.by_name[item["task"]] for item in suite]
    allowed = asking.fits(model, asked, [item["expect"] for item in suite])
    forbidden = [item for item, fits in zip(suite, allowed) if not fits]
    if forbidden:
        sys.exit(f"{len(forbidden)} expected answers do not fit, the first: {forbidden[0]}")


def write_suite(path, suite):
    if len(suite) < SMALLEST_SUITE:
        sys.exit(f"a gate of {len(suite)} items is too small; {SMALLEST_SUITE} are the least")
    lines = [json.dumps(item, ensure_ascii=False, separators=(",", ":")) for item in suite]
    path.write_text("\n".join(lines) + "\n")


# ---- the manifest


def manifest(folder, declared, models, calibrations):
    """What the manifest says, in the order that it says it."""
    digests = {model.pop("data_digest") for model in models}
    if len(digests) != 1:
        sys.exit(f"the models learnt from different data: {', '.join(sorted(digests))}")
    named = {model["file"] for model in models}
    others = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and PICTURES not in path.relative_to(folder).parts
    )
    described = ("name", "seq", "version", "description", "license", "languages")
    return {
        "format": FORMAT,
        **{key: declared[key] for key in described},
        "data_digest": digests.pop(),
        "runtime": declared["runtime"],
        "model": models,
        "file": [
            {"path": path, **fingerprint(folder / path)}
            for path in others
            if path not in named | UNLISTED
        ],
        "task": declared["task"],
        "calibration": calibrations,
        "bars": {"suite": SUITE, **declared["bars"]},
        **{key: declared[key] for key in ("estimate",) if key in declared},
    }


def write_manifest(folder, content):
    """Writes the manifest and makes sure that it reads back as what was meant."""
    text = toml_table(content)
    if tomllib.loads(text) != content:
        raise AssertionError("the manifest does not read back as it was meant")
    (folder / "manifest.toml").write_text(text)
    print(f"{folder / 'manifest.toml'}: {len(content['file'])} files besides the models")


def toml_table(table, path=()):
    """A table: its values, then its tables, then its lists of tables."""
    values, tables = [], []
    for key, value in table.items():
        name = ".".join((*path, key))
        if isinstance(value, dict) and not path:
            tables.append(f"\n[{name}]\n{toml_table(value, (*path, key))}")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            tables += [f"\n[[{name}]]\n{toml_table(row, (*path, key))}" for row in value]
        else:
            values.append(f"{key} = {toml_value(value)}\n")
    return "".join(values + tables)


def toml_value(value):
    """A value on one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml_value(it)}" for key, it in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    main()
