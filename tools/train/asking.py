"""Runs the Rust program `answer` and turns its lines into objects.

Everything that is measured about a GGUF comes through here. `exam` goes through the appliance's
own engine, as a device's request does; `ask` decodes plainly, token by token, and is what the
engine and the training code are held against. Build the program once with

    cargo build --release --example answer

or name another build of it in ANSWER.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


class AnswerFailed(Exception):
    """The program ended with an error, or refused a request."""


def program():
    """Where the program is."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    path = Path(os.environ.get("ANSWER", target / "release" / "examples" / "answer"))
    if not path.exists():
        sys.exit(f"{path} is missing; build it with: cargo build --release --example answer")
    return path


def request(task, text, identity=""):
    """What a task of the package asks about a text."""
    asked = {
        "id": identity,
        "system": task["system"],
        "input": text,
        "max_tokens": task["max_tokens"],
    }
    return asked | {key: task[key] for key in ("grammar", "choices") if key in task}


def exam(model, requests, sequences=1):
    """The answers of the appliance's engine, in the order of the requests.

    With one sequence the same requests have the same answers each time; with more they are computed
    together, as under load, which tips some answers where the model wavers.
    """
    return _answers(["exam", model, "--sequences", sequences], requests)


def ask(model, requests, free=False):
    """Plain answers to the requests, in their order; `free` lets each answer be any text."""
    return _answers(["ask", model] + (["--grammar", "none"] if free else []), requests)


def _answers(arguments, requests):
    answers = _lines(arguments, requests)
    for asked, answer in zip(requests, answers, strict=True):
        if "error" in answer:
            raise AnswerFailed(f"{asked['input']!r}: {answer['error']}")
    return answers


def tokens(model, requests):
    """For each request the ids of its prompt, tokenized in parts and as a whole."""
    return _lines(["tokens", model], requests)


def fits(model, tasks, texts):
    """For each text whether the constraint of its task allows it as an answer."""
    requests = [request(task, text) for task, text in zip(tasks, texts, strict=True)]
    return [line["fits"] for line in _lines(["fits", model], requests)]


def speed(model, threads=1):
    """Tokens a second, prefill and decode."""
    return _lines(["speed", model, "--threads", str(threads)], [])[0]


def quantize(source, target, quantization):
    """Writes a quantized copy of a model."""
    _lines(["quantize", source, target, quantization], [])


def _lines(arguments, requests):
    text = "".join(json.dumps(asked, ensure_ascii=False) + "\n" for asked in requests)
    command = [str(program()), *map(str, arguments)]
    done = subprocess.run(command, input=text.encode(), stdout=subprocess.PIPE)
    if done.returncode != 0:
        raise AnswerFailed(f"{' '.join(command)} ended with {done.returncode}")
    return [json.loads(line) for line in done.stdout.decode().splitlines()]
