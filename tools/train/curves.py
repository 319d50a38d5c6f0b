"""Draws the learning curves of a training log: `python curves.py LOG.jsonl FOLDER`.

The log holds one object a line: {"step", "seconds", "loss", "validation": {task: accuracy}}. Other
splits may stand beside the validation; where nothing was looked at they are all absent. Writes
`learning.svg` (accuracy) and `loss.svg` into the folder.
"""

import argparse
import json
from pathlib import Path

from pictures import Chart

LOSS_POINTS = 200


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()

    rows = [json.loads(line) for line in options.log.read_text().splitlines()]
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "loss.svg").write_text(loss(rows).svg())
    looks = [row for row in rows if "validation" in row]
    if looks:
        (options.folder / "learning.svg").write_text(learning(looks).svg())


def learning(looks):
    """The accuracy of each task over the steps; dashed what no part of the training resembles."""
    chart = Chart(
        "Answers right (dashed: held-out wordings, strangers)",
        "training step",
        "right",
        (0, looks[-1]["step"]),
        (0, 1),
        percent="y",
    )
    for split in [key for key, value in looks[-1].items() if isinstance(value, dict)]:
        for task in looks[-1][split]:
            line = [(row["step"], row[split][task]) for row in looks]
            chart.line(line, task, dashed=split != "validation")
    return chart


def loss(rows):
    """The loss over the steps, each point the mean of a stretch of them."""
    stretch = max(1, len(rows) // LOSS_POINTS)
    groups = [rows[start : start + stretch] for start in range(0, len(rows), stretch)]
    line = [(group[-1]["step"], sum(it["loss"] for it in group) / len(group)) for group in groups]
    top = sorted(value for _, value in line)[int(len(line) * 0.98)]
    hours = rows[-1]["seconds"] / 3600
    chart = Chart(
        f"Loss over the answers' tokens ({hours:.1f} h of training)",
        "training step",
        "nats a token",
        (0, rows[-1]["step"]),
        (0, top),
    )
    chart.line(line, "loss")
    return chart


if __name__ == "__main__":
    main()
