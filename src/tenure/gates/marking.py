"""How a greedy answer is marked: does an accepted string occur in it as whole words?

Lives here: the normal form of a text, and right or wrong. Knows no suite and no model. Called by `examination`, and by
anybody who must mark an answer the way the gate does (the demo, the benchmarks).

The normal form: Unicode NFKC, case and accents folded; possessive 's and apostrophes gone; digits grouped by comma or
thin space joined (4,471 = 4 471 = 4471), a decimal point or a clock's colon kept (12.5 and 12:30 are one word, so 12 is
in neither), trailing zeros after a point dropped (4.50 = 4.5); a unit glued to its number parted (12kg = 12 kg); % is
the word percent, currency signs go; every other sign parts words; the articles a, an, the go. Number words aren't
turned into digits ("one of them" isn't 1): list both forms as accepted.

An accepted string counts where its words stand in a row, except straight after not, never, no, nor, isn't and the like.
A rejected string counts the same way and makes the answer wrong whatever else it says. That an answer hedges ("X or Y")
is seen only through `rejected`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

ARTICLES = frozenset({"a", "an", "the"})
NEGATIONS = frozenset({"not", "never", "no", "nor", "neither", "isnt", "wasnt", "arent", "werent", "cannot", "without"})
_GROUPED = re.compile(r"(?<![\d.])\d{1,3}(?:[,\u2009\u202f\u00a0 ]\d{3})+(?!\d)")
_POSSESSIVE = re.compile(r"(?<=\w)['\u2019]s\b")
_WORD = re.compile(r"(?:(?<!\w)-)?\d+(?:[.:]\d+)*\w*|\w+", re.UNICODE)
_WITH_UNIT = re.compile(r"^(-?\d+(?:[.:]\d+)*)([^\W\d_]{1,3})$")
_DECIMAL = re.compile(r"^-?\d+\.\d+$")


def normal_words(text: str) -> tuple[str, ...]:
    """The words of a text in normal form (see the module's docstring)."""
    folded = unicodedata.normalize("NFKD", _ungrouped(unicodedata.normalize("NFKC", text)).casefold())
    plain = "".join(c for c in folded if not unicodedata.combining(c))
    plain = _POSSESSIVE.sub("", plain.replace("\u2212", "-")).replace("'", "").replace("\u2019", "")
    words: list[str] = []
    for word in _WORD.findall(plain.replace("%", " percent ").replace("_", " ")):
        with_unit = _WITH_UNIT.match(word)
        for part in with_unit.groups() if with_unit else (word,):
            if part not in ARTICLES:
                words.append(part.rstrip("0").rstrip(".") if _DECIMAL.match(part) else part)
    return tuple(words)


def _ungrouped(text: str) -> str:
    return _GROUPED.sub(lambda found: re.sub(r"\D", "", found.group()), text)


def says(answer: str, wanted: str) -> bool:
    """Whether `wanted` occurs in `answer` as whole words in a row and isn't denied by the word before it."""
    words, target = normal_words(answer), normal_words(wanted)
    if not target:
        return False
    starts = range(len(words) - len(target) + 1)
    return any(words[i : i + len(target)] == target and (i == 0 or words[i - 1] not in NEGATIONS) for i in starts)


def is_right(answer: str, accepted: Sequence[str], rejected: Sequence[str] = ()) -> bool:
    """Right when any accepted string is said and no rejected one is."""
    return any(says(answer, text) for text in accepted) and not any(says(answer, text) for text in rejected)
