"""Prints examples, one JSON object a line: `python -m factory SPLIT COUNT [--task T] [--start N]`."""

import argparse
import json

from . import SPLITS, TASKS, example


def main():
    parser = argparse.ArgumentParser(prog="python -m factory", description="Prints examples as JSON lines.")
    parser.add_argument("split", choices=SPLITS)
    parser.add_argument("count", type=int)
    parser.add_argument("--task", choices=TASKS)
    parser.add_argument("--start", type=int, default=0)
    chosen = parser.parse_args()
    for index in range(chosen.start, chosen.start + chosen.count):
        print(json.dumps(example(chosen.split, index, chosen.task).record(), ensure_ascii=False))


main()
