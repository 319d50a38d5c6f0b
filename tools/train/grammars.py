"""Writes the grammars of the JSON answers from the data's own vocabulary: `python grammars.py`."""

import argparse
import json
from pathlib import Path

import package
from factory.readings import ACTIONS, METRICS, SEVERITIES


def literal(text):
    return json.dumps(text, ensure_ascii=False)


def strings(values):
    """One of these, each as a JSON string."""
    return " | ".join(literal(literal(value)) for value in values)


def triage():
    """The action follows from the category, so the grammar ties them together."""
    rules = [
        'root ::= "{\\"severity\\":" severity ",\\"category\\":" what ",\\"needs_human\\":" '
        '("true" | "false") "}"',
        f"severity ::= {strings(SEVERITIES)}",
        f"what ::= {' | '.join(ACTIONS)}",
    ]
    for category, actions in ACTIONS.items():
        begin = literal(f'{literal(category)},"action":')
        rules.append(f"{category} ::= {begin} ({strings(sorted(set(actions)))})")
    return "\n".join(rules) + "\n"


def extract():
    units = sorted({unit.name for metric in METRICS for unit in metric.units if unit.name})
    rules = [
        'root ::= "{\\"asset\\":" asset ",\\"metric\\":" metric ",\\"value\\":" value ",\\"unit\\":" unit "}"',
        'asset ::= "null" | "\\"" [A-Z]{2,6} "-" [0-9]{2} "\\""',
        f'metric ::= "null" | {strings(metric.key for metric in METRICS)}',
        'value ::= "null" | "-"? [0-9]{1,6} ("." [0-9]{1,3})?',
        f'unit ::= "null" | {strings(units)}',
    ]
    return "\n".join(rules) + "\n"


def write(folder):
    """Both grammars, into the package's folder."""
    target = folder / "grammars"
    target.mkdir(parents=True, exist_ok=True)
    (target / "triage.gbnf").write_text(triage())
    (target / "extract.gbnf").write_text(extract())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=package.FOLDER)
    write(parser.parse_args().folder)
