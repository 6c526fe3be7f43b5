"""What a told sentence says: subject, verb group and what follows, found by rules and a morphological dictionary.

Deliberately shallow: it serves two callers that check its results. `claims` asks whether two statements say otherwise
of the same thing, and `questions` turns a clause around; what it can't take apart it returns as None.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from lemminflect import getAllLemmas, getInflection

from tenure.context.lead_ins import statement_of

_WORD = re.compile(r"'[^']+'(?=[\s.,;:!?]|$)|\"[^\"]+\"|\S+")
BE = frozenset({"is", "are", "was", "were"})
HAVE = frozenset({"has", "have", "had"})
MODALS = frozenset({"can", "must", "will", "should", "may", "could", "would", "shall"})
DO = frozenset({"does", "do", "did"})
ADVERBS = frozenset(
    re.findall(
        r"\w+",
        "now only always also usually currently still never normally generally often just",
    )
)
DETERMINERS = frozenset(
    re.findall(
        r"\w+",
        "the a an our my his her its their your this that these those all every",
    )
)
PREPOSITIONS = frozenset(
    re.findall(
        r"\w+",
        "about above across after against along among around at before behind below beneath beside between beyond by "
        "down during for from in inside into near off on onto opposite out outside over past per since through till to "
        "toward towards under until up upon via with within without",
    )
)
PRONOUNS = frozenset({"i", "we", "you", "he", "she", "it", "they", "this", "that", "these", "those", "there"})


@dataclass(frozen=True, slots=True)
class Phrase:
    """A noun phrase or other stretch of the sentence, with the preposition before it ("" for an object)."""

    preposition: str
    text: str

    @property
    def whole(self) -> str:
        """Preposition and text."""
        return f"{self.preposition} {self.text}".strip()


@dataclass(frozen=True, slots=True)
class Clause:
    """`subject verb phrases`. `auxiliary` is the finite verb when there is one beside the main verb (is, must, has to).

    A copula has `verb` "be" and no auxiliary; `group` is the verb group as said, `tail` what of it follows `auxiliary`.
    """

    subject: str
    auxiliary: str
    verb: str
    group: str
    tail: str
    phrases: tuple[Phrase, ...]
    passive: bool = False

    @property
    def text(self) -> str:
        """The clause put together again."""
        return " ".join([self.subject, self.group, *(phrase.whole for phrase in self.phrases)])


def lower_first(text: str) -> str:
    """The first letter lowered when the first word is an ordinary word, so that it can stand inside a sentence."""
    first = text.split(" ", 1)[0]
    name_follows = " " not in text or text.split(" ")[1][:1].isupper()
    is_word = first[1:].islower() and bool(parts_of_speech(first.lower()))
    ordinary = first.lower() in DETERMINERS | PREPOSITIONS | PRONOUNS or (is_word and not name_follows)
    return text[:1].lower() + text[1:] if ordinary and first != "I" else text


@lru_cache(maxsize=20000)
def parts_of_speech(word: str) -> frozenset[str]:
    """Which parts of speech a word form can have, by the dictionary; empty for names and unknown words."""
    return frozenset(getAllLemmas(word.lower()))


@lru_cache(maxsize=20000)
def lemma_of(word: str) -> str:
    """The verb's dictionary form."""
    found = getAllLemmas(word.lower())
    options = found.get("VERB") or found.get("AUX") or (word.lower(),)
    return str(options[0])


def inflected(lemma: str, tag: str) -> str:
    """A verb form by Penn tag (VB, VBZ, VBD, VBN); the first word of a phrasal verb is the one that changes."""
    first, _, rest = lemma.partition(" ")
    if first == "be":
        form = {"VB": "be", "VBZ": "is", "VBP": "are", "VBD": "was", "VBN": "been"}[tag]
    elif tag in ("VB", "VBP"):
        form = first
    else:
        form = str(getInflection(first, tag)[0])
    return f"{form} {rest}".strip()


def is_plural(noun_phrase: str) -> bool:
    """Whether a noun phrase takes a plural verb, by its head noun."""
    words = noun_phrase.split()
    if is_name(noun_phrase) or not words or words[0].lower() in ("a", "an", "every", "each", "this", "that"):
        return False
    if words[0].lower() in ("these", "those", "we", "they", "you", "all") or " and " in f" {noun_phrase} ":
        return True
    head = head_noun(noun_phrase).lower()
    return head.endswith("s") and not head.endswith(("ss", "us", "is")) and "NOUN" in parts_of_speech(head)


def head_noun(noun_phrase: str) -> str:
    """The last word before the first preposition or `of`."""
    words = [word.strip(",;'\"") for word in noun_phrase.split()]
    for i, word in enumerate(words):
        if i and word.lower() in PREPOSITIONS | {"of"}:
            return words[i - 1]
    return words[-1] if words else ""


