"""What two statements have to do with each other: the same, about the same, or saying otherwise.

Rules over words and clauses; no model call. Called by `curation`, which lets the later of two contradicting statements
stand.
"""

from __future__ import annotations

import re

from tenure.context.lead_ins import statement_of
from tenure.context.terms import CALENDAR, content_terms, coverage, kind_of_value, stem
from tenure.sleep.clauses import PRONOUNS, Clause, head_noun, parse_clause

_ABBREVIATION = re.compile(r"(?:\b(?:Dr|Mr|Mrs|Ms|Prof|St|Sr|Jr|Mt|No|Inc|Ltd|Co|approx|vs|e\.g|i\.e|a\.m|p\.m)\.)$")
_BREAK = re.compile(r"(?<=[.!?])[\"'”)]*\s+(?=[\"'“(]?[A-Z0-9])|\n+")
SAME_SUBJECT = 0.99  # a plain statement replaces an earlier one only about the very same subject
ANNOUNCED_OVERLAP = 0.5  # "Actually, ...": most of the words must be about the same


_ONLY_ANNOUNCES = re.compile(
    r"^(?:oh,? |oops,? |sorry,? |wait,? |no,? )*(?:sorry|my mistake|my bad|scratch that|forget that|i misspoke|"
    r"(?:that|this|it|i) was (?:wrong|mistaken)|i (?:made a mistake|got (?:that|it|this|something) wrong)|"
    r"i (?:must have )?(?:mixed|got) (?:\w+ ){1,2}(?:up|wrong)|i have to correct (?:myself|that|this))\b"
    r"(?:,? (?:my mistake|sorry|i (?:mixed|got) (?:\w+ ){1,2}(?:up|wrong)|i was wrong|earlier|before|there))*[.!:]*$",
    re.IGNORECASE,
)
_STANDS_FOR = re.compile(
    r"\b(?:it|them|him|ones|(?:in|out|over|up|down|under|from) there|there(?!'s|\s+(?:is|are|was|were|will)\b))\b",
    re.IGNORECASE,
)


def only_announces(sentence: str) -> bool:
    """Whether a sentence says that something was wrong and nothing else: the correction is in the next one."""
    return bool(_ONLY_ANNOUNCES.match(sentence.strip()))


def sentences_of(text: str) -> list[str]:
    """Sentences of a message; `Dr. Quaye` and `St. Aldhelm's` stay whole."""
    pieces: list[str] = []
    for piece in (part.strip() for part in _BREAK.split(text)):
        if not piece:
            continue
        if pieces and _ABBREVIATION.search(pieces[-1]):
            pieces[-1] += f" {piece}"
        else:
            pieces.append(piece)
    return pieces


def normal_form(text: str) -> str:
    """The wording without lead-ins, case, spacing and final stop: what makes two tellings the same."""
    return re.sub(r"\s+", " ", statement_of(text)).strip(" .!").casefold()


def refers_back(text: str) -> bool:
    """Whether a sentence begins with a pronoun and so means nothing without the one before.

    `They moved Priya to Lyon` does mean something: whoever they are.
    """
    words = _words(text)
    return _begins_with_pronoun(words) and not (_bare_form(words[0]) == "they" and names_somebody(text))


def names_somebody(text: str) -> bool:
    """Whether a sentence has a proper name in it, other than a day or month, behind its first word."""
    words = (word.partition("'")[0] for word in _words(text)[1:])
    return any(word[:1].isupper() and word != "I" and stem(word.lower()) not in CALENDAR for word in words)


def _words(text: str) -> list[str]:
    return re.findall(r"[\w']+", statement_of(text))


def _bare_form(word: str) -> str:
    """`They've` as `they`."""
    return word.lower().partition("'")[0]


def _begins_with_pronoun(words: list[str]) -> bool:
    first = _bare_form(words[0]) if words else ""
    return first in PRONOUNS - {"i", "we", "you", "there"} and (
        first not in ("this", "that", "these", "those") or _bare(words)
    )


def leans_back(text: str) -> bool:
    """Whether a sentence speaks of something by a word that stands for it, and is better kept with the one before.

    `Priya got it`, `The tyres there are new`; not `There is a new tyre`.
    """
    return _begins_with_pronoun(_words(text)) or bool(_STANDS_FOR.search(text))


def _bare(words: list[str]) -> bool:
    """`This is ...` refers back; `This year's budget is ...` does not."""
    return len(words) > 1 and words[1].lower() in (
        "is",
        "are",
        "was",
        "were",
        "has",
        "have",
        "means",
        "goes",
        "will",
        "must",
    )


def overlap(one: str, other: str) -> float:
    """Shared content, 0 to 1: the smaller of the two shares, names and numbers counting double."""
    a, b = content_terms(statement_of(one)), content_terms(statement_of(other))
    return min(coverage(a, b), coverage(b, a))


def contradicts(new: str, old: str, *, announced: bool) -> bool:
    """Whether `new` says otherwise of what `old` was about, so that `old` must not be learned.

    Plain: same subject, same verb, the phrases after it under the same prepositions, and another value. Announced as a
    correction: the two share most of their words, and a name besides where the old one has names; or they share a name
    and give a value of one kind (a date, a number). Whoever asks takes the nearest of several.
    """
    if normal_form(new) == normal_form(old):
        return False
    fresh, stale = parse_clause(new), parse_clause(old)
    if fresh is not None and stale is not None and _same_question(fresh, stale):
        return True
    if not announced or (fresh is not None and stale is not None and _same_kind(fresh.subject, stale.subject)):
        return False
    a, b = content_terms(statement_of(new)), content_terms(statement_of(old))
    names = {term for term, weight in b.items() if weight > 1 and term not in CALENDAR and not term[0].isdigit()}
    shares_name = not names or bool(names & a.keys()) or len(names) == 1
    kind = kind_of_value(new)
    if kind != kind_of_value(old):
        return False
    return shares_name and (overlap(new, old) >= ANNOUNCED_OVERLAP or bool(kind and names & a.keys()))


def _same_question(fresh: Clause, stale: Clause) -> bool:
    """Same subject and verb, exactly one phrase with another value."""
    if fresh.verb != stale.verb or overlap(fresh.subject, stale.subject) < SAME_SUBJECT:
        return False
    ours = {phrase.preposition: phrase.text for phrase in fresh.phrases}
    theirs = {phrase.preposition: phrase.text for phrase in stale.phrases}
    if ours.keys() != theirs.keys():
        return False
    different = [key for key in ours if normal_form(ours[key]) != normal_form(theirs[key])]
    if len(different) != 1:
        return False
    # `Ann likes tea` and `Ann likes jazz` may both hold; with a number or after `is` they can't.
    return fresh.verb == "be" or fresh.passive or different[0] != "" or (_measures(ours[""]) and _measures(theirs[""]))


def _same_kind(one: str, other: str) -> bool:
    """Two things of one kind under different names, such as `the Velden depot` and `the Harrow depot`."""
    a, b = content_terms("x " + one), content_terms("x " + other)
    heads = head_noun(one).lower(), head_noun(other).lower()
    apart = {t for t in a.keys() - b.keys() if a[t] > 1} and {t for t in b.keys() - a.keys() if b[t] > 1}
    return heads[0] == heads[1] and bool(apart)


def _measures(text: str) -> bool:
    return any(character.isdigit() for character in text)
