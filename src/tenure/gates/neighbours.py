"""Near-miss prompts for any night: prompts close to what was told, on which a module must nevertheless stay silent.

Lives here: their making from the told texts and the names in them, with wording of their own (items/near_miss.json)
that no synthesiser reads; `told` reads the single sentence. Knows no learner, router or model. Called by whoever
assembles a night's exam.

Kinds, in equal shares: `same_entity` (the name, an unrelated task), `untold` (an attribute of the name that no text
tells), `same_kind` (what a text tells, in its own words, of an invented name of the same kind, no misspelt one),
`neighbour` (the told matter about any other name), `elsewhere` (a question like those of a working day, on other
matters, without any name), `unrelated`. One prompt in eight comes as a later turn of a conversation; `untold` and
`same_kind` also ask in two turns.
"""

from __future__ import annotations

import itertools
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from tenure.errors import GateError
from tenure.gates.told import CALENDAR, COPULA, Asked, as_told, asked_of, holds, kind_of, likeness, near, swapped
from tenure.types import Message, SilenceItem

KINDS = ("same_entity", "untold", "same_kind", "neighbour", "elsewhere", "unrelated")
ENOUGH_UNTOLD = 5  # attributes of a name; with fewer left, those that are told of other names alone count as untold too
_NAME = re.compile(r"\b[A-Z][\w'’-]*(?:\s+(?:of|the|and|&)\s+[A-Z][\w'’-]*|\s+[A-Z][\w'’-]*)*")


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A prompt, the wording's group it is of, and the exchange it follows, if it follows one of its own."""

    group: str
    prompt: str
    before: tuple[str, str] | None = None


def near_misses(
    fact_texts: Sequence[str], entities: Sequence[str], *, seed: int, n: int = 300
) -> tuple[SilenceItem, ...]:
    """`n` different prompts, reproducible from the seed.

    `entities` are the names that the told texts are about; without any, capitalised names are taken from the texts, and
    where there are none either, all prompts are `unrelated` or `elsewhere`. A text that holds no name is passed over;
    where none holds one, nothing is `untold` or `same_kind`. Families are `kind/group`.

    Raises GateError for n < 1.
    """
    if n < 1:
        raise GateError(f"n = {n} near-miss prompts; ask for at least 1 (300 is usual)")
    drawer = _Drawer(fact_texts, entities, random.Random(seed))
    items: list[SilenceItem] = []
    seen: set[str] = set()
    for kind in _kinds(n, named=bool(drawer.entities), told=bool(drawer.told)):
        kind, drawn = drawer.fresh(kind, seen)
        seen.add(drawn.prompt)
        messages = drawer.conversation(drawn)
        items.append(SilenceItem(f"near-miss/{len(items):04d}", f"{kind}/{drawn.group}", messages, kind))
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


def _kinds(n: int, *, named: bool, told: bool) -> list[str]:
    """The kind of each of n prompts, in equal shares; what is left over goes to the first kinds."""
    kinds = [k for k in KINDS if told or k not in {"untold", "same_kind"}] if named else ["unrelated", "elsewhere"]
    return sorted((kinds[i % len(kinds)] for i in range(n)), key=kinds.index)


