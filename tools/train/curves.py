"""Draws the learning curves of a training log: `python curves.py LOG.jsonl FOLDER`.

The log holds one object a line: {"step", "seconds", "loss", "validation": {task: accuracy}}; the
validation may be absent. Writes `learning.svg` (accuracy) and `loss.svg` into the folder.
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
    (options.folder / "learning.svg").write_text(learning(rows).svg())
    (options.folder / "loss.svg").write_text(loss(rows).svg())


def learning(rows):
    """The accuracy of each task over the steps."""
    checked = [row for row in rows if row.get("validation")]
    chart = Chart(
        "Answers entirely right on the validation split",
        "training step",
        "right",
        (0, rows[-1]["step"]),
        (0, 1),
        percent="y",
    )
    for task in checked[-1]["validation"]:
        line = [(row["step"], row["validation"].get(task)) for row in checked]
        chart.line([(step, right) for step, right in line if right is not None], task)
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
