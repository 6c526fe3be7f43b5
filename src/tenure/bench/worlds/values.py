"""Names, codes and other values that nobody knows, drawn without repetition within a world.

Knows no relation and no template; called by `generator.py`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Value:
    """The answer of a fact as a sentence says it, and everything that counts as saying it."""

    text: str
    accepted: tuple[str, ...]


class Invented:
    """Draws words by the syllable tables of `values.json`. No head serves two names of one world."""

    def __init__(self, words: Mapping[str, Any], rng: random.Random) -> None:
        self.words = words
        self.rng = rng
        self.used: set[str] = set()

    def fresh(self, pool: list[str]) -> str:
        """An entry of a list that this world hasn't used."""
        choice = self.rng.choice([word for word in pool if word not in self.used])
        self.used.add(choice)
        return choice

    def name(self, table: str) -> str:
        """A word of a fresh head and any tail."""
        tail: str = self.rng.choice(self.words[f"{table}_tails"])
        return self.fresh(self.words[f"{table}_heads"]) + tail

    def entity(self, kind: str) -> str:
        """The word that names an entity. A neighbour may share its head with a told one, never the whole word."""
        if kind != "neighbour":
            core = self.name("entity")
        else:
            pairs = [h + t for h in self.words["entity_heads"] for t in self.words["entity_tails"]]
            core = self.rng.choice([pair for pair in pairs if pair not in self.used])
        self.used.add(core)
        return core

    def similar(self, core: str) -> str:
        """A word that differs from `core` in its tail only."""
        head = next(h for h in self.words["entity_heads"] if core.startswith(h))
        core = self.rng.choice([head + t for t in self.words["entity_tails"] if head + t not in self.used])
        self.used.add(core)
        return core

    def given(self) -> str:
        """A given name."""
        return self.name("given")

    def number(self, low: int, high: int) -> str:
        """A number that this world hasn't used."""
        return self.fresh([str(n) for n in range(low, high)])


def value_of(kind: str, invented: Invented) -> Value:
    """Draw a value of a kind that `relations.json` names."""
    words, rng = invented.words, invented.rng
    match kind:
        case "person":
            family = invented.name("family")
            full = f"{invented.given()} {family}"
            return Value(full, (full, family))
        case "company":
            name = invented.name("company")
            return Value(f"{name} {rng.choice(words['company_kinds'])}", (name,))
        case "street":
            name = invented.name("town")
            return Value(f"{name} {rng.choice(words['street_kinds'])}", (name,))
        case "town" | "pet":
            name = invented.name(kind)
            return Value(name, (name,))
        case "date":
            return date(invented.fresh(words["months"]), int(invented.number(3, 29)))
        case "code":
            return exact(invented.number(2100, 9900))
        case "number":
            return exact(invented.number(31, 99))
        case "animal" | "dish" | "drink":
            return exact(invented.fresh(words[kind]))
        case "weekday":
            day = invented.fresh(words["weekdays"])
            return Value(day, (day, f"{day}s"))
        case "colour":
            colour = invented.fresh(words["colours"])
            return Value(colour, (colour, *{"grey": ("gray",), "golden": ("gold",)}.get(colour, ())))
        case _:
            raise ValueError(f"no values of kind {kind!r}: name one that value_of knows in relations.json")


def exact(text: str) -> Value:
    """A value that is said in one way only."""
    return Value(text, (text,))


def date(month: str, day: int) -> Value:
    """A day of the year and the ways to write it."""
    suffix = "th" if 10 <= day % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    ways = (
        f"{month} {day}",
        f"{day} {month}",
        f"{month} {day}{suffix}",
        f"{day}{suffix} of {month}",
        f"{day}{suffix} {month}",
    )
    return Value(ways[0], ways)
