"""Near-miss prompts for any night: prompts close to what was told, on which a module must nevertheless stay silent.

Lives here: their making from the told texts and the names in them, with wording of their own (items/near_miss.json)
that no synthesiser reads. Knows no learner, router or model. Called by whoever assembles a night's exam.

Kinds, with their usual shares: `same_entity` (the name, an unrelated task; 40 %), `neighbour` (the told matter about
another name; 30 %), `unrelated` (20 %), `elsewhere` (a question like those of a working day, on other matters, without
any name; 10 %). One prompt in eight comes as a later turn of a conversation.
"""

from __future__ import annotations

import calendar
import itertools
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from tenure.errors import GateError
from tenure.types import Message, SilenceItem

SHARES = {"same_entity": 0.4, "neighbour": 0.3, "unrelated": 0.2, "elsewhere": 0.1}
CALENDAR = frozenset({*calendar.month_name, *calendar.month_abbr, *calendar.day_name, *calendar.day_abbr})
_NAME = re.compile(r"\b[A-Z][\w'’-]*(?:\s+(?:of|the|and|&)\s+[A-Z][\w'’-]*|\s+[A-Z][\w'’-]*)*")
_COPULA = re.compile(r"^(?P<subject>.+?)\s+(?P<copula>is|are|was|were)\s+(?P<rest>.+)$")
Drawn = tuple[str, str] | None  # (wording's group, prompt)


def near_misses(
    fact_texts: Sequence[str], entities: Sequence[str], *, seed: int, n: int = 300
) -> tuple[SilenceItem, ...]:
    """`n` different prompts, reproducible from the seed.

    `entities` are the names that the told texts are about; without any, capitalised names are taken from the texts, and
    where there are none either, all prompts are `unrelated` or `elsewhere`. Families are `kind/group`.

    Raises GateError for n < 1.
    """
    if n < 1:
        raise GateError(f"n = {n} near-miss prompts; ask for at least 1 (300 is usual)")
    drawer = _Drawer(fact_texts, entities, random.Random(seed))
    items: list[SilenceItem] = []
    seen: set[str] = set()
    for kind in _kinds(n, named=bool(drawer.entities)):
        kind, group, prompt = drawer.fresh(kind, seen)
        seen.add(prompt)
        messages = drawer.conversation(prompt)
        items.append(SilenceItem(f"near-miss/{len(items):04d}", f"{kind}/{group}", messages, kind))
    return tuple(items)


def names_in(texts: Sequence[str]) -> tuple[str, ...]:
    """Capitalised names in the texts, in order of appearance; a single word that opens a sentence isn't one."""
    found: dict[str, None] = {}
    for text in texts:
        for match in _NAME.finditer(text):
            opens = match.start() == 0 or text[: match.start()].rstrip()[-1:] in ".!?"
            name = match.group()
            if opens and " " in name and name.split()[0] in {"The", "A", "An", "Our", "My", "At", "In", "On"}:
                name = name.split(maxsplit=1)[1]
            elif opens and " " not in name:
                continue
            if name not in CALENDAR:
                found.setdefault(name)
    return tuple(found)


def _kinds(n: int, *, named: bool) -> list[str]:
    """The kind of each of n prompts, in the usual shares (largest remainders first)."""
    shares = SHARES if named else {"unrelated": 2 / 3, "elsewhere": 1 / 3}
    counts = {kind: int(n * share) for kind, share in shares.items()}
    by_remainder = sorted(shares, key=lambda kind: counts[kind] - n * shares[kind])
    for kind in by_remainder[: n - sum(counts.values())]:
        counts[kind] += 1
    return [kind for kind, count in counts.items() for _ in range(count)]


