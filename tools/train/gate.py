"""Holds models to the package's own gate: `python gate.py MODEL.gguf …`.

The suite, the bars and the calibration are those of the package folder, whatever the file is: what
a device would make of it if it came with that manifest. Ends with 1 if a model fails.
"""

import argparse
import json
import statistics
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import gguf

import asking
import measures
import package


@dataclass(frozen=True)
class Check:
    """One bar, and what was found; `task` where the bar is about the right answers to one."""

    what: str
    found: float
    good: bool
    short: float = 0.0  # how far a share of right answers stays under its bar
    task: str | None = None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--folder", type=Path, default=package.FOLDER)
    options = parser.parse_args()

    gate = Gate.of(options.folder)
    passed = [told(model.name, gate.checks(model)) for model in options.models]
    sys.exit(0 if all(passed) else 1)


class Gate:
    """A suite, the tasks that its items belong to, bars, and the calibration of each answer."""

    def __init__(self, tasks, suite, bars, calibrations):
        self.tasks, self.suite, self.bars, self.calibrations = tasks, suite, bars, calibrations

    @classmethod
    def of(cls, folder):
        """The gate of a package that is there."""
        manifest = tomllib.loads((folder / "manifest.toml").read_text())
        bars = manifest["bars"]
        lines = (folder / bars["suite"]).read_text().splitlines()
        tasks = package.Tasks(manifest, folder)
        return cls(tasks, [json.loads(line) for line in lines], bars, manifest["calibration"])

    def checks(self, model):
        """Runs the gate as the device will, on the appliance's own engine, except for memory."""
        kind = quantization(model)
        points = {
            it["task"]: it["points"] for it in self.calibrations if it["quantization"] == kind
        }
        asked = [self.tasks.by_name[it["task"]] for it in self.suite]
        answers = asking.exam(
            model,
            [asking.request(task, it["input"], it["id"]) for task, it in zip(asked, self.suite)],
        )
        rights = [
            package.same(task, answer["text"], item["expect"])
            for task, item, answer in zip(asked, self.suite, answers)
        ]
        sure = [
            measures.calibrated(points[item["task"]], measures.product(answer))
            for item, answer in zip(self.suite, answers)
        ]
        latency = statistics.median(it["took_ms"] for it in answers)
        return judged(self.suite, self.bars, rights, sure, latency)


def judged(suite, bars, rights, sure, latency):
    """What the bars say to right and wrong answers, their calibrated confidence and their time."""
    error = measures.calibration_error(sure, rights)
    checks = [
        Check("calibration error", error, error <= bars["calibration_error"]),
        Check("median answer, ms", latency, latency <= bars["latency_ms"]),
    ]
    for bar in bars["task"]:
        own = [right for item, right in zip(suite, rights) if item["task"] == bar["name"]]
        found = measures.share(own)
        short = max(0.0, bar["accuracy"] - found)
        checks.append(Check(f"{bar['name']}: right", found, short == 0, short, bar["name"]))
    return checks


def told(name, checks):
    """Prints how it went; whether all is good."""
    for check in checks:
        verdict = "" if check.good else "  FAILS"
        print(f"{name}: {check.what} {check.found:.3f}{verdict}", flush=True)
    return all(check.good for check in checks)


def quantization(model):
    """As the file says it, such as `Q4_K_M`."""
    file_type = gguf.GGUFReader(model).fields["general.file_type"].contents()
    return gguf.LlamaFileType(file_type).name.removeprefix("MOSTLY_")


if __name__ == "__main__":
    main()
