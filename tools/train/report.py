"""Turns the measured figures into tables and pictures: `python report.py RESULTS.json`.

Replaces what stands between the markers in the package's README, and writes the pictures into its
folder `figures`. The first model of the results is the one that the pictures show.
"""

import argparse
import json
import math
import os
from pathlib import Path

import goals
import package
from pictures import Chart

# The task whose reliability is drawn; where it is missing, the one that keeps least.
SHOWN = "triage"
# The only task that strangers come to.
STRANGERS_TASK = "triage"
BEGIN, END = "<!-- figures:begin -->", "<!-- figures:end -->"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--readme", type=Path, default=package.FOLDER / "README.md")
    parser.add_argument("--figures", type=Path, default=package.FOLDER / "figures")
    options = parser.parse_args()

    results = json.loads(options.results.read_text())
    options.figures.mkdir(parents=True, exist_ok=True)
    shown = results["models"][0]
    (options.figures / "reliability.svg").write_text(reliability(shown).svg())
    (options.figures / "risk-coverage.svg").write_text(risk_coverage(shown).svg())
    pictures = os.path.relpath(options.figures, options.readme.parent)
    replace_between_markers(options.readme, "\n\n".join(sections(results, pictures)))


def replace_between_markers(path, text):
    """Fails where the markers are not there."""
    before, rest = path.read_text().split(BEGIN, 1)
    _, after = rest.split(END, 1)
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def sections(results, pictures):
    models = results["models"]
    counts = ", ".join(f"{split} {count:,}" for split, count in results["examples"].items())
    yield (
        f"Examples: {counts}. Answers come from the appliance's own engine, as a device gets them, "
        "one at a time, so that the figures come out the same again; only those that are left free "
        "are decoded plainly."
    )
    yield "### What was wanted, and what was reached"
    yield table(["Wanted", "At least", "Reached", "Examples", ""], goals.rows(models))
    yield "### Files and speed (one thread)"
    yield files(models)
    yield (
        "### Answers entirely right\n\n"
        "Of the unambiguous examples, with each task's constraint in force."
    )
    yield accuracy(models)
    yield together(models)
    shown = f"By language and kind ({models[0]['quantization']}, split test)"
    yield f"<details><summary>{shown}</summary>"
    yield breakdown(models[0])
    yield "</details>"
    yield "### Fields of the JSON answers"
    yield fields(models)
    yield "### Answers that fit their constraint (split test)"
    yield validity(models)
    yield (
        "### Ambiguous reports\n\n"
        "Several answers are right with known odds: how often the best possible answers would be "
        "right, how often these are, and how often the likeliest answer was given."
    )
    yield ambiguous(models)
    yield "### Out of domain\n\nAnswered with `unknown`, or with a call for a person."
    yield outside(models)
    yield (
        "### Confidence\n\n"
        "The product of the answer's token probabilities, before calibration. AUROC: the chance "
        "that a right answer is surer than a wrong one. AURC: the mean risk over all coverages. "
        "Outside are strangers that no training resembled; all splits have new wordings too."
    )
    yield confidence(models[0])
    yield f"![risk and coverage]({pictures}/risk-coverage.svg)"
    yield (
        "Other ways to make one figure of the tokens' probabilities "
        f"({models[0]['quantization']}, all splits, AUROC and ECE):"
    )
    yield confidences(models[0])
    yield (
        "### Calibration\n\n"
        "Isotonic, fitted on the split calibration. The error (ECE) there is held out: each half "
        "is mapped by what the other half taught. What is kept, and right when kept, is of the "
        "split test."
    )
    yield calibration(models)
    yield f"![reliability]({pictures}/reliability.svg)"


# ---- tables


def files(models):
    header = ["Quantization", "Bytes", "Prefill tok/s", "Decode tok/s", "Median answer, ms"]
    rows = []
    for model in models:
        latency = ", ".join(f"{task} {ms:.1f}" for task, ms in model["latency_ms"].items())
        prefill = model["speed"]["prefill_tokens_per_second"]["median"]
        decode = model["speed"]["decode_tokens_per_second"]["median"]
        rows.append(
            [
                model["quantization"],
                f"{model['bytes']:,}",
                f"{prefill:,.0f}",
                f"{decode:,.0f}",
                latency,
            ]
        )
    return table(header, rows)


def accuracy(models):
    first = models[0]["accuracy"]
    rows = []
    for split, figures in first.items():
        for task in figures["task"]:
            per_model = [model["accuracy"][split]["task"][task] for model in models]
            cells = [percent(figure["right"]) for figure in per_model]
            rows.append([split, task, f"{per_model[0]['items']:,}", *cells])
    return table(["Split", "Task", "Examples", *names(models)], rows)


def together(models):
    """What sharing a pass does, in a sentence."""
    first = models[0]["together"]
    said = ", ".join(
        f"{it['quantization']} {it['together']['changed']:,} "
        f"({percent(it['accuracy']['test']['all']['right'])} right alone, "
        f"{percent(it['together']['right'])} together)"
        for it in models
    )
    return (
        f"Up to {first['sequences']} conversations share a pass when the appliance is busy, which tips "
        f"an answer where the model wavers. Of {first['items']:,} answers (split test) that changed: "
        f"{said}."
    )


