"""Questions that a told sentence answers, composed by rules: each part of the clause is asked for.

`synthesis` has the model write questions of its own and uses these to fill up, after the model itself has chosen among
them (see `checking`). Knows no model. Each draft says which words of the source answer it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from tenure.sleep.clauses import (
    BE,
    DETERMINERS,
    PREPOSITIONS,
    PRONOUNS,
    Clause,
    Phrase,
    active_of,
    head_noun,
    inflected,
    is_name,
    is_plural,
    lower_first,
    parse_clause,
    parts_of_speech,
    swapped,
)
from tenure.sleep.wording import (
    ATTRIBUTES,
    BEFORE_DIRECT,
    BEFORE_EMBEDDED,
    SAME_VERBS,
    TALK,
    TALK_WITH_TOPIC,
    WITH_TOPIC,
)
from tenure.types import Message

_TIME = re.compile(
    r"^(?:about )?\d{1,2}(?:[:.]\d\d)? ?(?:am|pm|a\.m\.|p\.m\.|o'clock)$|^\d{1,2}:\d\d$|^(?:noon|midnight)$", re.I
)
_WEEKDAY = re.compile(r"^(?:every )?(?:mon|tues|wednes|thurs|fri|satur|sun)days?\b", re.I)
_DATE = re.compile(
    r"\b(?:january|february|march|april|may|june|july|august|september|october|november|december)\b", re.I
)
_YEAR = re.compile(r"^(?:1[5-9]|20)\d\d$")
_NUMBER = (
    r"(?:\d[\d.,]*|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|thirty|forty|fifty|hundred)"
)
_MONEY = re.compile(rf"^{_NUMBER} (?:euros?|dollars?|pounds?|cents?|francs?|crowns?|yen)\b|^[€$£]", re.I)
_SPAN = re.compile(rf"^{_NUMBER} (?:seconds?|minutes?|hours?|days?|weeks?|months?|years?)\b", re.I)
_DEGREES = re.compile(rf"^{_NUMBER} degrees\b", re.I)
_COUNT = re.compile(rf"^{_NUMBER} ([a-z]+)", re.I)
_MEASURED = re.compile(rf"^{_NUMBER} ([a-z]+) (long|wide|high|tall|deep|old|heavy|thick|away)\b", re.I)
_NUMBERED = re.compile(r"^(?:the )?([a-z]+) (?:\d[\w-]*|[A-Z])$")
_TITLE = re.compile(r"^(?:Dr|Mr|Mrs|Ms|Prof|Professor|Captain|Sister|Father|Judge|Nurse|Chef|Doctor)\b\.?")
PLACE_PREPOSITIONS = frozenset({"in", "at", "behind", "under", "above", "near", "beside", "on", "inside", "opposite"})
INDEFINITE = frozenset(
    {"everything", "anything", "something", "everyone", "anyone", "someone", "nothing", "it", "them"}
)
KINDS = ("person", "company", "place", "building", "machine", "product", "animal", "project", "color", "word", "code")


@dataclass(frozen=True, slots=True)
class Core:
    """One question in its two forms, with the words that answer it and what else it is about."""

    direct: str
    embedded: str
    answer: str
    topic: str
    opening: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A question as it may be asked. `form` names how it is dressed; two drafts of one form look alike."""

    messages: tuple[Message, ...]
    answer: str
    form: str

    @property
    def text(self) -> str:
        """The last message: the question itself."""
        return self.messages[-1].content


# ---------------------------------------------------------------- from a clause to cores


def names_in(text: str) -> tuple[str, ...]:
    """Noun phrases that are bare names, whose kind rules can't tell: the model is asked (`checking.kinds_of`)."""
    found = []
    for clause in views_of(text):
        for phrase in (Phrase("", clause.subject), *clause.phrases):
            if is_name(phrase.text) and not any(c.isdigit() for c in phrase.text):
                found.append(_unquoted(phrase.text))
    return tuple(dict.fromkeys(found))


def views_of(text: str) -> list[Clause]:
    """The clause itself, its active form, and both sides of a copula exchanged."""
    clause = parse_clause(text)
    if clause is None:
        return []
    if clause.verb in ("call", "name") and clause.passive and clause.phrases:  # `is called X` is `is X` by name
        named = replace(clause, verb="be", auxiliary="", group=clause.auxiliary, tail="", passive=False)
        return [clause, *(view for view in (swapped(named),) if view is not None)]
    return [view for view in (clause, active_of(clause), swapped(clause)) if view is not None]


