"""How messages look when people type them with gloves on: typos, shouting, no umlauts; and words
that nobody knows."""

from .marks import bare

_PLAIN = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ß": "ss", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue"})
_NEIGHBOURS = {
    "a": "sq", "e": "wr", "i": "uo", "o": "ip", "u": "yi", "t": "rz", "n": "bm", "s": "ad", "r": "et",
    "l": "k", "d": "sf", "c": "xv", "m": "n", "p": "o", "g": "fh", "h": "gj", "b": "vn", "f": "dg", "k": "jl",
}


def nonword(r):
    """A word that could be one, and is none."""
    return "".join(r.choice("bdfgklmnprstvwz") + r.choice("aeiou") for _ in range(r.randint(1, 3))) + r.choice("nstr")


def _slip(r, word):
    """One typing error inside a word: a letter lost, doubled, swapped or hit beside."""
    at = r.randint(1, len(word) - 2)
    kind = r.randint(0, 3)
    if kind == 0:
        return word[:at] + word[at + 1:]
    if kind == 1:
        return word[:at] + word[at] + word[at:]
    if kind == 2:
        return word[:at] + word[at + 1] + word[at] + word[at + 2:]
    return word[:at] + r.choice(_NEIGHBOURS.get(word[at].lower(), word[at])) + word[at + 1:]


def typo(r, text):
    """At most two typing errors, in long words only: numbers and units stay as they are."""
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if len(bare(word)) > 3 and bare(word).isalpha()]
    for i in r.sample(long, min(len(long), r.randint(1, 2))):
        word = bare(words[i])
        words[i] = _slip(r, word) + words[i][len(word):]
    return " ".join(words)


def roughen(r, text, language, tails=True):
    """The text as it arrives: perhaps with typos, shouted, in small letters, with a plea."""
    if language == "de" and r.random() < 0.35:
        text = text.translate(_PLAIN)
    if r.random() < 0.22:
        text = typo(r, text)
    case = r.random()
    if case < 0.08:
        text = text.upper()
    elif case < 0.30:
        text = text.lower()
    if tails and r.random() < 0.2:
        pleas = {"en": [".", "!", "!!", " please check", " pls advise", " - thx", "?"],
                 "de": [".", "!", "!!", " bitte prüfen", " bitte kommen", " - danke", "?"]}
        text = text.rstrip(".") + r.choice(pleas[language])
    return text
