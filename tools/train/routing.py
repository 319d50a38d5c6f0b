"""The items that `tools/bench router` routes, and the pictures of what it found.

    python3 routing.py items FILE [--quick]    writes the items, one JSON object a line
    python3 routing.py draw RESULTS FOLDER [--write]
        draws the curves of its figures as SVG; with --write into the package, and puts the table
        between the markers of its README

Development items, on which calibrations are fitted, come from splits that the figures never see:
`calibration` and the halves for validation of held-out wordings and strangers. What judges comes
from the splits that no training and no choice saw, in five draws that share nothing.
"""

import argparse
import json
import math
from pathlib import Path

import factory
import package
from pictures import Chart
from report import table

# Of each set so many in a hundred: what the package knows, new wordings, strangers.
SHARES = (70, 15, 15)
FIT_SPLITS = ("calibration", "phrasings-validation", "outside-validation")
SEED_SPLITS = ("test", "phrasings", "outside")
SEEDS = 5
FIT_ITEMS, SEED_ITEMS = 4000, 1100
QUICK_FIT_ITEMS, QUICK_SEED_ITEMS = 800, 200
# The package's own figures are of the first examples of a split; these lie behind them.
FIRST, APART = 1_000_000, 10_000
# Axes end at whole twentieths, so that their five steps are whole percents.
TICKS = 20
BEGIN, END = "<!-- router:begin -->", "<!-- router:end -->"
# The picture shows the variant that small boards take.
SHOWN = "Q4_K_M"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, dest="command")
    items_parser = commands.add_parser("items")
    items_parser.add_argument("file", type=Path)
    items_parser.add_argument("--quick", action="store_true")
    draw_parser = commands.add_parser("draw")
    draw_parser.add_argument("results", type=Path)
    draw_parser.add_argument("folder", type=Path)
    draw_parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    if options.command == "items":
        lines = [json.dumps(item, ensure_ascii=False) for item in items(options.quick)]
        options.file.write_text("\n".join(lines) + "\n")
    else:
        results = json.loads(options.results.read_text())
        folder = package.FOLDER / "figures" if options.write else options.folder
        folder.mkdir(parents=True, exist_ok=True)
        for name, chart in charts(results):
            (folder / f"router-{name}.svg").write_text(chart.svg())
        if options.write:
            tell(results, package.FOLDER / "README.md")


def items(quick=False):
    """All sets, each item with the set and the split that it is of."""
    tasks = package.Tasks(package.declaration())
    fit, seed = (QUICK_FIT_ITEMS, QUICK_SEED_ITEMS) if quick else (FIT_ITEMS, SEED_ITEMS)
    yield from chosen(tasks, "fit", FIT_SPLITS, fit, 0)
    for number in range(SEEDS):
        yield from chosen(tasks, f"seed-{number}", SEED_SPLITS, seed, FIRST + APART * number)


def chosen(tasks, name, splits, count, first):
    """One set: of each split its share of examples that the package is asked in its own words."""
    for split, share in zip(splits, SHARES, strict=True):
        index, wanted = first, count * share // 100
        while wanted:
            example = factory.example(split, index)
            index += 1
            task = tasks.of(example)
            if tasks.declares(task):
                wanted -= 1
                yield {
                    "set": name,
                    "split": split,
                    "task": task["name"],
                    "input": example.input,
                    "expect": example.output,
                }


def tell(results, readme):
    """Puts the table and the pictures between the markers, which must be there."""
    rows = [
        [
            row["variant"],
            row["figure"],
            f"{row['mean']:.4g}",
            f"{row['least']:.4g} … {row['greatest']:.4g}" if row["least"] != row["greatest"] else "",
            row["goal"],
            {"met": "met", "missed": "**missed**", None: ""}[row["verdict"]],
        ]
        for row in results["table"]
    ]
    names = [f"router-{name}" for name, _ in charts(results)]
    text = "\n\n".join(
        [
            table(["Of", "Figure", "Mean", "Least … greatest", "Goal", ""], rows),
            *(f"![{name}](figures/{name}.svg)" for name in names),
        ]
    )
    before, rest = readme.read_text().split(BEGIN, 1)
    _, after = rest.split(END, 1)
    readme.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def charts(results):
    """Each picture with its name."""
    found = results[SHOWN]
    for cloud, curves in found["clouds"].items():
        everything = [y for curve in curves.values() for _, y in curve]
        chart = Chart(
            f"Accuracy and cost ({SHOWN}, cloud: {cloud})",
            "sent to the cloud",
            "right",
            (0, 1),
            (math.floor(min(everything) * TICKS) / TICKS, math.ceil(max(everything) * TICKS) / TICKS),
            percent="xy",
        )
        chart.line(curves["oracle"], "oracle", dashed=True)
        chart.line(curves["ours"], "calibrated confidence")
        chart.line(curves["random"], "random", dashed=True)
        yield f"accuracy-cost-{cloud}", chart
    top = max(risk for curve in found["risk_coverage"].values() for _, risk in curve)
    chart = Chart(
        f"Risk and coverage ({SHOWN})", "kept on the edge", "wrong among it", (0, 1), (0, math.ceil(top * TICKS) / TICKS), percent="xy"
    )
    for kind, curve in found["risk_coverage"].items():
        chart.line(curve, kind)
    yield "risk-coverage", chart
    chart = Chart(
        f"Confidence and truth ({SHOWN})", "confidence", "share right", (0, 1), (0, 1), percent="xy"
    )
    chart.line([(0, 0), (1, 1)], dashed=True)
    for kind, bins in found["reliability"].items():
        chart.line([(it["confidence"], it["right"]) for it in bins], kind)
    yield "reliability", chart


if __name__ == "__main__":
    main()
