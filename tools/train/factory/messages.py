"""The parts that messages are made of: machines, readings, symptoms, decoration."""

from dataclasses import dataclass

from .marks import marked
from .noise import nonword
from .readings import ASSETS, METRICS
from .symptoms import ANYTHING, FILLERS, GRAVE, MILD, SYMPTOMS

JOINTS = {"en": [", ", ", ", "; ", " and ", " / ", " - ", " also "],
          "de": [", ", ", ", "; ", " und ", " / ", " - ", " außerdem "]}


@dataclass(frozen=True)
class Reading:
    """One measured value as printed."""

    metric: object
    unit: object
    number: str
    text: str
    level: int


@dataclass(frozen=True)
class Symptom:
    """Something said of a machine, and how bad that is."""

    category: str
    text: str
    level: int


def asset(r, language):
    """A machine: its number in the plant's form, and as people write it."""
    prefix = r.choice(sorted(ASSETS))
    number = r.randint(1, 9) if r.random() < 0.25 else r.randint(1, 99)
    canon = f"{prefix}-{number:02d}"
    spoken = r.choice(ASSETS[prefix][language])
    form = r.choices(
        [canon, f"{prefix} {number:02d}", f"{prefix}{number:02d}", canon.lower(), f"{spoken} {canon}", f"{prefix}-{number}",
         f"{prefix} {number}", f"{prefix.lower()}{number}"],
        [6, 2, 1, 2, 2, 1, 1, 1],
    )[0]
    return canon, form


def reading(r, metric, level, language, name=None):
    """A reading at the level; what counts is the value as it is printed."""
    unit = metric.units[0] if len(metric.units) == 1 or r.random() < 0.72 else metric.units[1]
    low, high = metric.span(level)
    value = r.uniform(low, high)
    if r.random() < 0.25:  # as many near the limit as a line sees in a bad week
        edge = low if metric.rising or level == 0 else high
        value = edge + r.uniform(-0.06, 0.06) * (metric.high - metric.low)
        value = min(max(value, metric.low), metric.high)
    number = f"{value * unit.factor + unit.offset:.{unit.decimals}f}"
    shown = number.replace(".", ",") if r.random() < (0.5 if language == "de" else 0.05) else number
    spelling = r.choice(unit.spellings)
    name = name or r.choice(metric.names[language])
    link = r.choice(["", "", "at ", "= ", "reads ", "is ", ": "] if language == "en" else ["", "", "bei ", "= ", "liegt bei ", "ist ", ": "])
    text = f"{name} {link}{shown}{spelling}".replace(" : ", ": ")
    printed = (float(number) - unit.offset) / unit.factor
    return Reading(metric, unit, number, text, metric.level(printed))


def trend(r, metric, level, language):
    """Words on where a value is going: (text, whether that makes a warning critical)."""
    calm = {"en": ["", "", "", " stable", " steady", " since 2 h"], "de": ["", "", "", " stabil", " konstant", " seit 2 h"]}
    if level == 0 or r.random() > 0.2:
        return r.choice(calm[language]), False
    fast = {
        ("en", True): [" rising fast", " climbing quickly", " going up fast"],
        ("en", False): [" falling fast", " dropping quickly", " going down fast"],
        ("de", True): [" steigt schnell", " rasch steigend"],
        ("de", False): [" fällt schnell", " rasch fallend"],
    }
    slow = {
        ("en", True): [" rising", " rising slowly"], ("en", False): [" falling", " falling slowly"],
        ("de", True): [" steigend", " steigt langsam"], ("de", False): [" fallend", " fällt langsam"],
    }
    quick = r.random() < 0.6
    return r.choice((fast if quick else slow)[language, metric.rising]), quick


def verdict(r, metric, language):
    """A reading in words alone: (text, level)."""
    words = {
        "en": [["ok", "normal", "fine", "nominal", "in range"],
               ["over warning limit", "in the yellow"] if metric.rising else ["under warning limit", "in the yellow"],
               ["over alarm limit", "far too high", "in the red"] if metric.rising else ["under alarm limit", "far too low", "in the red"]],
        "de": [["ok", "normal", "in Ordnung", "i.O.", "im Bereich"],
               ["über Warngrenze", "im gelben Bereich"] if metric.rising else ["unter Warngrenze", "im gelben Bereich"],
               ["über Alarmgrenze", "viel zu hoch", "im roten Bereich"] if metric.rising else ["unter Alarmgrenze", "viel zu niedrig", "im roten Bereich"]],
    }
    level = r.choice([0, 1, 2])
    return f"{r.choice(metric.names[language])} {r.choice(words[language][level])}", level