class _Drawer:
    """Draws prompts of each kind from one random source."""

    def __init__(self, fact_texts: Sequence[str], entities: Sequence[str], rng: random.Random) -> None:
        self.wording: Mapping[str, Any] = json.loads(
            (files("tenure.gates") / "items" / "near_miss.json").read_text("utf8")
        )
        self.entities = tuple(dict.fromkeys(e.strip() for e in (entities or names_in(fact_texts)) if e.strip()))
        self._names = {name.lower() for name in (*self.entities, *names_in(fact_texts))}
        facts = [(t.strip(), [e for e in self.entities if holds(t, e)]) for t in fact_texts if t.strip()]
        self._facts = [(text, names) for text, names in facts if names]
        self._texts = [text for text, _ in facts]
        self.told = {e: [text for text, names in self._facts if e in names] for e in self.entities}
        self.told = {e: texts for e, texts in self.told.items() if texts}
        self._kind = {e: kind_of(e, texts, self.wording) for e, texts in self.told.items()}
        self._untold_of = {e: self._untold_attributes(e) for e in self.told}
        self._rng = rng
        self._by_kind: Mapping[str, Callable[[], _Drawn | None]] = {
            "same_entity": self._same_entity,
            "untold": self._untold,
            "same_kind": self._same_kind,
            "neighbour": self._neighbour,
            "unrelated": self._unrelated,
            "elsewhere": lambda: self._worded("elsewhere"),
        }

    def fresh(self, kind: str, seen: set[str]) -> tuple[str, _Drawn]:
        """(kind, prompt) not seen before; a kind that runs dry gives its place to counting tasks."""
        for _ in range(40):
            drawn = self._by_kind[kind]()
            if drawn and drawn.prompt not in seen:
                return kind, drawn
        while True:
            text = self._counted(self._rng.choice(self.wording["unrelated"]["counting"]))
            if text not in seen:
                return "unrelated", _Drawn("counting", text)

    def conversation(self, drawn: _Drawn) -> tuple[Message, ...]:
        """The prompt after its own exchange; without one, alone, or one time in eight after a short exchange."""
        before = drawn.before
        if before is None and self._rng.random() < 1 / 8:
            before = self._rng.choice(self.wording["before"])
        said = () if before is None else (Message("user", before[0]), Message("assistant", before[1]))
        return (*said, Message("user", drawn.prompt))

    def _worded(self, kind: str) -> _Drawn:
        group = self._rng.choice(sorted(self.wording[kind]))
        return _Drawn(group, self._rng.choice(self.wording[kind][group]))

    def _same_entity(self) -> _Drawn:
        drawn = self._worded("same_entity")
        return _Drawn(drawn.group, drawn.prompt.replace("{e}", self._rng.choice(self.entities)))

    def _unrelated(self) -> _Drawn:
        drawn = self._worded("unrelated")
        return _Drawn(drawn.group, self._counted(drawn.prompt))

    def _counted(self, template: str) -> str:
        numbers = {"a": (100, 999), "b": (11, 99), "c": (2, 9), "h": (1, 12)}
        for name, (low, high) in numbers.items():
            template = template.replace(f"{{{name}}}", str(self._rng.randint(low, high)))
        return template

    def _untold_attributes(self, entity: str) -> list[str]:
        """Attributes that suit the name's kind and whose words no text contains."""
        suiting = [a for a, spec in self.wording["untold"]["attributes"].items() if self._kind[entity] in spec["suits"]]
        untold = [a for a in suiting if not self._tells(self._texts, a)]
        if len(untold) >= ENOUGH_UNTOLD:
            return untold
        nameless = [text for text in self._texts if not any(holds(text, e) for e in self.entities)]
        return [a for a in suiting if not self._tells([*self.told[entity], *nameless], a)]

    def _tells(self, texts: Sequence[str], attribute: str) -> bool:
        """Whether the texts contain a word of the attribute: one that tells it, or one that it is asked with."""
        spec = self.wording["untold"]["attributes"][attribute]
        asked = _words(_filled(f"{spec['topic']} {spec['clause']} {spec['question']}", {"e": ""}))
        cues = {*spec["told_by"].split(), *(f"{word}*" for word in asked - _words(self.wording["untold"]["plain"]))}
        stems = tuple(cue[:-1] for cue in cues if cue.endswith("*"))
        return any(word in cues or word.startswith(stems) for text in texts for word in _words(text))

    def _untold(self) -> _Drawn | None:
        entity = self._rng.choice(list(self.told))
        if not self._untold_of[entity]:
            return None
        attribute = self._rng.choice(self._untold_of[entity])
        spec = self.wording["untold"]["attributes"][attribute]
        parts = {"e": as_told(entity, self.told[entity]), "topic": spec["topic"]}
        short = _filled(self._rng.choice(self.wording["untold"]["short"]), parts)
        asked = Asked(_filled(spec["clause"], parts), short, _filled(spec["question"], parts))
        return self._as_people_ask("untold", attribute, asked, parts)

    def _same_kind(self) -> _Drawn | None:
        """A told text's own question about a name that no text holds, and that is no told name misspelt."""
        text, names = self._rng.choice(self._facts)
        made = {name: likeness(name, self._kind[name], self.wording, self._rng) for name in names}
        swaps = {name: other for name, (_, other) in made.items()}
        if not all(self._is_new(other) for other in swaps.values()):
            return None
        persons = [other for name, other in swaps.items() if self._kind[name] == "person"]
        new = swapped(text, swaps)
        asked = asked_of(new, list(swaps.values()), persons, self.wording)
        about = [name for name in names if asked and holds(asked.clause, swaps[name])]
        if asked is None or not about or any(holds(asked.clause, e) for e in self.entities):
            return None
        return self._as_people_ask("same_kind", made[about[0]][0], asked, {"e": as_told(swaps[about[0]], [new])})

    def _as_people_ask(self, kind: str, group: str, asked: Asked, parts: Mapping[str, str]) -> _Drawn:
        """In full, as a telegram, indirectly, politely, or in two turns of which the first only names it."""
        style = self._rng.choice(sorted(self.wording["asking"]))
        parts = {**parts, "clause": asked.clause, "short": asked.short, "question": asked.question}
        parts["later"] = _filled(self._rng.choice(self.wording[kind]["later"]), parts)
        prompt = _filled(self._rng.choice(self.wording["asking"][style]), parts)
        if style != "telegram":
            prompt = prompt[0].upper() + prompt[1:]
        before = None
        if style == "two_turns":
            said, replied = (_filled(turn, parts) for turn in self._rng.choice(self.wording["opening"]))
            before = (said[0].upper() + said[1:], replied)
        return _Drawn(group, prompt, before)

    def _is_new(self, name: str) -> bool:
        """Neither told, nor a told name misspelt."""
        low = name.lower()
        known = [entity.lower() for entity in self.entities]
        if any(low in text.lower() for text in self._texts) or any(e in low or low in e for e in known):
            return False
        return not any(near(low, told) for told in self._names)

    def _neighbour(self) -> _Drawn | None:
        """The told matter about another name: a bare question, or one made from a told text with its names swapped."""
        drawn = self._worded("neighbour")
        group, template = drawn.group, drawn.prompt
        if group in {"open", "asked"} or not self._facts:
            if "{x}" not in template:
                return None
            return _Drawn(group, template.replace("{x}", self._other_than(self._rng.choice(self.entities))))
        text, names = self._rng.choice(self._facts)
        swaps = {name: self._other_than(name) for name in names}
        new = swapped(text, swaps)
        new = new[0].upper() + new[1:]
        parts = _parts(new)
        if any(holds(new, e) for e in self.entities) or "cloze" not in parts:
            return None
        kept = {"claims": new, "cloze": parts["cloze"], "wh": parts.get("subject", "")}[group]
        if not any(holds(kept, other) for other in swaps.values()):
            return None
        for name, part in {"swapped": new, **parts}.items():
            template = template.replace(f"{{{name}}}", part)
        return _Drawn(group, template)

    def _other_than(self, entity: str) -> str:
        """A name of the same make that is none of the known ones."""
        for attempt in itertools.count():
            other = self._made_like(entity) if attempt < 50 else f"{self._invented()} {self._invented()}"
            if not any(holds(other, e) or holds(e, other) for e in self.entities):
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


def _words(text: str) -> set[str]:
    return set(re.findall(r"[^\W_]+", text.lower()))


def _filled(template: str, parts: Mapping[str, str]) -> str:
    """The template with its {names} filled in, once: braces in what was filled in stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda m: parts.get(m[1], m[0]), template)


def _parts(sentence: str) -> dict[str, str]:
    """`cloze`: its beginning without the told end; `subject` and `copula` where it says what something is."""
    first = re.split(r"(?<=[.!?])\s", sentence, maxsplit=1)[0].rstrip(".!? ")
    parts = {}
    found = COPULA.match(first)
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
