"""Fits the weights of `[estimate]` in `package.toml`: `python estimate.py MODEL.gguf`.

What is measured of a text is described in `src/router/estimate.rs`; a test there holds the two
together by `tests/golden/estimate.jsonl`, which this writes (`--golden`).

Complexity is fitted on what the model gets wrong of the split `calibration`, and checked on the
split `test`: a logistic regression whose constant is that of the average request, so that one half
means the usual odds. Some measures may only make a request harder (ONLY_HARDER). Tokens are fitted to what the runtime's own tokenizer makes of the prompts.
Both figures are printed, with those of guessing the mean. Needs nothing but Python and the program
`answer` (see `asking.py`).
"""

import argparse
import json
import math
from pathlib import Path

import asking
import factory
import measures
import package

FEATURES = ("constant", "length", "words", "numbers", "units", "questions", "lines",
            "other_letters", "capitals", "marks", "word_length", "schema_keys")
COUNTS = ("letter", "digit", "word", "mark", "other_byte")
QUESTION_MARKS = "?\uff1f\u061f\u037e\u00bf"
GOLDEN = Path(__file__).resolve().parents[2] / "tests/golden/estimate.jsonl"
# Characters of a word from which longer ones say no more.
LONG_WORD = 12.0
# What may only make a request harder, whatever the examples say: they hardly have any of it, and a
# straight line through them would call a text in another script trivial.
ONLY_HARDER = ("length", "words", "questions", "lines", "other_letters", "capitals", "marks",
               "schema_keys")
# Of each task and split.
COUNT = 400
# Standard deviations are one after scaling; this much is believed of no weight before it is seen.
PENALTY = 2.0
STEPS = 30
# Complexity from which the reference rules escalate.
THRESHOLD = 0.72


# ---- measuring


def look(text):
    """One walk through a text."""
    seen = dict.fromkeys(("chars", "letters", "capitals", "others", "other_bytes", "digits",
                          "numbers", "units", "words", "marks", "questions", "breaks"), 0)
    at = "gap"
    for c in text:
        seen["chars"] += 1
        if not c.isascii():
            seen["others"] += 1
            seen["other_bytes"] += len(c.encode())
        at = _step(seen, c, at)
    return seen


def _step(seen, c, at):
    if c in "0123456789":
        seen["digits"] += 1
        if at in ("gap", "behind"):
            seen["numbers"] += 1
            seen["words"] += 1
            return "number"
        return at
    if c.isalpha():
        seen["letters"] += c.isascii()
        seen["capitals"] += c.isupper()
        seen["words"] += at in ("gap", "behind")
        seen["units"] += at in ("number", "behind")
        return "word"
    if c.isspace():
        seen["breaks"] += c == "\n"
        return "behind" if at == "number" else "gap"
    seen["marks"] += c.isascii()
    seen["questions"] += c in QUESTION_MARKS
    if c in "%°" and at in ("number", "behind"):
        seen["units"] += 1
        return "gap"
    return "number" if c in ".," and at == "number" else "gap"


def features(text, schema=None):
    """What complexity is told from, in the order of FEATURES."""
    seen = look(text)

    def of(part, whole):
        return part / max(whole, 1)

    many = math.log1p
    return [
        1.0,
        many(seen["chars"]),
        many(seen["words"]),
        many(seen["numbers"]),
        many(seen["units"]),
        float(min(seen["questions"], 3)),
        many(seen["breaks"]),
        of(seen["others"], seen["chars"]),
        of(seen["capitals"], seen["chars"]),
        of(seen["marks"], seen["chars"]),
        min(of(seen["chars"], seen["words"] + 1), LONG_WORD),
        many(keys(schema)) if schema else 0.0,
    ]


def counts(text):
    """What tokens are told from, in the order of COUNTS."""
    seen = look(text)
    return [float(seen[key]) for key in ("letters", "digits", "words", "marks", "other_bytes")]


def keys(schema):
    """Keys of a JSON text, all levels together: colons outside of strings."""
    found, inside, escaped = 0, False, False
    for c in schema:
        if escaped:
            escaped = False
        elif c == "\\":
            escaped = True
        elif c == '"':
            inside = not inside
        elif c == ":" and not inside:
            found += 1
    return found


# ---- fitting


