"""Ten worlds of 24 invented facts, made by seed from the hand-written templates of the JSON files beside this module.

Seeds 0 to 9 are the loop's worlds. A world draws 6 of 10 kinds of entity, two entities of each, and two of the kind's
three relations: the third stays untold and is asked as a near miss. The templates were written before the synthesiser
and share nothing with it. Knows no model; called by the benchmarks.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenure.bench.worlds.values import Invented, Value, value_of
from tenure.bench.worlds.world import Fact, World
from tenure.types import Message, QuestionItem, SilenceItem

NUM_KINDS = 6
NUM_NEAR_MISSES = {"same_entity": 114, "untold": 16, "mention": 20, "neighbour": 150}
NUM_UNRELATED = 200


@dataclass(frozen=True, slots=True)
class Entity:
    """An invented thing or person. `core` is the invented word that names it, `name` the way a sentence names it."""

    kind: str
    core: str
    name: str

    @property
    def accepted(self) -> tuple[str, ...]:
        """What counts as naming it."""
        return (self.core,) if self.kind != "colleague" else (self.core, self.core.split()[-1])


@dataclass(frozen=True, slots=True)
class Draw:
    """One told fact before it is put into words."""

    id: str
    entity: Entity
    relation: str
    value: Value


def read(name: str) -> dict[str, Any]:
    """One of the JSON files beside this module."""
    data: dict[str, Any] = json.loads((Path(__file__).parent / name).read_text("utf8"))
    return data


def world(seed: int) -> World:
    """The world of a seed: 24 facts, 96 questions, 300 near misses, 168 related and 200 unrelated prompts."""
    rng = random.Random(f"world {seed}")
    relations, words, silence = read("relations.json"), read("values.json"), read("silence.json")
    invented = Invented(words, rng)
    kinds = rng.sample(sorted(relations), NUM_KINDS)
    draws = draw_facts(f"w{seed}", kinds, relations, invented, rng)
    facts: list[Fact] = []
    related: list[QuestionItem] = []
    corrected = rng.randrange(len(draws))
    for number, draw in enumerate(draws):
        fact, more = put_in_words(
            draw, relations[draw.entity.kind], words, invented, rng, wrong_first=number == corrected
        )
        facts.append(fact)
        related += [*fact.questions, *more]
    near = near_misses(f"w{seed}", draws, relations, silence, invented, rng)
    return World(f"world-{seed}", tuple(facts), near, tuple(related), ordinary(f"w{seed}", silence, rng))


def draw_facts(
    prefix: str, kinds: Sequence[str], relations: Mapping[str, Any], invented: Invented, rng: random.Random
) -> list[Draw]:
    """Two entities of each kind, two told relations each."""
    draws: list[Draw] = []
    for kind in kinds:
        told = rng.sample(sorted(relations[kind]["relations"]), 2)
        for _ in range(2):
            entity = make_entity(kind, relations[kind]["pattern"], invented.entity(kind), invented)
            for relation in told:
                value = value_of(relations[kind]["relations"][relation]["value"], invented)
                draws.append(Draw(f"{prefix}/f{len(draws):02d}", entity, relation, value))
    return draws


def make_entity(kind: str, pattern: str, core: str, invented: Invented) -> Entity:
    """Name an entity by its kind's pattern; colleagues have a given name too."""
    core = f"{invented.given()} {core}" if kind == "colleague" else core
    return Entity(kind, core, pattern.format(core))


def put_in_words(
    draw: Draw,
    kind: Mapping[str, Any],
    words: Mapping[str, Any],
    invented: Invented,
    rng: random.Random,
    *,
    wrong_first: bool,
) -> tuple[Fact, list[QuestionItem]]:
    """The fact as told and examined, and three more prompts that a router must recognise."""
    relation = kind["relations"][draw.relation]
    told, again = rng.sample(relation["told"], 2)
    rejected: tuple[str, ...] = ()
    sentence, correction = say(rng.choice(words["leads"]), told, draw.entity, draw.value.text), ""
    if wrong_first:
        wrong = value_of(relation["value"], invented)
        sentence = say(rng.choice(words["leads"]), told, draw.entity, wrong.text)
        correction = say(rng.choice(words["corrections"]), again, draw.entity, draw.value.text)
        rejected = wrong.accepted
    asked = iter(rng.sample(relation["questions"], 4))
    openers, follows = rng.sample(kind["openers"], 2), rng.sample(relation["follow"], 2)
    value = draw.value

    def question(number: int, messages: Sequence[Message], accepted: tuple[str, ...], kind: str) -> QuestionItem:
        never = rejected if kind != "reversed" else ()
        return QuestionItem(f"{draw.id}/q{number}", draw.id, tuple(messages), accepted, never, kind)

    def single(template: str) -> tuple[Message, ...]:
        return (user(fill(template, draw.entity.name, value.text)),)

    questions = (
        question(0, single(next(asked)), value.accepted, "paraphrase"),
        question(1, single(next(asked)), value.accepted, "paraphrase"),
        question(2, single(rng.choice(relation["reversed"])), draw.entity.accepted, "reversed"),
        question(3, conversation(openers[0], follows[0], draw.entity.name), value.accepted, "multi_turn"),
    )
    more = [
        question(4, single(next(asked)), value.accepted, "paraphrase"),
        question(5, single(next(asked)), value.accepted, "paraphrase"),
        question(6, conversation(openers[1], follows[1], draw.entity.name), value.accepted, "multi_turn"),
    ]
    return Fact(draw.id, draw.entity.name, value.text, (sentence,), questions, correction), more