def breakdown(model):
    figures = model["accuracy"]["test"]
    rows = [
        [name, f"{figure['items']:,}", percent(figure["right"])]
        for group in ("language", "kind")
        for name, figure in figures[group].items()
    ]
    return table(["Of", "Examples", "Right"], rows)


def fields(models):
    rows = [
        [
            split,
            task,
            field,
            *(percent(it["accuracy"][split]["fields"][task][field]) for it in models),
        ]
        for split in ("test", "phrasings")
        for task, names_of in models[0]["accuracy"][split]["fields"].items()
        for field in names_of
    ]
    return table(["Split", "Task", "Field", *names(models)], rows)


def validity(models):
    rows = [
        [
            task,
            held,
            f"{models[0]['validity'][task][key]['items']:,}",
            *(percent(it["validity"][task][key]["right"]) for it in models),
        ]
        for task in models[0]["validity"]
        for key, held in (
            ("constrained", "held to it"),
            ("free", "left free"),
            ("expected", "the expected one"),
        )
        if key in models[0]["validity"][task]
    ]
    return table(["Task", "Answer", "Examples", *names(models)], rows)


def ambiguous(models):
    rows = []
    for task, first in models[0]["ambiguous"].items():
        cells = [
            f"{percent(it['ambiguous'][task]['reached'])}"
            f" ({percent(it['ambiguous'][task]['most_likely'])})"
            for it in models
        ]
        rows.append([task, f"{first['items']:,}", percent(first["ceiling"]), *cells])
    return table(["Task", "Examples", "Ceiling", *names(models)], rows)


def outside(models):
    rows = [["all", *(percent(model["outside"]["noticed"]) for model in models)]]
    for task in models[0]["outside"]["task"]:
        rows.append([task, *(percent(model["outside"]["task"][task]) for model in models)])
    return table(["Task", *names(models)], rows)


def confidence(model):
    header = ["Split", "Task", "AUROC", "ECE", "AURC", "All", "Surest 90 %", "Surest 70 %"]
    rows = [
        [
            split,
            task,
            number(figures["product"]["auroc"]),
            number(figures["product"]["ece"]),
            number(figures["product"]["aurc"]),
            *(percent(figures["product"]["accuracy_at"][at]) for at in ("1.0", "0.9", "0.7")),
        ]
        for split in ("test", "test and outside", "all splits")
        for task, figures in model["confidence"][split].items()
        if split != "test and outside" or task == STRANGERS_TASK
    ]
    return table(header, rows)


def confidences(model):
    kinds = {
        "product": "Product",
        "minimum": "Least certain token",
        "mean": "Geometric mean",
        "clarity": "Clarity (exp −entropy)",
    }
    rows = [
        [
            task,
            *(
                f"{number(figures[kind]['auroc'])} / {number(figures[kind]['ece'])}"
                for kind in kinds
            ),
        ]
        for task, figures in model["confidence"]["all splits"].items()
    ]
    return table(["Task", *kinds.values()], rows)


def calibration(models):
    header = ["Task", "File", "ECE before", "ECE after", "Test: before", "Test: after"]
    header += ["Threshold", "Kept", "Right when kept"]
    rows = [
        [
            task,
            model["quantization"],
            number(figures["ece_before"]["calibration"]),
            number(figures["ece_after"]["calibration"]),
            number(figures["ece_before"]["test"]),
            number(figures["ece_after"]["test"]),
            f"{figures['threshold']:g}",
            percent(figures["kept"]),
            percent(figures["right_when_kept"]),
        ]
        for model in models
        for task, figures in model["calibration"].items()
    ]
    return table(header, rows)


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def names(models):
    return [model["quantization"] for model in models]


def percent(value):
    return "–" if value is None else f"{value * 100:.1f} %"


def number(value):
    return "–" if value is None else f"{value:.3f}"


# ---- pictures


def reliability(model):
    """Confidence against truth, before and after calibration, of one task."""
    task, figures = max(model["calibration"].items(), key=lambda it: (it[0] == SHOWN, -it[1]["kept"]))
    chart = Chart(
        f"Confidence and truth: {task}, {model['quantization']}",
        "confidence (a disc's area: how many answers)",
        "share right",
        (0, 1),
        (0, 1),
        percent="xy",
    )
    chart.line([(0, 0), (1, 1)], dashed=True)
    for when, bins in figures["reliability"].items():
        error = figures[f"ece_{when}"]["calibration"]
        name = f"{when} calibration (ECE {error:.3f})"
        total = sum(row["items"] for row in bins)
        radii = [2 + 10 * math.sqrt(row["items"] / total) for row in bins]
        chart.line([(row["confidence"], row["right"]) for row in bins], name)
        chart.dots([(row["confidence"], row["right"], r) for row, r in zip(bins, radii)], name)
    return chart


def risk_coverage(model):
    """How many of the kept answers are wrong when only the surest are kept."""
    curves = model["confidence"]["all splits"]
    top = max(risk for figures in curves.values() for _, risk in figures["curve"])
    chart = Chart(
        f"Risk and coverage on all splits, {model['quantization']}",
        "answers kept, the surest first",
        "wrong among them",
        (0, 1),
        (0, max(0.05, math.ceil(top * 20) / 20)),
        percent="xy",
    )
    for task, figures in curves.items():
        chart.line(figures["curve"], f"{task} (AURC {figures['product']['aurc']:.3f})")
    return chart


if __name__ == "__main__":
    main()
