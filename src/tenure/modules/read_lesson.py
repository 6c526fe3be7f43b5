"""Teaching the skill of reading: a question is answered from the notes in front of it; what they don't answer, as ever.

The targets are replies written by hand for the first (`WrittenFact.replies`), and for the second the base's own replies
without notes: to near-misses of a fact beside its statement, and to neutral prompts beside any. The prompt is the one
that recall writes (`context.notes`), without its worked examples. Called by `teaching`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tenure.context.notes import written_in
from tenure.model.engine import Engine
from tenure.model.language_model import LanguageModel
from tenure.model.requests import GenerationRequest, Sampling
from tenure.modules.evidence import knowledge_of, matches_of
from tenure.modules.lora import reply_tokens
from tenure.modules.objectives import Example
from tenure.modules.skills import WrittenFact, conversation, worlds_of
from tenure.types import Memory, MemoryKind, Message, Scope

BESIDE_SHARE = 0.4  # of the facts are read beside others of their world,
MAX_BESIDE = 2  # at most so many,
SHUFFLED_SHARE = 0.2  # and of those so many don't stand last, where recall puts the best
NEAR_SHARE = 1 / 3  # of the facts also have a near-miss among their examples
OWN_TOKENS = 40  # of the base's own reply

Notes = tuple[str, ...]
Asked = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """A reply to learn, and whether it ends there."""

    text: str
    ended: bool = True


def reading_examples(
    engine: Engine, model: LanguageModel, facts: Sequence[WrittenFact], neutral: Sequence[str], *, seed: int = 0
) -> list[list[Example]]:
    """For each fact that has replies, its questions after notes, with what those notes don't answer among them.

    The neutral prompts are dealt out once, as evenly as they go. `engine` answers on the CPU.
    """
    rng = random.Random(seed)
    worlds = enumerate(worlds_of(facts))
    read = [(f"{w} {i}", fact, world) for w, world in worlds for i, fact in enumerate(world) if fact.replies]
    read = rng.sample(read, len(read))
    deals: list[list[Asked]] = [[] for _ in read]
    for i, prompt in enumerate(rng.sample(neutral, len(neutral)) if read else ()):
        deals[i % len(read)].append((Message("user", prompt),))
    for deal, (_, fact, _world) in zip(deals, read, strict=True):
        if rng.random() < NEAR_SHARE:
            deal.append(conversation(rng.choice(fact.near)))
    own = own_replies(engine, model, [asked for deal in deals for asked in deal])
    groups = []
    for deal, (name, fact, world) in zip(deals, read, strict=True):
        notes = notes_for(model, fact, world, rng)
        answered = [
            (f"{name}:{line}", conversation(fact.about[line]), Target(reply)) for line, reply in fact.replies.items()
        ]
        ignored = [(f"{name}:not {j}", asked, own[asked]) for j, asked in enumerate(deal)]
        groups.append([read_example(model, id_, notes, asked, reply) for id_, asked, reply in answered + ignored])
    return groups


def notes_for(model: LanguageModel, fact: WrittenFact, world: Sequence[WrittenFact], rng: random.Random) -> Notes:
    """The fact's statement, alone or after those of its world that share most with one of its questions."""
    others = [other.statement for other in world if other is not fact]
    if rng.random() >= BESIDE_SHARE or not others:
        return (fact.statement,)
    asked = conversation(fact.about[rng.choice(list(fact.replies))])
    known = [knowledge_of(model.chat, statement, ()) for statement in others]
    nearest = matches_of(model.chat, known, asked, rng.randint(1, MAX_BESIDE))
    notes = [*(others[match.index] for match in reversed(nearest)), fact.statement]
    return tuple(rng.sample(notes, len(notes)) if rng.random() < SHUFFLED_SHARE else notes)


def own_replies(engine: Engine, model: LanguageModel, prompts: Sequence[Asked]) -> dict[Asked, Target]:
    """What the base says to each, greedy, without any note."""
    sampling = Sampling(max_tokens=OWN_TOKENS, stop=model.chat.stop_texts)
    asked = list(dict.fromkeys(prompts))
    requests = [GenerationRequest(tuple(model.chat.encode(messages)), sampling) for messages in asked]
    done = engine.generate(requests)
    return {
        messages: Target(reply.text.strip(), reply.finish_reason == "stop")
        for messages, reply in zip(asked, done, strict=True)
    }


def read_example(model: LanguageModel, name: str, notes: Notes, asked: Asked, reply: Target) -> Example:
    """The reply after the question and its notes, as recall writes them."""
    scope = Scope("", "")
    memories = [Memory(str(i), scope, MemoryKind.FACT, note, ("",), 0.0, 0.0) for i, note in enumerate(notes)]
    tokens, start = reply_tokens(model, written_in(asked, memories, examples=False), reply.text)
    return Example(name, tokens if reply.ended else tokens[:-1], start)