def well(r, metric, language):
    """A reading that is as it should be, in figures or in words."""
    if r.random() < 0.5:
        for _ in range(8):
            found = reading(r, metric, 0, language)
            if found.level == 0:
                return marked(found.text, metric.category, 0)
    name = r.choice(metric.names[language])
    word = r.choice(['ok', 'normal', 'fine', 'nominal'] if language == 'en' else ['ok', 'normal', 'in Ordnung', 'i.O.'])
    return marked(f"{name} {word}", metric.category, 0)


def limit(r, metric, language):
    """The metric's alarm limit, as a message may name it."""
    figure = f"{metric.critical:.{metric.units[0].decimals}f}"
    return r.choice([f" (limit {figure})", f" (max {figure})" if metric.rising else f" (min {figure})"] if language == "en"
                    else [f" (Grenze {figure})", f" (max {figure})" if metric.rising else f" (min {figure})"])


def half(words, part):
    """The held-out wordings of one part: no wording stands in both."""
    return words[1::2] if part == "phrasings-validation" else words[0::2]


def symptom(r, category, language, held=None):
    """What someone noticed; with `held`, the part of the wordings kept from training."""
    words = SYMPTOMS[category][language]
    said, sayings = words["said"], words["sayings"]
    if held:
        said, sayings = half(words["held_said"], held), half(words["held_sayings"], held)
    kind = r.random()
    if kind < 0.25:
        text = r.choice(sayings)
        return Symptom(category, text.lstrip("!"), 2 if text.startswith("!") else 1)
    part = r.choice(["", "", "the "] if language == "en" else [""]) + r.choice(words["parts"])
    filler = r.choice(FILLERS[language]) if r.random() < 0.15 else ""
    if kind < 0.42 and not held:
        # Known parts in strange company: the part tells the category, whatever is said of it.
        babble = " ".join(nonword(r) for _ in range(r.randint(1, 3)))
        text = babble if r.random() < 0.2 else r.choice(ANYTHING[language])
        return Symptom(category, f"{part} {text}{filler}", 2 if category == "safety" else 1)
    text = r.choice(said)
    return Symptom(category, f"{part} {text.lstrip('!')}{filler}", 2 if text.startswith("!") else 1)


def weigh(r, found, language):
    """The symptom with a word on its weight: milder or graver, and the level that follows."""
    kind = r.choices(["", "mild", "grave"], [6, 2, 3])[0]
    if kind == "mild" and found.level == 1:
        return Symptom(found.category, found.text + r.choice(MILD[language]), 1)
    if kind == "grave":
        return Symptom(found.category, found.text + r.choice(GRAVE[language]), 2)
    return found


def other_metric(r, categories):
    """A metric of none of these categories."""
    return r.choice([m for m in METRICS if m.category not in categories])


def headed(r, name, body, language):
    """The body with what people put around it: time, shift, a caller, the machine's name."""
    marks = {
        "en": ["ALARM ", "alert: ", "operator note: ", f"shift {r.randint(1, 3)}: ", "maint: ", "line stop? "],
        "de": ["ALARM ", "Meldung: ", "Bediener: ", f"Schicht {r.randint(1, 3)}: ", "Instandh.: ", "Linie steht? "],
    }
    kind = r.random()
    head = ""
    if kind < 0.15:
        head = f"{r.randint(0, 23):02d}:{r.randint(0, 59):02d} "
    elif kind < 0.35:
        head = r.choice(marks[language])
    elif kind < 0.40:
        head = f"{r.randint(1, 31):02d}.{r.randint(1, 12):02d}. {r.randint(0, 23):02d}:{r.randint(0, 59):02d} {r.choice('abfghkmst')}{r.choice('aekmsw')} // "
    if not name:
        return head + body
    place = r.random()
    if place < 0.8:
        return f"{head}{name}{r.choice([' ', ' ', ': ', ' - '])}{body}"
    return f"{head}{body}{' on ' if language == 'en' else ' an '}{name}"