def parse_clause(text: str) -> Clause | None:
    """Take the first sentence of a statement apart; None when no finite verb is found."""
    words = [word for word in _WORD.findall(statement_of(text)) if word]
    place = _finite_verb(words)
    if place is None:
        return None
    subject_words, fronted = _without_fronted(words[:place])
    if not subject_words:
        return None
    auxiliary, tail, passive, end = _verb_group(words, place)
    lexical = tail[-1] if tail else (auxiliary or words[place])
    phrases = list(_phrases(words[end:]))
    if fronted is not None:
        phrases.append(fronted)
    group = " ".join(words[place:end])
    verb = "be" if lexical.lower() in BE | {"be", "been"} else lemma_of(lexical)
    if verb == "be" and not auxiliary and len(phrases) > 1 and _is_adjective(phrases[0]):  # `is allergic to`
        auxiliary, tail = words[place], [phrases[0].text]
        verb, phrases = f"be {phrases[0].text}", phrases[1:]
        return Clause(
            " ".join(subject_words).rstrip(","), auxiliary, verb, f"{auxiliary} {tail[0]}", tail[0], tuple(phrases)
        )
    while len(subject_words) > 1 and subject_words[-1].lower() in ADVERBS:
        subject_words.pop()
    subject = " ".join(subject_words).rstrip(",")
    return Clause(subject, auxiliary, verb, group, " ".join(tail), tuple(phrases), passive)


def _is_adjective(phrase: Phrase) -> bool:
    likely = phrase.text.endswith(("ic", "ful", "ous", "ble", "al", "ent", "ant", "ive", "less"))
    kinds = parts_of_speech(phrase.text)
    plain = not phrase.preposition and " " not in phrase.text and phrase.text.islower()
    return plain and "ADJ" in kinds and (likely or "NOUN" not in kinds)


def is_name(text: str) -> bool:
    """A bare name or code: every word raised or with a digit, and no ordinary noun phrase."""
    words = text.strip("'\"").split()
    if not words or words[0].lower() in DETERMINERS | PRONOUNS or len(words) > 4:
        return False
    if not all(word[:1].isupper() or any(c.isdigit() for c in word) or word in ("of", "&", "and") for word in words):
        return False
    return (
        len(words) > 1
        or any(c.isdigit() for c in text)
        or "NOUN" not in parts_of_speech(words[0])
        or not text.endswith("s")
    )


def active_of(clause: Clause) -> Clause | None:
    """`X is edited by Y` as `Y edits X`, when the sentence names the agent."""
    agents = [p for p in clause.phrases if p.preposition == "by" and _is_agent(p.text)]
    if not clause.passive or not agents:
        return None
    agent = agents[0]
    others = tuple(p for p in clause.phrases if p is not agent)
    past = clause.auxiliary in ("was", "were") or clause.tail.startswith("been")
    plural = is_plural(agent.text)
    modal = clause.auxiliary if clause.auxiliary in MODALS or clause.auxiliary.endswith(" to") else ""
    if modal in ("have to", "has to"):
        modal = "have to" if plural else "has to"
    form = inflected(clause.verb, "VB" if modal else "VBD" if past else "VBP" if plural else "VBZ")
    phrases = (Phrase("", lower_first(clause.subject)), *others)
    return Clause(agent.text, modal, clause.verb, f"{modal} {form}".strip(), form if modal else "", phrases)


def _is_agent(text: str) -> bool:
    first = text.split(" ", 1)[0]
    return first[:1].isupper() or first.lower() in DETERMINERS


def _finite_verb(words: Sequence[str]) -> int | None:
    """The most verb-like word: an auxiliary before a third person, before a past, before a plain form."""
    best, best_score = None, 0.0
    relative = False
    for i, raw in enumerate(words):
        word = raw.lower().rstrip(",;:")
        if word in ("who", "which", "that") and i and words[i - 1].lower() not in BE:
            relative = True
        score = 0.0 if i == 0 else _verb_score(words, i, word)
        if relative and score:
            score, relative = score - 2.0, False
        if score > best_score:
            best, best_score = i, score
    return best


def _verb_score(words: Sequence[str], i: int, word: str) -> float:
    before = words[i - 1].lower()
    after = words[i + 1].lower() if i + 1 < len(words) else ""
    if before in DETERMINERS | PREPOSITIONS | {"of", "and"} or before.endswith("'s"):
        return 0.0
    if word in BE | HAVE | MODALS | DO:
        return 4.0
    if not words[i].islower() or "VERB" not in parts_of_speech(word):
        return 0.0
    capital = i + 1 < len(words) and words[i + 1][:1].isupper()
    starts_object = after in DETERMINERS | PREPOSITIONS | ADVERBS or after[:1].isdigit() or capital
    bonus = 0.5 if starts_object else 0.0
    pure = 0.5 if "NOUN" not in parts_of_speech(word) else 0.0
    if word.endswith("s") and not word.endswith("ss"):
        return 2.0 + bonus + pure
    if word != lemma_of(word) and not word.endswith("ing"):
        return 1.5 + bonus + pure
    plural_before = before in ("we", "i", "you", "they") or is_plural(" ".join(words[:i]))
    return 2.0 + bonus + pure if plural_before else 0.0


