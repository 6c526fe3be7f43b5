"""What a told sentence offers to a question: what its names are names of, names like them, and what it answers.

Lives here: a cautious reading of one English sentence, for near-miss prompts. Where the reading is unsure the kind is
`unclear` and the question only asks whether it is so. Knows no learner, router or model. Its word lists are
in items/near_miss.json. Called by `neighbours`.
"""

from __future__ import annotations

import calendar
import random
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SLIP = 2  # letters; a name no further from a told one reads as its misspelling
CALENDAR = frozenset({*calendar.month_name, *calendar.month_abbr, *calendar.day_name, *calendar.day_abbr} - {""})
COPULA = re.compile(r"^(?P<subject>.+?)\s+(?P<copula>is|are|was|were)\s+(?P<rest>.+)$")
_SMALL = frozenset(
    ["the", "a", "an", "our", "my", "we", "his", "her", "their", "this", "these", "those", "every", "all", "they"]
)
_VOWELS, _CONSONANTS, _ENDS = "aeiou", "bcdfghklmnprstvw", ("", "", "l", "n", "r", "s")
_DIGITS = "0123456789"


@dataclass(frozen=True, slots=True)
class Asked:
    """One matter, asked three ways: `clause` follows "tell me", `short` is a telegram, `question` stands alone."""

    clause: str
    short: str
    question: str


def holds(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE) is not None


def swapped(text: str, swaps: Mapping[str, str]) -> str:
    """The text with each old name replaced by its new one, all at once."""
    if not swaps:
        return text
    new = {old.lower(): other for old, other in swaps.items()}
    old = "|".join(re.escape(name) for name in sorted(swaps, key=len, reverse=True))
    return re.sub(rf"(?<!\w)(?:{old})(?!\w)", lambda m: new.get(m[0].lower(), m[0]), text, flags=re.IGNORECASE)


def distance(one: str, other: str) -> int:
    """The letters to change, add or leave out to make one the other."""
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        corner, row[0] = row[0], i
        for j, its in enumerate(other, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (letter != its))
    return row[-1]


def near(one: str, other: str) -> bool:
    """Whether one reads as the other misspelt."""
    return abs(len(one) - len(other)) <= SLIP and distance(one.lower(), other.lower()) <= SLIP


def as_told(name: str, texts: Sequence[str]) -> str:
    """The name with the article it was told with, or with "the" if it is no proper name: "the espresso machine"."""
    for text in texts:
        found = re.search(rf"\b(the|a|an|our|my|his|her|their)\s+{re.escape(name)}(?!\w)", text, re.IGNORECASE)
        if found:
            article = found[1].lower()
            return f"{'the' if article in {'a', 'an'} else article} {name}"
    proper = any(not c.islower() for c in name if c.isalnum()) or name.split(maxsplit=1)[0] in _SMALL
    return name if proper else f"the {name}"


def kind_of(name: str, texts: Sequence[str], wording: Mapping[str, Any]) -> str:
    """person, place, organisation, thing, code, or `unclear`: by the name's own words, then by its sentences."""
    kinds, words = wording["kinds"], name.split()
    own = set(re.findall(r"[^\W\d_]+", name.lower()))
    for kind in ("person", "organisation", "place", "thing"):
        if own & set(kinds["named"][kind].split()):
            return kind
    if _has_digit(name):
        return "code"
    it, job = re.escape(name), "|".join(kinds["jobs"].split())
    person = (
        rf"(?<!\w){it},? who\s",
        rf"\b(?:{'|'.join(kinds['met'].split())})\s+{it}(?!['’\w])",
        rf"(?<!\w){it}\s+(?:{'|'.join(kinds['does'].split())})\b",
        rf"\b(?:{job})\b[^.,;]*\s(?:is|was)\s+{it}(?!\w)",
        rf"(?<!\w){it}\s+(?:is|was)\s+(?:the|a|an|our|my)\s+(?:\w+\s+){{0,2}}(?:{job})\b",
    )
    if words[0] in wording["likenesses"]["first_names"] or any(re.search(p, t) for t in texts for p in person):
        return "person"
    if any(re.search(rf"\b(?:in|near|outside)\s+{it}(?!['’\w])", text) for text in texts):
        return "place"
    return "unclear"