def cores_of(text: str, kinds: Mapping[str, str]) -> list[Core]:
    """Every question that the rules can ask of a statement. `kinds`: {name: what it is the name of}."""
    cores: list[Core] = []
    for view in views_of(text):
        for clause in (view, *_reworded(view)):
            cores += _about_subject(clause, kinds)
            for index in range(len(clause.phrases)):
                cores += _about_phrase(clause, index, kinds)
        cores += _about_attribute(view)
        cores += _about_identity(view, kinds)
    unique = {core.direct.lower(): core for core in reversed(cores)}
    return list(reversed(unique.values()))


def _reworded(clause: Clause) -> Iterator[Clause]:
    """The clause with other verbs, where one fits in place."""
    for other in SAME_VERBS.get(clause.verb, ()):
        if clause.passive:
            if " " not in other and other != "be":
                form = inflected(other, "VBN")
                tail = " ".join([*clause.tail.split(" ")[:-1], form])
                yield replace(clause, verb=other, tail=tail, group=f"{clause.auxiliary} {tail}")
        elif clause.auxiliary:
            yield replace(clause, verb=other, tail=other, group=f"{clause.auxiliary} {other}")
        else:
            group = inflected(other, _tag(clause))
            is_be = other.split(" ")[0] == "be"
            auxiliary, _, tail = group.partition(" ") if is_be else ("", "", "")
            yield replace(clause, verb=other, auxiliary=auxiliary, tail=tail, group=group)


def _tag(clause: Clause) -> str:
    """Penn tag of a lexical verb group."""
    if clause.group == inflected(clause.verb, "VBZ"):
        return "VBZ"
    return "VBD" if clause.group == inflected(clause.verb, "VBD") else "VBP"


def _about_subject(clause: Clause, kinds: Mapping[str, str]) -> Iterator[Core]:
    if clause.subject.lower() in PRONOUNS or _is_equation(clause):
        return
    rest = " ".join(phrase.whole for phrase in clause.phrases)
    topic = next(
        (p.text for p in clause.phrases if p.preposition in ("", "by")),
        clause.phrases[0].text if clause.phrases else "",
    )
    for wh in _ways_to_ask(Phrase("", clause.subject), clause, kinds):
        plural = is_plural(clause.subject) and wh.split(" ")[-1].endswith("s") and wh != "what"
        body = f"{wh} {clause.group if plural else _singular(clause)} {rest}".strip()
        yield Core(_asked(body), body, clause.subject, topic, wh)
    head, preposition, inner = _inner(clause.subject)
    if _common_head(inner) and _says_more(inner):
        body = f"{lower_first(head)} {preposition} which {_common_head(inner)} {clause.group} {rest}"
        yield Core(_asked(body), body, inner, topic, "which")


def _is_equation(clause: Clause) -> bool:
    """`A is B`: asking for A is left to the view that says `B is A`."""
    return clause.verb == "be" and not clause.auxiliary and bool(clause.phrases) and not clause.phrases[0].preposition


def _says_more(text: str) -> bool:
    """Whether a noun phrase has more to it than its head noun, so that `which NOUN` doesn't give it away."""
    words = [word for word in text.lower().split() if word not in DETERMINERS]
    return len(words) > 1


def _singular(clause: Clause) -> str:
    first, _, rest = clause.group.partition(" ")
    changed = {"are": "is", "were": "was", "have": "has", "do": "does"}.get(first, first)
    if not clause.auxiliary and first not in BE and _tag(clause) == "VBP":
        changed = inflected(first, "VBZ")
    return f"{changed} {rest}".strip()


def _about_phrase(clause: Clause, index: int, kinds: Mapping[str, str]) -> Iterator[Core]:
    phrase = clause.phrases[index]
    others = [p for i, p in enumerate(clause.phrases) if i != index]
    if phrase.text in INDEFINITE:
        return
    for wh in _ways_to_ask(phrase, clause, kinds):
        if wh.startswith("which") and _is_equation(clause) and is_name(clause.subject):
            continue  # `Which customer is Halvard?` asks for nothing
        adverbial = wh in ("where", "when", "how long", "how much") or wh.startswith(("at what", "in what", "on which"))
        stranded = "" if adverbial or not phrase.preposition else phrase.preposition
        for rest in _rests(others):
            subject = lower_first(clause.subject)
            direct = f"{wh} {_inverted(clause, subject)} {rest} {stranded}"
            embedded = f"{wh} {subject} {clause.group} {rest} {stranded}"
            if clause.verb == "be" and not clause.auxiliary:
                embedded = f"{wh} {subject} {rest} {clause.group} {stranded}"
            yield Core(_asked(direct), _spaced(embedded), phrase.text, clause.subject, wh)
            if stranded and wh.startswith(("which", "what ")):
                piped = f"{phrase.preposition} {wh}"
                body = f"{piped} {_inverted(clause, subject)} {rest}"
                yield Core(
                    _asked(body),
                    _spaced(f"{piped} {subject} {clause.group} {rest}"),
                    phrase.text,
                    clause.subject,
                    piped,
                )
    yield from _about_inner(clause, index)


