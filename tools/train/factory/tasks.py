"""The five tasks: each builds one message and the right answer to it.

A builder returns `Draft`: the message before noise, its language, the answers with their odds,
and the key of its content. Two messages with one key differ only in machine, time and noise, so
the key decides the split.
"""

import json
from dataclasses import dataclass

from . import outside
from .guides import ASKING, GUIDES
from .marks import bare, marked
from .messages import (JOINTS, asset, half, headed, limit, other_metric, reading, symptom, trend, verdict, weigh, well)
from .noise import roughen
from .readings import ACTIONS, METRICS, SEVERITIES, SPOKEN
from .symptoms import SYMPTOMS, VAGUE

# Fixed instructions. The second wording of a task is there so that a new prompt can be rolled out.
SYSTEM = {
    "triage": ("triage",
               "Triage the message of a factory line. Answer in JSON: severity, category, action, needs_human."),
    "extract": ("extract", "Extract the first reading of the message. Answer in JSON: asset, metric, value, unit."),
    "summary": ("summary", "Summarise the alarm log in one sentence: how many, how many critical, which came first."),
    "guide": ("guide", "Name the first three steps for the fault."),
}


@dataclass(frozen=True)
class Draft:
    """A message and its answers, before noise."""

    text: str
    language: str
    odds: tuple
    kind: str
    key: str
    system: str