def solve(matrix, right):
    """The solution of a small system of linear equations, by elimination with pivots."""
    rows = [[*row, value] for row, value in zip(matrix, right)]
    size = len(rows)
    for column in range(size):
        pivot = max(range(column, size), key=lambda row: abs(rows[row][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for row in range(size):
            if row != column and rows[row][column]:
                factor = rows[row][column] / rows[column][column]
                rows[row] = [a - factor * b for a, b in zip(rows[row], rows[column])]
    return [rows[row][size] / rows[row][row] for row in range(size)]


def least_squares(samples, values, penalty=1e-6):
    """Weights that make of each sample about its value."""
    size = len(samples[0])
    matrix = [[penalty * (a == b) for b in range(size)] for a in range(size)]
    right = [0.0] * size
    for sample, value in zip(samples, values):
        for a in range(size):
            right[a] += sample[a] * value
            for b in range(size):
                matrix[a][b] += sample[a] * sample[b]
    return solve(matrix, right)


def logistic(samples, wrong, penalty=PENALTY):
    """Weights of a logistic regression, by Newton's method; those of the scaled samples are kept
    small. The first sample column is the constant and free."""
    size = len(samples[0])
    means = [sum(column) / len(samples) for column in zip(*samples)]
    spreads = [math.sqrt(sum((value - mean) ** 2 for value in column) / len(samples)) or 1.0
               for column, mean in zip(zip(*samples), means)]
    means[0], spreads[0] = 0.0, 1.0
    scaled = [[(value - mean) / spread for value, mean, spread in zip(sample, means, spreads)]
              for sample in samples]
    weights = [0.0] * size
    for _ in range(STEPS):
        slope = [-penalty * weight * (index > 0) for index, weight in enumerate(weights)]
        bend = [[(penalty * (a > 0) + 1e-9) * (a == b) for b in range(size)] for a in range(size)]
        for sample, is_wrong in zip(scaled, wrong):
            chance = share(dot(weights, sample))
            for a in range(size):
                slope[a] += (is_wrong - chance) * sample[a]
                for b in range(size):
                    bend[a][b] += chance * (1 - chance) * sample[a] * sample[b]
        step = solve(bend, slope)
        weights = [weight + change for weight, change in zip(weights, step)]
        if max(map(abs, step)) < 1e-9:
            break
    unscaled = [weight / spread for weight, spread in zip(weights, spreads)]
    unscaled[0] -= sum(weight * mean for weight, mean in zip(unscaled[1:], means[1:]))
    return unscaled


def harder(samples, wrong):
    """The same, without the measures that would make a request easier and may not."""
    bound = {FEATURES.index(name) for name in ONLY_HARDER}
    left_out = set()
    while True:
        kept = [[0.0 if index in left_out else value for index, value in enumerate(sample)]
                for sample in samples]
        weights = logistic(kept, wrong)
        wrong_way = {index for index in bound - left_out if weights[index] < 0}
        if not wrong_way:
            return [0.0 if index in left_out else weight for index, weight in enumerate(weights)]
        left_out.add(min(wrong_way, key=lambda index: weights[index]))


def dot(weights, sample):
    return sum(weight * value for weight, value in zip(weights, sample))


def share(odds):
    return 1 / (1 + math.exp(-max(min(odds, 700.0), -700.0)))


# ---- the data


def asked(model, tasks, split, count):
    """(task, text, wrong) of so many examples for each task of the package."""
    chosen = {}
    for index in range(count * 4):
        for kind in factory.TASKS:
            example = factory.example(split, index, kind)
            task = tasks.of(example)
            if tasks.declares(task) and len(chosen.setdefault(task["name"], [])) < count:
                chosen[task["name"]].append((task, example))
        if all(len(chosen.get(name, ())) == count for name in tasks.by_name):
            break
    pairs = [pair for name in tasks.by_name for pair in chosen.get(name, ())]
    requests = [asking.request(task, example.input) for task, example in pairs]
    answers = asking.ask(model, requests)
    return [(task["name"], example.input, not package.same(task, answer["text"], example.output))
            for (task, example), answer in zip(pairs, answers)]


def complexity(fit, check, names):
    """Weights, what each task adds, and the figures on examples that were not fitted on."""
    def sample(name, text):
        return features(text) + [float(name == other) for other in names]

    samples = [sample(name, text) for name, text, _ in fit]
    weights = harder(samples, [wrong for _, _, wrong in fit])
    # Seen from the average request: its odds become one half.
    base = sum(wrong for _, _, wrong in fit) / len(fit)
    weights[0] -= math.log(base / (1 - base))
    found = [share(dot(weights, sample(name, text))) for name, text, _ in check]
    wrong = [is_wrong for _, _, is_wrong in check]
    above = [is_wrong for value, is_wrong in zip(found, wrong) if value > THRESHOLD]
    below = [is_wrong for value, is_wrong in zip(found, wrong) if value <= THRESHOLD]
    size = len(FEATURES)
    figures = {
        "items": len(check),
        "wrong": measures.share(wrong),
        "auroc": measures.auroc(found, wrong),
        "above": len(above) / len(check),
        "wrong_above": measures.share(above),
        "wrong_below": measures.share(below),
        "by task": {name: measures.auroc(*zip(*[(value, bad) for value, (own, _, bad)
                                                in zip(found, check) if own == name]))
                    for name in names},
    }
    return weights[:size], dict(zip(names, weights[size:])), figures


def frames(model, tasks):
    """Tokens around an input of each task: those of its prompt with one letter in it, less one."""
    requests = [asking.request(task, "x") for task in tasks.by_name.values()]
    return {name: len(ids(line)) - 1
            for name, line in zip(tasks.by_name, asking.tokens(model, requests))}


def ids(line):
    return line["whole"] if "whole" in line else line["ids"]


def token_weights(model, tasks, fit, check, around):
    """Weights for tokens, and how far they are off on other texts."""
    def sizes(items):
        requests = [asking.request(tasks.by_name[name], text) for name, text, _ in items]
        return [len(ids(line)) - around[name]
                for (name, _, _), line in zip(items, asking.tokens(model, requests))]

    weights = least_squares([counts(text) for _, text, _ in fit], sizes(fit))
    real = sizes(check)
    guessed = [math.ceil(max(dot(weights, counts(text)), 1.0)) for _, text, _ in check]
    errors = sorted(abs(guess - size) for guess, size in zip(guessed, real))
    under = [size - guess for guess, size in zip(guessed, real)]
    mean = sum(real) / len(real)
    return weights, {
        "items": len(real),
        "tokens": mean,
        "mean error": sum(errors) / len(errors),
        "p95 error": errors[int(len(errors) * 0.95)],
        "most missed": max(under),
        "mean error of the mean": sum(abs(size - mean) for size in real) / len(real),
    }


# ---- what comes out


def golden(examples):
    """Texts of all sorts with what is measured of them."""
    texts = [(text, None) for _, text, _ in examples[:: max(1, len(examples) // 40)]]
    texts += [
        ("", None),
        ("CNC-07: spindle 9.8 mm/s, 45 °C und 3,5% — läuft heiß?\nSTOP", None),
        ("机床7号主轴振动9.8毫米每秒，为什么？", None),
        ("¿Qué pasa? Температура 80°C!\r\n\tx1y2 1.2.3 a..b 4 %", None),
        ("a", '{"type":"object","properties":{"a:":{"type":"string"}}}'),
    ]
    return "".join(json.dumps({"text": text, "schema": schema, "features": features(text, schema),
                               "counts": counts(text)}, ensure_ascii=False) + "\n"
                   for text, schema in texts)


def told(weights, token_weights_, tasks, around, by_task):
    """The section as it stands in `package.toml`."""
    def pairs(names, values):
        shown = (f"{name} = {round(value, 4) + 0.0}" for name, value in zip(names, values))
        return "{ " + ", ".join(shown) + " }"

    lines = ["[estimate]", f"complexity = {pairs(FEATURES, weights)}",
             f"tokens = {pairs(COUNTS, token_weights_)}"]
    for name in tasks.by_name:
        lines += ["", "[[estimate.task]]", f'name = "{name}"',
                  f"complexity = {round(by_task[name], 4) + 0.0}", f"frame_tokens = {around[name]}"]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--count", type=int, default=COUNT, help="examples of each task and split")
    parser.add_argument("--golden", action="store_true", help="write the samples for the test, too")
    options = parser.parse_args()
    tasks = package.Tasks(package.declaration())
    fit = asked(options.model, tasks, "calibration", options.count)
    check = asked(options.model, tasks, "test", options.count)
    weights, by_task, about_complexity = complexity(fit, check, list(tasks.by_name))
    around = frames(options.model, tasks)
    tokens, about_tokens = token_weights(options.model, tasks, fit, check, around)
    print(told(weights, tokens, tasks, around, by_task))
    print()
    for name, figures in (("complexity", about_complexity), ("tokens", about_tokens)):
        print(f"# {name}: {json.dumps(figures)}")
    if options.golden:
        GOLDEN.write_text(golden(fit))


if __name__ == "__main__":
    main()