def _rests(others: Sequence[Phrase]) -> list[str]:
    """What else is said, whole and, when there is an adjunct to spare, without the last one."""
    whole = " ".join(phrase.whole for phrase in others)
    short = " ".join(phrase.whole for phrase in others[:-1])
    return [whole, short] if others and others[-1].preposition and len(others) > 1 else [whole]


def _about_inner(clause: Clause, index: int) -> Iterator[Core]:
    """`X is the code word for the alarm`: what is X the code word for?"""
    head, preposition, inner = _inner(clause.phrases[index].text)
    if not inner or clause.verb != "be" or clause.auxiliary or clause.phrases[index].preposition:
        return
    subject = lower_first(clause.subject)
    kind = _common_head(inner)
    for wh in ["what", *([f"which {kind}"] if kind else [])]:
        body = f"{wh} {clause.group} {subject} {head} {preposition}"
        yield Core(_asked(body), f"{wh} {subject} {clause.group} {head} {preposition}", inner, clause.subject, wh)


def _about_attribute(clause: Clause) -> Iterator[Core]:
    for phrase in clause.phrases:
        for noun in ATTRIBUTES.get((clause.verb, phrase.preposition), ()):
            subject = lower_first(clause.subject)
            yield Core(
                f"What is the {noun} of {subject}?",
                f"what the {noun} of {subject} is",
                phrase.text,
                clause.subject,
                noun,
            )
    if clause.verb == "be" and not clause.auxiliary and clause.subject.split(" ")[0].lower() in DETERMINERS:
        answer = clause.phrases[0].text if clause.phrases and not clause.phrases[0].preposition else ""
        if answer[:1].isupper():
            subject = lower_first(clause.subject)
            wanted = (
                subject
                if head_noun(subject) in ("name", "word", "code", "number", "title")
                else f"the name of {subject}"
            )
            yield Core(f"Give me {wanted}.", wanted, answer, clause.subject, "name")


def _about_identity(clause: Clause, kinds: Mapping[str, str]) -> Iterator[Core]:
    """`Who is X?`, answered by what the sentence says of X."""
    name = _unquoted(clause.subject)
    rest = clause.phrases[0].text if clause.phrases else ""
    if not is_name(name) or rest in INDEFINITE | {""}:
        return
    wh = "who" if kinds.get(name) == "person" or _TITLE.match(name) else "what"
    yield Core(_asked(f"{wh} is {name}"), f"{wh} {name} is", rest, name, f"{wh} is")
    if clause.verb != "be" and not clause.auxiliary:
        does = {"VBZ": "does", "VBD": "did"}.get(_tag(clause), "do")
        yield Core(_asked(f"what {does} {name} do"), f"what {name} {does}", rest, name, "what does")


def _inverted(clause: Clause, subject: str) -> str:
    """Finite verb, subject, rest of the verb group."""
    if clause.auxiliary.endswith(" to"):
        finite = {"has to": "does", "have to": "do", "had to": "did"}[clause.auxiliary]
        return f"{finite} {subject} have to {clause.tail}"
    if clause.auxiliary:
        return f"{clause.auxiliary} {subject} {clause.tail}"
    if clause.verb == "be":
        return f"{clause.group} {subject}"
    finite = {"VBZ": "does", "VBD": "did"}.get(_tag(clause), "do")
    return f"{finite} {subject} {clause.verb}"


def _ways_to_ask(phrase: Phrase, clause: Clause, kinds: Mapping[str, str]) -> list[str]:
    """Interrogatives that ask for a noun phrase, the most telling first."""
    text = _unquoted(phrase.text)
    for pattern, ways in (
        (_TIME, ["at what time", "when"]),
        (_WEEKDAY, ["on which day", "when"]),
        (_YEAR, ["in what year", "when"]),
        (_MONEY, ["how much"]),
        (_DEGREES, ["what temperature", "how many degrees"]),
    ):
        if pattern.search(text):
            return ways
    if _DATE.search(text) and any(c.isdigit() for c in text):
        return ["on which date", "when"]
    if _SPAN.search(text):
        return ["how long", f"how many {_COUNT.search(text).group(1)}"]  # type: ignore[union-attr]
    measured = _MEASURED.search(text)
    if measured:
        return [f"how {measured.group(2)}", f"how many {measured.group(1)} {measured.group(2)}"]
    counted = _COUNT.search(text)
    if counted:
        return [f"how many {counted.group(1)}"]
    kind = kinds.get(text, "")
    if _TITLE.match(text) or kind == "person":
        return ["who", "which person"]
    head = _common_head(text)
    ways = [f"which {head}"] if head and _says_more(text) else []
    if kind:
        ways.append(f"which {kind}")
    if phrase.preposition in PLACE_PREPOSITIONS | {"to", "from"}:
        ways.append("where")
    if _is_role(head):
        ways.insert(0, "who")
    return [*ways, "what"] if phrase.preposition not in PLACE_PREPOSITIONS else ways or ["what"]


