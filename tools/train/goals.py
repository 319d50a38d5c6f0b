"""What the bundled model was built to reach, beside what the smallest file of it does reach."""

import math

WHOLE = "F16"  # what a quantized file is held against


def rows(models):
    """One row for each goal: what, bar, figure, examples, whether it is met."""
    return [_row(*goal) for goal in _goals(models[0], _whole(models))]


def _goals(model, whole):
    """(what, bar, figure, examples, how both are written); the figure None if it isn't known."""
    test, phrasings = model["accuracy"]["test"], model["accuracy"]["phrasings"]
    fields = test["fields"].get("triage", {})
    triage = answers(test, "triage")
    for field, bar in (("severity", 0.95), ("category", 0.97)):
        yield f"triage: {field} (test)", bar, fields.get(field), triage[1], _percent
    yield "triage: whole answer (test)", 0.92, *triage, _percent
    category = phrasings["fields"].get("triage", {}).get("category")
    yield "triage: category (phrasings)", 0.85, category, answers(phrasings, "triage")[1], _percent
    for task, bar in (("extract", 0.95), ("classify", 0.95), ("summary", 0.80)):
        yield f"{task}: whole answer (test)", bar, *answers(test, task), _percent
    yield "valid JSON under the grammar (test)", 1.0, *_valid(model), _percent
    outside = model["outside"]
    yield "strangers noticed (outside)", 0.90, outside["noticed"], outside["items"], _percent
    confidence = model["confidence"]["test and outside"].get("triage", {})
    auroc = confidence.get("product", {}).get("auroc")
    yield "triage: AUROC (test and outside)", 0.90, auroc, confidence.get("items", 0), _number
    behind = whole and test["all"]["right"] - whole["accuracy"]["test"]["all"]["right"]
    yield f"against {WHOLE}, points (test)", -0.01, behind, test["all"]["items"], _points
    decode = model["speed"]["decode_tokens_per_second"]["median"]
    yield "tokens a second, decoding", 2000, decode, None, _count
    # What must not be more than the bar is written as what is left of it.
    yield "parameters", -8_000_000, -model["parameters"], None, _count
    yield "bytes", -8_000_000, -model["bytes"], None, _count


def _row(what, bar, figure, examples, written):
    met = "unknown" if figure is None else ("met" if figure >= bar else "**missed**")
    reached = "–" if figure is None else written(figure)
    most = "at most " if bar < 0 and written is _count else ""
    return [what, most + written(bar), reached, f"{examples:,}" if examples else "", met]


def _whole(models):
    return next((model for model in models if model["quantization"] == WHOLE), None)


def answers(figures, task):
    """The share right and the items of a task; `classify` is all choices together."""
    chosen = [it for name, it in figures["task"].items() if name.split("-")[0] == task]
    items = sum(it["items"] for it in chosen)
    return sum(it["items"] * it["right"] for it in chosen) / items if items else None, items


def _valid(model):
    found = [model["validity"][task]["constrained"] for task in ("triage", "extract")]
    items = sum(it["items"] for it in found)
    return math.fsum(it["items"] * it["right"] for it in found) / items, items


def _percent(value):
    return f"{value * 100:.1f} %"


def _number(value):
    return f"{value:.3f}"


def _points(value):
    return f"{value * 100:+.1f}"


def _count(value):
    return f"{abs(value):,.0f}"
