"""What of a turn is worth keeping in the context layer, decided by rules in well under a millisecond.

The verbatim statement is kept, never a rewriting of it. Questions, requests and small talk are left in the ledger only.
Called by `Context.notice` on the request path; makes no model call and reads no store.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tenure.context.terms import CALENDAR, content_terms, coverage, kind_of_value

MAX_WORDS = 60
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"'“(]?[A-Z0-9])|\n+")
_REQUEST = re.compile(
    r"^(?:please (?!note|remember|be aware|keep in mind|bear in mind)|can|could|would|will|write|list|give|explain|"
    r"tell me|show|help|translate|summari[sz]e|make|create|suggest|describe|name|spell|count|compose|draft|rewrite|"
    r"what|who|whom|whose|when|where|which|why|how|is|are|do|does|did)\b",
    re.IGNORECASE,
)
# Telling in the form of a question.
_TELLING = re.compile(
    r"^(?:did you know|have you heard|did i (?:tell|mention)|have i (?:told|mentioned)|you know)\b", re.IGNORECASE
)
_GREETING = re.compile(
    r"^(?:hi|hello|hey|thanks|thank you|ok|okay|good (?:morning|evening|afternoon))\b", re.IGNORECASE
)
_CORRECTION = re.compile(
    r"\b(?:actually|correction|i was wrong|that's wrong|that is wrong|not any ?more|no longer|instead of|changed to|"
    r"has changed|have changed|i misspoke|mistake|sorry,|"
    r"got (?:\w+ ){1,2}wrong|mixed (?:\w+ ){1,2}up|correct is|update:|as of (?:today|now)|rather than|"
    r"is now|are now)\b",
    re.IGNORECASE,
)


def sentences(text: str) -> list[str]:
    """Split at sentence ends and line breaks; abbreviations may split too early, which only makes pieces smaller."""
    return [part.strip() for part in _SENTENCE.split(text) if part.strip()]


def is_statement(sentence: str) -> bool:
    """True for a sentence that tells something: not a question, request or greeting, and with content to it."""
    asks = sentence.rstrip("\"'”) ").endswith("?") or _REQUEST.match(sentence)
    if asks and not _TELLING.match(sentence):
        return False
    num_words = len(sentence.split())
    if _GREETING.match(sentence) and num_words < 7:
        return False
    return num_words >= 4 and sum(content_terms(sentence).values()) >= 2


def statements(text: str) -> tuple[str, ...]:
    """The statements of a message, in groups of at most 60 words, so that a pronoun stays beside what it means."""
    groups: list[list[str]] = [[]]
    size = 0
    for sentence in sentences(text):
        if not is_statement(sentence):
            continue
        words = len(sentence.split())
        if groups[-1] and size + words > MAX_WORDS:
            groups.append([])
            size = 0
        groups[-1].append(sentence)
        size += words
    return tuple(" ".join(group) for group in groups if group)


def is_correction(text: str) -> bool:
    """True when the words announce that something said before no longer holds."""
    return bool(_CORRECTION.search(text))


def replaces(new: str, old: str) -> bool:
    """True when `new` says the same thing as `old` with another value, so that `old` must no longer be recalled.

    What is said besides names must be shared for the most part, both ways round, and the names that `old` begins with
    too: statements about one firm share its name without contradicting one another.
    """
    new_terms, old_terms = content_terms(new), content_terms(old)
    if new_terms.keys() == old_terms.keys():
        return True
    new_words, old_words = _said(new_terms), _said(old_terms)
    if not new_words or not old_words or not _names(new_terms) & _names(old_terms):
        return False
    return min(coverage(old_words, new_words), coverage(new_words, old_words)) >= 0.6


def likeness(new: str, old: str) -> float:
    """How much an announced correction may be about `old`: 0 without a shared name or with another kind of value."""
    new_terms, old_terms = content_terms(new), content_terms(old)
    if kind_of_value(new) != kind_of_value(old) or not _names(old_terms) & new_terms.keys():
        return 0.0
    same_kind = 0.2 if kind_of_value(new) else 0.0
    return coverage(_said(old_terms), new_terms) + same_kind


def _said(terms: Mapping[str, float]) -> dict[str, float]:
    """The terms without names, numbers and days."""
    return {term: weight for term, weight in terms.items() if weight == 1 and term not in CALENDAR}


def _names(terms: Mapping[str, float]) -> set[str]:
    return {term for term, weight in terms.items() if weight > 1 and term not in CALENDAR and not term[0].isdigit()}
