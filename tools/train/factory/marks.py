"""Invisible marks behind each finding of a message, until the noise is on it.

A mark says which category and level the words before it amount to. The example carries the marks
beside its text; training tells the model in the middle of its layers what it should have noticed
by there. No message that anybody sees contains one.
"""

from .readings import ACTIONS

_CATEGORIES = list(ACTIONS)
_FIRST = 0xE000  # private use
_LAST = _FIRST + 3 * len(_CATEGORIES)


def marked(text, category, level):
    """The text with the mark of what it amounts to."""
    return f"{text}{chr(_FIRST + 3 * _CATEGORIES.index(category) + level)}"


def _is_mark(char):
    return _FIRST <= ord(char) < _LAST


def bare(text):
    """The text without its marks."""
    return "".join(char for char in text if not _is_mark(char))


def split(text):
    """The bare text, and its findings: [end in the text, index of the category, level]."""
    kept, findings = [], []
    for char in text:
        if _is_mark(char):
            findings.append([len(kept), *divmod(ord(char) - _FIRST, 3)])
        else:
            kept.append(char)
    return "".join(kept), findings
