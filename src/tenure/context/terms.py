"""Content terms of a text: lower-case word stems without function words, with how much each one tells.

Knows no store and no model; called by `notice` and `recall`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence

_WORD = re.compile(r"[^\W_]+(?:['’.\-][^\W_]+)*", re.UNICODE)
_FUNCTION_WORDS = frozenset(
    """
    a about after all also am an and any are as at be been before being but by can could did do does
    doing done for from get got had has have he her here hers him his how i if in into is it its just
    know let like may me might more most my no not now of off on one only or our out over please remind
    she should so some tell than that the their them then there these they this those to up us very was
    we were what when where which who whom whose why will with would you your yours again currently
    called name named say said says what's who's where's it's i'm we're they're note remember actually
    correction sorry way
    """.split()  # noqa: SIM905
)
_SUFFIXES = ("ings", "ing", "edly", "ed", "ies", "es", "s", "'s", "’s", "ly")


def stem(word: str) -> str:
    """A light stem: enough that `supplies`, `supplied` and `supplier` of one sentence meet more often than not."""
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            return word[: -len(suffix)].rstrip("'’")
    return word


def content_terms(text: str) -> dict[str, float]:
    """{stem: weight}; names, numbers and codes weigh 2, other content words 1, function words are left out."""
    terms: dict[str, float] = {}
    for position, match in enumerate(_WORD.finditer(text)):
        word = match.group()
        low = word.lower()
        if low in _FUNCTION_WORDS:
            continue
        distinctive = any(c.isdigit() for c in word) or (word[0].isupper() and position > 0)
        key = stem(low)
        terms[key] = max(terms.get(key, 0.0), 2.0 if distinctive else 1.0)
    return terms


def matched(term: str, text_terms: Collection[str]) -> float:
    """1 when the text has the term, 0.7 when it has a relative of it (`founder`, `founded`), else 0."""
    if term in text_terms:
        return 1.0
    return 0.7 if any(_related(term, other) for other in text_terms) else 0.0


def _related(one: str, other: str) -> bool:
    shared = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        shared += 1
    return shared >= 5 and shared >= 0.6 * max(len(one), len(other)) and one.isalpha() and other.isalpha()


def coverage(wanted: Mapping[str, float], text_terms: Collection[str]) -> float:
    """Share of the wanted weight that the text has, 0 to 1; 0 when nothing is wanted."""
    total = sum(wanted.values())
    return sum(weight * matched(term, text_terms) for term, weight in wanted.items()) / total if total else 0.0


def telling(wanted: Mapping[str, float], texts: Sequence[Collection[str]]) -> dict[str, float]:
    """The wanted terms, each weighed down by how many of the texts have it: what all of them say tells none apart."""
    count = len(texts)
    return {
        term: weight * math.log((count + 1) / (0.5 + sum(term in text for text in texts)))
        for term, weight in wanted.items()
    }


_MONTHS = "january february march april june july august september october november december"
_DAYS = "monday tuesday wednesday thursday friday saturday sunday"
CALENDAR = frozenset((*_MONTHS.split(" "), "may", *_DAYS.split(" ")))
_IN_MAY = re.compile(r"\bMay \d|\d\w* (?:of )?May\b")


def kind_of_value(text: str) -> str:
    """What kind of value a statement gives: "date" for a day or date, else "number", else ""."""
    words = set(re.findall(r"\w+", text.lower()))
    if words & (CALENDAR - {"may"}) or _IN_MAY.search(text):
        return "date"
    return "number" if any(word[0].isdigit() for word in words) else ""