def _without_fronted(words: Sequence[str]) -> tuple[list[str], Phrase | None]:
    """Split `In Tallinn our lawyer` into the subject and the phrase that was put before it."""
    if not words or words[0].lower() not in PREPOSITIONS:
        return list(words), None
    for i in range(1, len(words)):
        comma = words[i - 1].endswith(",")
        if i > 1 and (comma or words[i].lower() in DETERMINERS | PRONOUNS):
            return list(words[i:]), Phrase(words[0].lower(), " ".join(words[1:i]).rstrip(","))
    return list(words), None


def _verb_group(words: Sequence[str], place: int) -> tuple[str, list[str], bool, int]:
    """(auxiliary, rest of the group, passive, index after the group)."""
    first = words[place].lower()
    i = place + 1
    tail: list[str] = []
    auxiliary = ""
    if first in HAVE and words[i : i + 1] == ["to"]:
        auxiliary, i = f"{first} to", i + 1
    elif first in MODALS | BE | HAVE | DO:
        auxiliary = first
    else:
        return "", [], False, i
    while i < len(words) and len(tail) < 4:
        word = words[i].lower().rstrip(",")
        following = i
        while following < len(words) and words[following].lower() in ADVERBS:
            following += 1
        word = words[following].lower().rstrip(",") if following < len(words) else ""
        if not _continues(auxiliary, tail, word):
            break
        tail, i = [*tail, word], following + 1
    if not tail:
        return ("", [], False, place + 1) if first in BE | HAVE else (auxiliary, [], False, i)
    passive = (
        (first in BE or tail[0] in ("be", "been")) and tail[-1] not in ("be", "been") and not tail[-1].endswith("ing")
    )
    return auxiliary, tail, passive, i


def _continues(auxiliary: str, tail: Sequence[str], word: str) -> bool:
    previous = tail[-1] if tail else auxiliary
    kinds = parts_of_speech(word)
    if not word or ("VERB" not in kinds and "AUX" not in kinds):
        return False
    if previous in BE | {"be", "been"}:
        return word != lemma_of(word) and not word.endswith("s")
    if previous in HAVE:
        return word == "been" or (word != lemma_of(word) and not word.endswith("ing"))
    if previous in MODALS | DO or previous.endswith(" to"):
        return word == "be" or word == lemma_of(word)
    return False


def _phrases(words: Sequence[str]) -> list[Phrase]:
    """Split what follows the verb before each preposition; adverbs such as `only` go."""
    phrases: list[Phrase] = []
    preposition = ""
    held: list[str] = []
    for raw in words:
        word = raw.lower()
        if word in ADVERBS:
            continue
        if word in PREPOSITIONS and not (held and held[-1].lower() == "from"):
            if held:
                phrases.append(Phrase(preposition, " ".join(held).rstrip(",;")))
            preposition, held = word, []
        else:
            held.append(raw)
    if held:
        phrases.append(Phrase(preposition, " ".join(held).rstrip(",;")))
    elif preposition:
        phrases.append(Phrase("", preposition))
    return phrases


_QUANTITY = re.compile(
    r"^(?:about |only |exactly )?(?:\d[\d.,]*|(?:two|three|four|five|six|seven|eight|nine|ten|twelve)) [a-z]"
)


def names_something(text: str) -> bool:
    """Whether a phrase can be what something *is*: a noun phrase, a name or a code; no adjective, no quantity."""
    first = text.split(" ", 1)[0].strip("'\"")
    if not first or _QUANTITY.match(text):
        return False
    return first.lower() in DETERMINERS or not first.islower() or "NOUN" in parts_of_speech(first)


def swapped(clause: Clause) -> Clause | None:
    """`A is B` as `B is A`; None for other clauses."""
    if clause.verb != "be" or clause.auxiliary or not clause.phrases or clause.phrases[0].preposition:
        return None
    first, *others = clause.phrases
    if not names_something(first.text):
        return None
    theirs, ours = [], others
    if first.text.split(" ")[0].lower() in DETERMINERS:  # `the new contact for warranty questions` is one phrase
        theirs, ours = others, []
    subject = " ".join([first.text, *(p.whole for p in theirs)])
    past = clause.group in ("was", "were")
    group = ("were" if past else "are") if is_plural(first.text) else ("was" if past else "is")
    whole = " ".join([lower_first(clause.subject), *(p.whole for p in ours)])
    return replace(clause, subject=subject, group=group, phrases=(Phrase("", whole),))