def user(text: str) -> Message:
    """A user's message."""
    return Message("user", text)


def fill(template: str, entity: str, value: str = "") -> str:
    """Put names into a template; a sentence starts with a capital letter."""
    text = template.format(e=entity, v=value)
    return text[0].upper() + text[1:]


def say(lead: str, template: str, entity: Entity, value: str) -> str:
    """A colleague's message: a way to begin (`! ` is none), then the statement."""
    statement = template.format(e=entity.name, v=value)
    if lead.endswith("! "):
        statement = statement[0].upper() + statement[1:]
    return lead.removeprefix("! ") + statement


def conversation(opener: Sequence[str], follow: str, entity: str) -> tuple[Message, ...]:
    """The entity is named in the first turn only; the question of the last turn leaves it out."""
    return (user(fill(opener[0], entity)), Message("assistant", opener[1]), user(follow))


def near_misses(
    prefix: str,
    draws: Sequence[Draw],
    relations: Mapping[str, Any],
    silence: Mapping[str, Any],
    invented: Invented,
    rng: random.Random,
) -> tuple[SilenceItem, ...]:
    """300 prompts that none of the told facts answers."""
    entities = list(dict.fromkeys(draw.entity for draw in draws))
    pools: dict[str, list[tuple[Message, ...]]] = {
        "same_entity": [(user(fill_task(t, e, e)),) for t in silence["tasks"] for e in entities],
        "mention": [
            (user(fill_task(t, e, f)),) for t in silence["mentions"] for e in entities for f in entities if e != f
        ],
        "untold": untold(draws, relations),
        "neighbour": neighbours(draws, relations, invented, rng),
    }
    items: list[SilenceItem] = []
    for kind, num in NUM_NEAR_MISSES.items():
        unique = list(dict.fromkeys(pools[kind]))
        for messages in rng.sample(unique, num):
            items.append(SilenceItem(f"{prefix}/n{len(items):03d}", f"near/{kind}", messages, kind))
    return tuple(items)


def fill_task(template: str, first: Entity, second: Entity) -> str:
    """Put one or two entities into a task that has nothing to do with what was told about them."""
    text = template.format(e=first.name, c=first.core, f=second.name, d=second.core)
    return text[0].upper() + text[1:]


def untold(draws: Sequence[Draw], relations: Mapping[str, Any]) -> list[tuple[Message, ...]]:
    """Questions about the relation of a told entity that nobody mentioned."""
    told: dict[Entity, set[str]] = {}
    for draw in draws:
        told.setdefault(draw.entity, set()).add(draw.relation)
    return [
        (user(fill(template, entity.name)),)
        for entity, known in told.items()
        for name, relation in relations[entity.kind]["relations"].items()
        if name not in known
        for template in relation["questions"]
    ]


def neighbours(
    draws: Sequence[Draw], relations: Mapping[str, Any], invented: Invented, rng: random.Random
) -> list[tuple[Message, ...]]:
    """The told relations asked about entities that nobody told about, half of them with a similar name."""
    pool: list[tuple[Message, ...]] = []
    for draw in draws:
        kind = relations[draw.entity.kind]
        relation = kind["relations"][draw.relation]
        similar = invented.similar(draw.entity.core.split()[-1])
        for core in (similar, invented.entity("neighbour")):
            stranger = make_entity(draw.entity.kind, kind["pattern"], core, invented)
            pool += [(user(fill(template, stranger.name)),) for template in rng.sample(relation["questions"], 3)]
            pool.append(conversation(rng.choice(kind["openers"]), rng.choice(relation["follow"]), stranger.name))
    return pool


def ordinary(prefix: str, silence: Mapping[str, Any], rng: random.Random) -> tuple[SilenceItem, ...]:
    """200 prompts of every day, the same plain ones in every world and a draw of templates with topics."""
    drawn = [t.format(t=topic) for t in silence["templates"] for topic in silence["topics"]]
    prompts = [*silence["plain"], *rng.sample(drawn, NUM_UNRELATED - len(silence["plain"]))]
    return tuple(
        SilenceItem(f"{prefix}/u{number:03d}", "unrelated", (user(prompt),)) for number, prompt in enumerate(prompts)
    )