def likeness(name: str, kind: str, wording: Mapping[str, Any], rng: random.Random) -> tuple[str, str]:
    """(how it was made, a name of the same kind): another first name, another of the pattern, or a wholly other one."""
    words = name.split()
    if _has_digit(name):
        return "other", " ".join(_other_code(word, rng) if _has_digit(word) else word for word in words)
    if words[0].lower() in {"my", "our", "his", "her", "their"} and kind == "person":
        return "pattern", f"{words[0]} {rng.choice(wording['relatives'])}"
    names = wording["likenesses"]
    capital = [i for i, word in enumerate(words) if word[0].isupper()]
    first = 1 if words[0].lower() in {"the", "a", "an", "my", "our", "his", "her", "their"} else 0
    known = {word for kind in wording["kinds"]["named"].values() for word in kind.split()}
    known |= set(names["generic"].split())
    own = [i for i in capital if words[i].lower().strip(".") not in known]
    if max(map(len, words)) >= 4 and rng.random() < 0.4:
        own = [i for i in own if i >= first] or capital[:1]
        for i in own or range(first, len(words) - 1) or [len(words) - 1]:
            words[i] = re.sub(r"[^\W\d_]{2,}", lambda m: _other_word(m[0], rng), words[i])
        return "other", " ".join(words)
    if not capital:
        if len(words) - first > 1:
            return "pattern", " ".join([*words[:first], rng.choice(names["modifiers"]), words[-1]])
        return "pattern", " ".join([*words[:first], rng.choice(wording["things"])])
    if kind == "person" and own and (len(own) > 1 or len(capital) == 1):
        words[own[0]] = rng.choice(names["first_names"])
        return "first_name", " ".join(words)
    if len(own) == len(words) > 1:
        own = own[:-1]  # no word says what it is, so the last stays: another Point, another Ames
    for i in own or capital[:1]:
        words[i] = rng.choice(names["proper"])
    return "pattern", " ".join(words)


def asked_of(text: str, names: Collection[str], persons: Collection[str], wording: Mapping[str, Any]) -> Asked | None:
    """What the first sentence that holds one of the names answers, asked in its own words; None where none holds one.

    The answer is cut away where it can be told apart: behind "is", behind a preposition, or behind the verb.
    """
    for sentence in re.split(r"(?<=[.!?])\s", text):
        whole = re.sub(r"[.!?\s]+$", "", sentence.strip())
        body = _without_opener(whole, wording)
        body = body if any(holds(body, name) for name in names) else whole
        ends = [m.end() for n in names for m in re.finditer(rf"(?<!\w){re.escape(n)}(?!\w)", body, re.IGNORECASE)]
        if ends:
            reader = _Reader(names, persons, wording)
            return reader.copula(body) or reader.verb(body, min(ends)) or reader.whether(body)
    return None


class _Reader:
    """Reads one sentence for the question that it answers."""

    def __init__(self, names: Collection[str], persons: Collection[str], wording: Mapping[str, Any]) -> None:
        self._names, self._persons = names, persons
        self._words = {kind: frozenset(words.split()) for kind, words in wording["question_words"].items()}

    def copula(self, body: str) -> Asked | None:
        found = COPULA.match(body)
        if not found:
            return None
        subject, copula, rest = _mid(found["subject"]), found["copula"], found["rest"]
        first = rest.split()[0]
        if not self._named(subject):
            if first.lower() not in _SMALL:
                return None
            wh = "who" if self._is_person(subject, rest) else "what"
            return _asked(f"{wh} {copula} {rest}", f"{rest} {copula} {wh}", f"{wh} {copula} {rest}")
        if self._preposition(first):
            wh = self._wh(rest)
        elif first.lower() in _SMALL or not first[0].islower():
            wh = "who" if self._is_person(rest, subject) else "what"
        else:  # a state: "closed on Mondays", "allergic to nuts"
            at = next((i for i, word in enumerate(rest.split()) if self._preposition(word)), None)
            if at is None:
                return _asked(f"whether {subject} {copula} {rest}", f"{subject} {rest}", f"{copula} {subject} {rest}")
            state, wh = " ".join(rest.split()[:at]), self._wh(" ".join(rest.split()[at:]))
            return _asked(
                f"{wh} {subject} {copula} {state}", f"{subject} {state} {wh}", f"{wh} {copula} {subject} {state}"
            )
        return _asked(f"{wh} {subject} {copula}", f"{subject} {copula} {wh}", f"{wh} {copula} {subject}")

    def verb(self, body: str, end: int) -> Asked | None:
        """`end`: where the first name ends."""
        upto, after = body[:end], body[end:].split()
        if not after or not body[end].isspace():
            return None
        at = next((i for i, word in enumerate(after) if self._preposition(word)), None)
        verb = after[0]
        if at is None:
            if len(after) < 2 or not self._is_verb(verb):
                return None
            wh, kept = ("whom" if self._is_person(" ".join(after[1:])) else "what"), [verb]
        elif at == 0:
            if upto.split()[0].lower() not in {"we", "i", "they"}:
                return None
            wh, kept = self._wh(" ".join(after)), []
        else:
            wh, kept = self._wh(" ".join(after[at:])), after[:at]
        if at == len(after) - 1:
            return None
        head = _mid(" ".join([upto, *kept]))
        question, rest = "", " ".join(kept[1:])
        if kept and verb in self._words["auxiliary"]:
            question = f"{wh} {verb} {_mid(upto)} {rest}"
        elif kept and verb.endswith("s") and self._is_verb(verb):
            question = f"{wh} does {_mid(upto)} {_base(verb)} {rest}"
        return _asked(f"{wh} {head}", f"{head} {wh}", question.strip() or f"{head} {wh}")

    def whether(self, body: str) -> Asked:
        return _asked(f"whether {_mid(body)}", f"{_mid(body)}, yes or no", f"{_mid(body)}, is that so")

    def _wh(self, phrase: str) -> str:
        """The question word for a phrase that opens with a preposition."""
        first, *words = phrase.split()
        preposition = first.lower()
        value = " ".join(words)
        for wh in ("how often", "since when", "until when", "when"):
            if preposition in self._words[wh]:
                return wh
        if self._is_person(value):
            return f"{preposition} whom"
        if preposition in {"in", "at", "on"} and self._is_time(words):
            return "when"
        if preposition in self._words["where"]:
            return "where"
        return f"{preposition} what"

    def _is_time(self, words: Sequence[str]) -> bool:
        days = {day.lower() for day in CALENDAR}
        plain = [word.lower().strip(",.;") for word in words[:3]]
        return any(w in self._words["time"] or w.removesuffix("s") in days or w[:1].isdigit() for w in plain)

    def _preposition(self, word: str) -> bool:
        kinds = ("where", "how often", "since when", "until when", "when", "any")
        return any(word.lower() in self._words[kind] for kind in kinds)

    def _is_verb(self, word: str) -> bool:
        return word.islower() and (
            word in self._words["past"] or (len(word) > 3 and re.search("[^su]s$|ed$", word) is not None)
        )

    def _is_person(self, *texts: str) -> bool:
        return any(re.match(rf"{re.escape(person)}(?!\w)", text) for text in texts for person in self._persons)

    def _named(self, text: str) -> bool:
        return any(holds(text, name) for name in self._names)