def _json(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _system(r, task):
    return SYSTEM[task][0] if r.random() < 0.93 else SYSTEM[task][1]


def triage_answer(level, category, human=False):
    """The answer to a triage, as compact JSON."""
    human = human or category in ("safety", "unknown") or (category == "electrical" and level == 2)
    return _json({"severity": SEVERITIES[level], "category": category,
                  "action": ACTIONS[category][1 if level == 2 else 0], "needs_human": human})


_UNKNOWN = triage_answer(0, "unknown")


def _held(part):
    """The part whose held-out wordings are to be used, if it is one."""
    return part if part.startswith("phrasings") else None


def _sure(answer):
    return ((answer, 1.0),)


# ------------------------------------------------------------------ triage


def _readings(r, language, count):
    """Readings of different categories: (texts, level and category that decide, keys)."""
    parts, keys, level, category = [], [], 0, "normal"
    seen = set()
    for _ in range(count):
        metric = other_metric(r, seen)
        seen.add(metric.category)
        if r.random() < 0.12:
            text, own = verdict(r, metric, language)
            keys.append(text)
            text = marked(text, metric.category, own)
        else:
            found = reading(r, metric, r.choice([0, 1, 1, 2, 2]), language)
            going, fast = trend(r, metric, found.level, language)
            named = limit(r, metric, language) if found.unit is metric.units[0] and r.random() < 0.1 else ""
            own = 2 if found.level and fast else found.level
            text = marked(found.text + going + named, metric.category, own)
            keys.append(f"{metric.key} {found.number}{found.unit.name}{going}")
        parts.append(text)
        if own > level:  # of equals the first one counts
            level, category = own, metric.category
    return parts, level, category, keys, seen


def triage(r, language, part):
    """What is it, how bad, what to do, does a person have to come."""
    held = _held(part)
    kinds = ["reading", "several", "symptom", "both", "vague", "normal", "outside", "safety"]
    kind = r.choices(kinds, [18, 24, 25, 9, 5, 6, 9, 4])[0] if not held else r.choices(["symptom", "both", "safety"], [7, 2, 1])[0]
    name = asset(r, language)[1] if r.random() > 0.08 else ""
    odds = None
    if kind == "outside":
        return stranger(r, language, outside.trained)
    if kind in ("reading", "several"):
        parts, level, category, keys, seen = _readings(r, language, 1 if kind == "reading" else r.choice([2, 2, 3]))
        if r.random() < 0.25:
            parts.append(well(r, other_metric(r, seen), language))
        odds = _sure(triage_answer(level, category))
    elif kind in ("symptom", "both", "safety"):
        category = "safety" if kind == "safety" else r.choice([c for c in sorted(SYMPTOMS) if c != "safety"])
        found = weigh(r, symptom(r, category, language, held), language)
        parts, keys, level = [marked(found.text, category, found.level)], [found.text], found.level
        if kind == "both":
            metric = r.choice([m for m in METRICS if m.category == category] or METRICS)
            value = reading(r, metric, r.choice([1, 2]), language)
            if metric.category == category:
                level = max(level, value.level)
                parts.append(marked(value.text, category, value.level))
                keys.append(f"{metric.key} {value.number}{value.unit.name}")
        elif r.random() < 0.25:
            parts.append(well(r, other_metric(r, {category}), language))
        if r.random() < 0.4:
            parts.reverse()
        odds = _sure(triage_answer(level, category))
    elif kind == "normal":
        parts = _all_well(r, language)
        keys, odds = [bare(part) for part in parts], _sure(triage_answer(0, "normal"))
    else:
        sayings, shares = r.choice(VAGUE)
        parts = [r.choice(sayings[language])]
        if r.random() < 0.3:
            parts.append(well(r, other_metric(r, {c for c, _ in shares}), language))
        # A vague saying has no content but itself; the machine makes the message.
        keys = [parts[0], name]
        odds = tuple((triage_answer(1, category, True), share) for category, share in shares)
    body = r.choice(JOINTS[language]).join(parts)
    key = "triage|" + "|".join(sorted(keys)).lower()
    return Draft(headed(r, name, body, language), language, odds, kind, key, _system(r, "triage"))


def _all_well(r, language):
    """A message with nothing wrong in it."""
    if r.random() < 0.45:
        return [well(r, metric, language) for metric in r.sample(METRICS, r.randint(1, 3))]
    category = r.choice([c for c in sorted(SYMPTOMS) if c != "safety"])
    part = r.choice(SYMPTOMS[category][language]["parts"])
    words = {
        "en": ["{} replaced, running fine again", "{} checked, all ok", "no problem with the {}", "{} runs fine",
               "{} ok after maintenance", "{} repaired, test run good", "all good, {} quiet", "nothing to report, {} fine",
               "{} cleaned, back in production"],
        "de": ["{} getauscht, läuft wieder", "{} geprüft, alles ok", "kein Problem, {} in Ordnung", "{} läuft gut",
               "{} nach Wartung ok", "{} repariert, Probelauf gut", "alles gut, {} ruhig",
               "keine Vorkommnisse, {} in Ordnung", "{} gereinigt, wieder in Produktion"],
    }
    texts = [r.choice(words[language]).format(part)]
    if r.random() < 0.3:
        texts.append(well(r, r.choice(METRICS), language))
    return texts


def stranger(r, language, source):
    """A message that is none of ours."""
    text, kind, may_follow = source(r)
    if may_follow and r.random() < 0.4:
        head = _readings(r, language, 1)[0][0] if r.random() < 0.5 else symptom(r, r.choice(sorted(SYMPTOMS)), language).text
        text = f"{head}. {text}" if r.random() < 0.7 else f"{text}. {head}"
    name = asset(r, language)[1] if r.random() < 0.12 else ""
    return Draft(headed(r, name, text, language) if name else text, language, _sure(_UNKNOWN), kind,
                 f"outside|{text.lower()}", _system(r, "triage"))


# ------------------------------------------------------------------ extract


def extract(r, language, part):
    """The first reading of a message: machine, quantity, value, unit."""
    canon, name = asset(r, language)
    metric = r.choice(METRICS)
    if r.random() < 0.12:
        canon, name = None, ""
    if r.random() < 0.05:
        text = symptom(r, r.choice(sorted(SYMPTOMS)), language, _held(part)).text
        answer = {"asset": canon, "metric": None, "value": None, "unit": None}
        return Draft(headed(r, name, text, language), language, _sure(_json(answer)), "none", f"extract|{text.lower()}",
                     _system(r, "extract"))
    found = reading(r, metric, r.choice([0, 1, 2]), language)
    unit = found.unit
    answer = {"asset": canon, "metric": metric.key, "value": json.loads(found.number), "unit": unit.name or None}
    aside = {"en": ["", "", f"batch {r.randint(100, 9999)}", f"shift {r.randint(1, 3)}", f"op {r.randint(10, 99)}",
                    f"order {r.randint(1000, 99999)}"],
             "de": ["", "", f"Charge {r.randint(100, 9999)}", f"Schicht {r.randint(1, 3)}", f"AG {r.randint(10, 99)}",
                    f"Auftrag {r.randint(1000, 99999)}"]}
    extra = r.choice(aside[language])
    body = found.text
    if r.random() < 0.1 and unit is metric.units[0]:
        body += limit(r, metric, language)
    body = marked(body, metric.category, found.level)
    if r.random() < 0.2:
        second = other_metric(r, {metric.category})
        joint, more = r.choice(JOINTS[language]), reading(r, second, r.choice([0, 1, 2]), language)
        body += joint + marked(more.text, second.category, more.level)
    order = r.randint(0, 2)
    if extra:
        body = f"{body} {extra}" if order else f"{extra} {body}"
    return Draft(headed(r, name, body, language), language, _sure(_json(answer)), "reading",
                 f"extract|{metric.key} {found.number}{unit.name} {name.lower()}", _system(r, "extract"))


# ------------------------------------------------------------------ classify

_DEPARTMENTS = ["maintenance", "quality", "logistics", "safety", "it", "production"]
_MACHINES = ["cnc", "press", "robot", "oven", "compressor", "packaging", "conveyor"]
_URGENCIES = ["now", "today", "later"]
_COMPONENTS = sorted(c for c in SYMPTOMS if c != "safety")

_DESK = {
    "logistics": {
        "en": ["pallets are missing", "forklift blocks the aisle", "material for order {} not delivered", "rack {} is full",
               "truck waits at gate {}", "no empty boxes left", "wrong raw material delivered", "container {} must be moved",
               "need {} pallets of blanks", "finished goods were not picked up"],
        "de": ["Paletten fehlen", "Stapler blockiert den Gang", "Material für Auftrag {} nicht geliefert", "Regal {} ist voll",
               "LKW wartet an Tor {}", "keine Leerbehälter mehr", "falsches Rohmaterial geliefert", "Behälter {} muss weg",
               "brauchen {} Paletten Rohlinge", "Fertigware wurde nicht abgeholt"]},
    "it": {
        "en": ["terminal {} has no network", "barcode scanner does not connect", "cannot log in to the mes", "printer {} offline",
               "screen {} stays black", "mes shows no orders", "label printer {} not found in the network", "badge reader rejects cards",
               "plc gateway {} not reachable", "password of the line pc expired"],
        "de": ["Terminal {} hat kein Netz", "Barcodescanner verbindet nicht", "Anmeldung am MES geht nicht", "Drucker {} offline",
               "Bildschirm {} bleibt schwarz", "MES zeigt keine Aufträge", "Etikettendrucker {} nicht im Netz", "Ausweisleser lehnt Karten ab",
               "SPS-Gateway {} nicht erreichbar", "Passwort vom Linien-PC abgelaufen"]},
    "production": {
        "en": ["changeover to order {} starts", "shift {} is short of two people", "target of {} parts missed", "order {} finished early",
               "setup of order {} takes longer", "need a release for order {}", "who covers shift {}", "order sequence changed to {}"],
        "de": ["Rüsten auf Auftrag {} beginnt", "Schicht {} fehlen zwei Leute", "Soll von {} Teilen verfehlt", "Auftrag {} früher fertig",
               "Rüsten von Auftrag {} dauert länger", "Freigabe für Auftrag {} nötig", "wer übernimmt Schicht {}", "Reihenfolge geändert auf {}"]},
}


def _marked_symptom(r, category, language, held):
    found = symptom(r, category, language, held)
    return marked(found.text, category, found.level)


def _department(r, language, held):
    label = r.choice(_DEPARTMENTS)
    if label in _DESK:
        return label, r.choice(_DESK[label][language]).format(r.randint(2, 99)), asset(r, language)[1] if r.random() < 0.5 else ""
    category = {"quality": "quality", "safety": "safety"}.get(label) or r.choice(
        [c for c in _COMPONENTS if c != "quality"])
    return label, _marked_symptom(r, category, language, held), asset(r, language)[1] if r.random() < 0.8 else ""


_MACHINE_OF = {"CNC": "cnc", "LATHE": "cnc", "PRESS": "press", "ROB": "robot", "OVEN": "oven", "COMP": "compressor",
               "PACK": "packaging", "PAL": "packaging", "CONV": "conveyor"}


def _machine(r, language, held):
    while True:
        canon, name = asset(r, language)
        label = _MACHINE_OF.get(canon.rsplit("-", 1)[0])
        if label:
            break
    text = _marked_symptom(r, r.choice(_COMPONENTS), language, held) if r.random() < 0.6 else well(r, r.choice(METRICS), language)
    return label, text, name


def _urgency(r, language, held):
    found = _marked_symptom(r, r.choice(sorted(SYMPTOMS)), language, held)
    words = {
        "now": {"en": ["line is down", "come at once", "production stopped", "immediately please", "we stand still"],
                "de": ["Linie steht", "sofort kommen", "Produktion steht", "bitte umgehend", "wir stehen"]},
        "today": {"en": ["before end of shift", "today please", "still this shift", "in the next hours", "this afternoon"],
                  "de": ["vor Schichtende", "heute noch bitte", "noch in dieser Schicht", "in den nächsten Stunden", "heute Nachmittag"]},
        "later": {"en": ["at the next service", "no hurry", "when you have time", "next week is fine", "at the weekend"],
                  "de": ["bei der nächsten Wartung", "keine Eile", "wenn Zeit ist", "nächste Woche reicht", "am Wochenende"]},
    }
    label = r.choice(_URGENCIES)
    parts = [found, r.choice(words[label][language])]
    if r.random() < 0.3:
        parts.reverse()
    return label, ", ".join(parts), asset(r, language)[1] if r.random() < 0.8 else ""


def _component(r, language, held):
    category = r.choice(_COMPONENTS)
    return category, _marked_symptom(r, category, language, held), asset(r, language)[1] if r.random() < 0.8 else ""


# Set of labels: what the package offers as a task of its own.
LABELS = {"department": _DEPARTMENTS, "machine": _MACHINES, "urgency": _URGENCIES}
_CLASSES = {"department": (_DEPARTMENTS, _department), "machine": (_MACHINES, _machine),
            "urgency": (_URGENCIES, _urgency), "component": (_COMPONENTS, _component)}


def classify_system(labels):
    """The instruction that gives the labels."""
    return "classify: " + ", ".join(labels)


def classify(r, language, part):
    """One label out of those that the task gives."""
    about = r.choice(sorted(_CLASSES))
    labels, builder = _CLASSES[about]
    label, text, name = builder(r, language, _held(part))
    shown = list(labels)
    if about == "component" or r.random() < 0.4:
        others = [x for x in labels if x != label]
        shown = [label, *r.sample(others, r.randint(2 if len(others) > 1 else 1, min(5, len(others))))]
        r.shuffle(shown)
    key = f"classify|{about}|{bare(text).lower()}" + (f"|{name.lower()}" if about == "machine" else "")
    return Draft(headed(r, name, text, language), language, _sure(label), about, key, classify_system(shown))


# ------------------------------------------------------------------ summary and guide


def summary(r, language, part):
    """One sentence for an alarm log: how many, how many critical, which came first."""
    canon = asset(r, language)[0]
    count = r.choice([2, 3, 3, 4, 4, 5, 6])
    hour, minute = r.randint(0, 22), r.randint(0, 30)
    lines, events = [], []
    words = {"en": ["warning", "critical"], "de": ["Warnung", "kritisch"]}[language]
    for _ in range(count):
        category, grave = r.choice(sorted(SPOKEN)), r.random() < 0.45
        minute += r.randint(1, 9)
        at = f"{hour + minute // 60:02d}:{minute % 60:02d}"
        lines.append(f"{at} {words[grave]} {SPOKEN[category][language]}")
        events.append((grave, SPOKEN[category][language], at))
    grave = sum(e[0] for e in events)
    first = next((e for e in events if e[0]), events[0])
    if language == "en":
        answer = f"{canon}: {count} alarms, {grave} critical; first {words[first[0]]} {first[1]} at {first[2]}."
    else:
        answer = f"{canon}: {count} Alarme, {grave} kritisch; zuerst {words[first[0]]} {first[1]} um {first[2]}."
    text = f"{canon} {'log' if language == 'en' else 'Protokoll'}\n" + "\n".join(lines)
    return Draft(text, language, _sure(answer), "log", "summary|" + "|".join(lines).lower(), _system(r, "summary"))


def held_guides(language):
    """Every held-out wording with its fault."""
    return [(fault, saying) for fault in sorted(GUIDES) for saying in GUIDES[fault][language][1]]


def guide(r, language, part):
    """The first steps for a known fault."""
    held = _held(part)
    if held:
        fault, saying = r.choice(half(held_guides(language), held))
    else:
        fault = r.choice(sorted(GUIDES))
        saying = r.choice(GUIDES[fault][language][0])
    steps = GUIDES[fault][language][2]
    text = r.choice(ASKING[language]).format(saying)
    name = asset(r, language)[1] if r.random() < 0.5 else ""
    answer = " ".join(f"{i}. {step}." for i, step in enumerate(steps, 1))
    return Draft(f"{name} {text}".strip(), language, _sure(answer), fault, f"guide|{text.lower()}", _system(r, "guide"))


BUILDERS = {"triage": triage, "extract": extract, "classify": classify, "summary": summary, "guide": guide}
# Shares of the tasks in a mixed stream.
MIX = {"triage": 0.56, "extract": 0.17, "classify": 0.13, "summary": 0.08, "guide": 0.06}


def finish(r, task, draft):
    """The message as it arrives, marks included. A log is printed by a machine and stays as it is."""
    return draft.text if task == "summary" else " ".join(roughen(r, draft.text, draft.language).split())