class _Drawer:
    """Draws prompts of each kind from one random source."""

    def __init__(self, fact_texts: Sequence[str], entities: Sequence[str], rng: random.Random) -> None:
        self.wording: Mapping[str, Any] = json.loads(
            (files("tenure.gates") / "items" / "near_miss.json").read_text("utf8")
        )
        self.entities = tuple(dict.fromkeys(e.strip() for e in (entities or names_in(fact_texts)) if e.strip()))
        self._facts = [(t, [e for e in self.entities if _holds(t, e)]) for t in fact_texts if t.strip()]
        self._facts = [(text, names) for text, names in self._facts if names]
        self._rng = rng
        self._by_kind: Mapping[str, Callable[[], Drawn]] = {
            "same_entity": self._same_entity,
            "neighbour": self._neighbour,
            "unrelated": self._unrelated,
            "elsewhere": lambda: self._worded("elsewhere"),
        }

    def fresh(self, kind: str, seen: set[str]) -> tuple[str, str, str]:
        """(kind, group, prompt) not seen before; a kind that runs dry gives its place to counting tasks."""
        for _ in range(40):
            drawn = self._by_kind[kind]()
            if drawn and drawn[1] not in seen:
                return kind, *drawn
        while True:
            text = self._counted(self._rng.choice(self.wording["unrelated"]["counting"]))
            if text not in seen:
                return "unrelated", "counting", text

    def conversation(self, prompt: str) -> tuple[Message, ...]:
        """The prompt alone, or one time in eight after a short exchange."""
        if self._rng.random() >= 1 / 8:
            return (Message("user", prompt),)
        said, replied = self._rng.choice(self.wording["before"])
        return Message("user", said), Message("assistant", replied), Message("user", prompt)

    def _worded(self, kind: str) -> tuple[str, str]:
        group = self._rng.choice(sorted(self.wording[kind]))
        return group, self._rng.choice(self.wording[kind][group])

    def _same_entity(self) -> Drawn:
        group, template = self._worded("same_entity")
        return group, template.replace("{e}", self._rng.choice(self.entities))

    def _unrelated(self) -> Drawn:
        group, template = self._worded("unrelated")
        return group, self._counted(template)

    def _counted(self, template: str) -> str:
        numbers = {"a": (100, 999), "b": (11, 99), "c": (2, 9), "h": (1, 12)}
        for name, (low, high) in numbers.items():
            template = template.replace(f"{{{name}}}", str(self._rng.randint(low, high)))
        return template

    def _neighbour(self) -> Drawn:
        """The told matter about another name: a bare question, or one made from a told text with its names swapped."""
        group, template = self._worded("neighbour")
        if group in {"open", "asked"} or not self._facts:
            if "{x}" not in template:
                return None
            return group, template.replace("{x}", self._other_than(self._rng.choice(self.entities)))
        text, names = self._rng.choice(self._facts)
        swaps = {name: self._other_than(name) for name in names}
        swapped = _swapped(text.strip(), swaps)
        swapped = swapped[0].upper() + swapped[1:]
        parts = _parts(swapped)
        if any(_holds(swapped, e) for e in self.entities) or "cloze" not in parts:
            return None
        kept = {"claims": swapped, "cloze": parts["cloze"], "wh": parts.get("subject", "")}[group]
        if not any(_holds(kept, new) for new in swaps.values()):
            return None
        for name, part in {"swapped": swapped, **parts}.items():
            template = template.replace(f"{{{name}}}", part)
        return group, template

    def _other_than(self, entity: str) -> str:
        """A name of the same make that is none of the known ones."""
        for attempt in itertools.count():
            other = self._made_like(entity) if attempt < 50 else f"{self._invented()} {self._invented()}"
            if not any(_holds(other, e) or _holds(e, other) for e in self.entities):
                return other
        raise AssertionError("unreachable")

    def _made_like(self, entity: str) -> str:
        words = entity.split()
        if any(c.isdigit() for c in entity):
            return "".join(self._rng.choice("0123456789") if c.isdigit() else c for c in entity)
        if words[0].lower() in {"my", "our", "his", "her", "their"}:
            return f"{words[0]} {self._rng.choice(self.wording['relatives'])}"
        if not any(word[0].isupper() for word in words):
            article = f"{words[0]} " if words[0] in {"a", "an", "the"} else ""
            return article.replace("an ", "a ") + str(self._rng.choice(self.wording["things"]))
        new = [self._invented() if word[0].isupper() else word for word in words]
        if len(words) > 1 and self._rng.random() < 0.5:
            new[-1] = words[-1]  # the closest neighbours share the last word: another Mill, another Ames
        return " ".join(new)

    def _invented(self) -> str:
        parts = self.wording["syllables"]
        return str(self._rng.choice(parts["first"])) + str(self._rng.choice(parts["last"]))


def _holds(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE) is not None


def _swapped(text: str, swaps: Mapping[str, str]) -> str:
    for old in sorted(swaps, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(old)}(?!\w)", lambda _, new=swaps[old]: new, text, flags=re.IGNORECASE)  # type: ignore[misc]
    return text


def _parts(sentence: str) -> dict[str, str]:
    """`cloze`: its beginning without the told end; `subject` and `copula` where it says what something is."""
    first = re.split(r"(?<=[.!?])\s", sentence, maxsplit=1)[0].rstrip(".!? ")
    parts = {}
    found = _COPULA.match(first)
    words = first.split()
    if found:
        subject = found["subject"]
        head = subject.split()[0]
        if head.lower() in {"the", "a", "an", "our", "my"}:
            subject = head.lower() + subject[len(head) :]
        parts = {"subject": subject, "copula": found["copula"], "cloze": f"{found['subject']} {found['copula']}"}
    elif len(words) >= 4:
        parts = {"cloze": " ".join(words[: max(3, round(len(words) * 0.65))])}
    return parts
