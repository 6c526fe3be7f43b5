"""Evidence that a conversation is about a told statement: shared words, and the base reading both side by side.

The words find the nearest statement of a module, for nothing; the base then reads statement and conversation in one
short prefill, up to a middle layer, where a token that occurs in the statement looks different from one that doesn't.
Decides nothing; called by `detector`.
Tensors: N conversations, C channels of the base, E features.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tenure.context.terms import content_terms, stem
from tenure.model.chat import ChatFormat
from tenure.model.engine import Engine
from tenure.modules.near_misses import names_of, numbers_of
from tenure.types import Message

FIRST_CHARACTERS, LAST_CHARACTERS = 150, 250  # read of a long message: routing costs the same however long one is
NUM_LEXICAL = 8
NUM_READ = 1  # statements that are read beside a request: the nearest by words,
NUM_READ_BY_KEYS = 2  # and by keys,
MIN_NEARNESS = 0.2  # where the cosine to a key is at least this,
MAX_BEHIND = 0.1  # and at most so much below the nearest statement's
_WORD = re.compile(r"[^\W_]+(?:['’.,:-][^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What one statement looks like in words: its terms and those of the questions asked about it, {stem: rarity}.

    `module` is the digest of the module that learned it ("" while there is none). `keys_KC` are the places of the
    statement and its questions by a `BiEncoder`, float16.
    """

    statement: str
    terms: Mapping[str, float]
    names: frozenset[str]
    module: str = ""
    keys_KC: Tensor | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Match:
    """The statement nearest to a conversation in words, and what the words alone say. `overlap` 0: nothing shared."""

    index: int
    overlap: float
    lexical: tuple[float, ...]


def knowledge_of(chat: ChatFormat, statement: str, questions: Sequence[str]) -> Knowledge:
    """Terms of a statement and its questions, names of the statement."""
    terms: dict[str, float] = {}
    for text in (*questions, statement):
        terms.update(rarities(chat, text))
    return Knowledge(statement, terms, frozenset(_name_terms(statement)))


def rarities(chat: ChatFormat, text: str) -> dict[str, float]:
    """{stem: rarity} of the content words; rarity 0 to 1 by a word's tokens (vocabularies are by frequency)."""
    size = 2 * math.log(1 + max(len(chat.tokenizer), 2))
    content = content_terms(text)
    found: dict[str, float] = {}
    for match in _WORD.finditer(text):
        word = match.group()
        key = stem(word.lower())
        if key in content:
            found[key] = min(1.0, sum(math.log(1 + token) for token in chat.encode_text(f" {word}")) / size)
    return found


def _name_terms(text: str) -> list[str]:
    words = [word for name in (*names_of(text), *numbers_of(text)) for word in _WORD.findall(name)]
    return [stem(word.lower()) for word in words]


def said(messages: Sequence[Message]) -> tuple[str, str]:
    """(what was said before, the user's last message), each without its middle if long; tools and systems left out."""
    spoken = [message for message in messages if message.role in ("user", "assistant") and message.content]
    if not spoken:
        return "", ""
    return _ends("\n".join(message.content for message in spoken[:-1])), _ends(spoken[-1].content)


def _ends(text: str) -> str:
    """Beginning and end of a text: what is asked stands before or behind what was pasted."""
    if len(text) <= FIRST_CHARACTERS + LAST_CHARACTERS:
        return text
    return f"{text[:FIRST_CHARACTERS]} … {text[-LAST_CHARACTERS:]}"


def match_of(chat: ChatFormat, known: Sequence[Knowledge], messages: Sequence[Message]) -> Match:
    """The nearest statement by its rare words; a word that many statements share counts little."""
    return matches_of(chat, known, messages, 1)[0]


def matches_of(
    chat: ChatFormat, known: Sequence[Knowledge], messages: Sequence[Message], num_nearest: int
) -> list[Match]:
    """The `num_nearest` nearest statements by rare words, nearest first; of equally near ones the earlier first."""
    before, last = said(messages)
    asked = rarities(chat, last)
    earlier = {term: rarity for term, rarity in rarities(chat, before).items() if term not in asked}
    spread = {term: sum(term in k.terms for k in known) for term in {*asked, *earlier}}
    overlaps = []
    for knowledge in known:
        overlap = sum(r / spread[t] for t, r in asked.items() if t in knowledge.terms)
        overlaps.append(overlap + 0.5 * sum(r / spread[t] for t, r in earlier.items() if t in knowledge.terms))
    nearest = sorted(range(len(known)), key=lambda i: -overlaps[i])[:num_nearest]
    return [Match(i, overlaps[i], _lexical(known[i], asked, earlier, last, overlaps[i])) for i in nearest]


def _lexical(
    knowledge: Knowledge, asked: Mapping[str, float], earlier: Mapping[str, float], last: str, overlap: float
) -> tuple[float, ...]:
    terms, names = knowledge.terms, knowledge.names
    shared = sum(rarity for term, rarity in asked.items() if term in terms)
    strange = [term for term in _name_terms(last) if term not in terms]
    unknown = [rarity for term, rarity in asked.items() if term not in terms]
    met = len(names & {*asked, *earlier}) / len(names) if names else 0.5
    return (
        overlap,
        shared,
        shared / (sum(asked.values()) + 0.1),
        met,
        float(bool(names & {*asked, *earlier})),
        min(2.0, float(len(strange))),
        max((asked.get(term, 0.5) for term in strange), default=0.0),
        max(unknown, default=0.0),
    )


def reading_of(chat: ChatFormat, statement: str, messages: Sequence[Message]) -> tuple[tuple[int, ...], int]:
    """(statement and conversation as the base reads them side by side, where the last message starts)."""
    before, last = said(messages)
    head = chat.encode_text(f"{_head(statement)} {before}\n" if before else _head(statement), begin=True)
    tail = chat.encode_text("\nA:")
    return (*head, *chat.encode_text(last if before else f" {last}"), *tail), len(head)


def head_length(chat: ChatFormat, statement: str) -> int:
    """With how many tokens all readings of a statement begin."""
    return len(chat.encode_text(_head(statement), begin=True))


def _head(statement: str) -> str:
    return f"{statement}\n\nQ:"


def evidence_of(
    engine: Engine, chat: ChatFormat, pairs: Sequence[tuple[str, Sequence[Message]]], *, layer: int
) -> Tensor:
    """[N, 2 C] what the base makes of each (statement, conversation): last state, and mean over the question."""
    prompts, starts = zip(*(reading_of(chat, *pair) for pair in pairs), strict=True) if pairs else ((), ())
    tail = len(chat.encode_text("\nA:"))
    window = engine.max_context_tokens
    states = engine.hidden_states([prompt[-window:] for prompt in prompts], layer=layer)
    rows = []
    for states_TC, start, prompt in zip(states, starts, prompts, strict=True):
        first = max(0, start - max(0, len(prompt) - window))
        question_TC = states_TC[first : len(states_TC) - tail]
        mean_C = question_TC.mean(0) if len(question_TC) else states_TC[-1]
        rows.append(torch.cat([states_TC[-1], mean_C]).float())
    return torch.stack(rows)