def _asked(clause: str, short: str, question: str) -> Asked:
    return Asked(clause, short, question[:1].upper() + question[1:] + "?")


def _without_opener(sentence: str, wording: Mapping[str, Any]) -> str:
    openers = "|".join(re.escape(o) for o in sorted(wording["same_kind"]["openers"], key=len, reverse=True))
    return re.sub(rf"^(?:(?:{openers})\b[,:]?\s+(?:that\s+)?)+", "", sentence, flags=re.IGNORECASE)


def _mid(text: str) -> str:
    """As it stands in the middle of a sentence."""
    head = (text.split() or [""])[0]
    return head.lower() + text[len(head) :] if head.lower() in _SMALL else text


def _base(verb: str) -> str:
    if verb == "has":
        return "have"
    if verb.endswith("ies") and len(verb) > 4:
        return verb[:-3] + "y"
    return verb[:-2] if re.search("(?:sh|ch|ss|x|zz|o)es$", verb) else verb[:-1]


def _has_digit(text: str) -> bool:
    return any(c.isdigit() for c in text)


def _far(new: str, old: str) -> bool:
    """More than a slip, and at least half of the old one's letters and digits."""
    return distance(new.lower(), old.lower()) >= max(SLIP + 1, sum(c.isalnum() for c in old) / 2)


def _other_code(word: str, rng: random.Random) -> str:
    """Other digits, of three signs or more; other letters too, unless digits are three and half of it."""
    digits, letters = sum(c.isdigit() for c in word), sum(c.isalpha() for c in word)
    kept = digits >= max(SLIP + 1, letters)
    while True:
        new = [_other_sign(c, rng) if c.isdigit() or (c.isalpha() and not kept) else c for c in word]
        new += [rng.choice(_DIGITS) for _ in range(SLIP + 1 - digits - letters)]
        if _far("".join(new), word):
            return "".join(new)


def _other_sign(sign: str, rng: random.Random) -> str:
    if sign.isdigit():
        return rng.choice(_DIGITS.replace(sign, ""))
    other = rng.choice(_CONSONANTS.replace(sign.lower(), ""))
    return other.upper() if sign.isupper() else other


def _other_word(word: str, rng: random.Random) -> str:
    """Invented syllables of about its length, in its capitals."""
    while True:
        new = ""
        while len(new) < max(len(word) - 1, SLIP + 1):
            new += rng.choice(_CONSONANTS) + rng.choice(_VOWELS) + rng.choice(_ENDS)
        if _far(new, word):
            return new.upper() if word.isupper() else new.capitalize() if word[0].isupper() else new