def _is_role(noun: str) -> bool:
    """Nouns for people: `beekeeper`, `chemist`; machines end alike, so the model's check has the last word."""
    return noun in {"boss", "chief", "cook", "guest", "colleague", "contact"} or noun.endswith(
        ("ist", "keeper", "baker")
    )


def _common_head(text: str) -> str:
    """The head noun when it is an ordinary word, such as `depot` of `our Kestwick depot`."""
    numbered = _NUMBERED.match(text)
    if numbered:
        return numbered.group(1)
    head = head_noun(text)
    return head if head.islower() and "NOUN" in parts_of_speech(head) else ""


def _inner(text: str) -> tuple[str, str, str]:
    """`the code word | for | the alarm`; empty strings when there is no phrase inside."""
    words = text.split(" ")
    for i, word in enumerate(words):
        if 0 < i < len(words) - 1 and word.lower() in PREPOSITIONS | {"of"}:
            return " ".join(words[:i]), word.lower(), " ".join(words[i + 1 :])
    return "", "", ""


def _unquoted(text: str) -> str:
    return text.strip("'\"")


def _spaced(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _asked(body: str) -> str:
    body = _spaced(body)
    return body[:1].upper() + body[1:] + "?"


# ---------------------------------------------------------------- from cores to drafts


def dressed(core: Core, rng: random.Random, *, held_out: bool = False) -> Draft:
    """A core in one of the ways of `wording`, drawn by `rng`; held-out questions have frames of their own."""
    topic = lower_first(core.topic)
    usable = bool(topic) and core.answer.lower() not in topic.lower() and topic.lower() not in PRONOUNS | INDEFINITE
    ways = [
        "before",
        "talk",
        *(["embedded"] * 2 if core.embedded else []),
        *(["topic", "topic", "talk about"] * usable),
    ]
    way = rng.choice(ways)
    about = rng.choice((core.direct, _with_pronoun(core))) if usable else core.direct
    if way == "before":
        frame = rng.choice(_split(BEFORE_DIRECT, held_out))
        question = core.direct if frame.startswith("{q}") or ". {q}" in frame else _lowered(core.direct)
        return Draft((Message("user", frame.format(q=question)),), core.answer, frame)
    if way == "embedded":
        frame = rng.choice(_split(BEFORE_EMBEDDED, held_out))
        return Draft((Message("user", frame.format(e=core.embedded)),), core.answer, frame)
    if way == "topic":
        frame = rng.choice(_split(WITH_TOPIC, held_out))
        text = frame.format(topic=topic, Topic=topic[:1].upper() + topic[1:], q=_lowered(about), Q=about)
        return Draft((Message("user", text),), core.answer, frame)
    said, replied = rng.choice(_split(TALK_WITH_TOPIC if way == "talk about" else TALK, held_out))
    last = about if way == "talk about" else core.direct
    messages = (Message("user", said.format(topic=topic)), Message("assistant", replied), Message("user", last))
    return Draft(messages, core.answer, f"{way}: {said}")


_Frame = TypeVar("_Frame")


def _split(frames: Sequence[_Frame], held_out: bool) -> Sequence[_Frame]:
    """Every fourth frame belongs to held-out questions."""
    return [frame for i, frame in enumerate(frames) if (i % 4 == 3) is held_out]


def _lowered(question: str) -> str:
    return question[:1].lower() + question[1:]


def _with_pronoun(core: Core) -> str:
    """The direct question with its topic as `it` or `they`; unchanged when the topic isn't there word for word."""
    topic = lower_first(core.topic)
    place = core.direct.find(topic)
    if place < 0 or len(topic.split()) < 2 or topic[:1].isupper():
        return core.direct
    plural, ends = is_plural(topic), place + len(topic) >= len(core.direct) - 1
    pronoun = ("them" if ends else "they") if plural else "it"
    return core.direct.replace(topic, pronoun, 1)
