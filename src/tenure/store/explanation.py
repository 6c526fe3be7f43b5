"""Why a reply said what it said, from what is stored: its version, what was attached to it, and the turns behind that.

Knows neither model nor prompt; called by the runtime, which lets in only those who may ask.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TypeVar

from tenure.errors import NotFound
from tenure.store.library import Store
from tenure.types import Feedback, Memory, Turn, Version

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Explanation:
    """A reply's version, its modules and memories, and the turns behind each of them; what was erased is left out.

    `skills`: the digests of what else was attached, which no turn of a user taught.
    """

    turn: Turn
    version: Version | None
    memories: tuple[Memory, ...]
    modules: Mapping[str, tuple[str, ...]]
    skills: tuple[str, ...]
    sources: tuple[Turn, ...]
    feedback: tuple[Feedback, ...]


def explanation_of(store: Store, turn: Turn) -> Explanation:
    """Raises NotFound when the turn's version is unknown."""
    version = store.registry.version(turn.version) if turn.version else None
    own = {module.digest for module in version.modules} if version else set(turn.module_ids)
    memories = _still_there(store.memories.get, turn.memory_ids)
    modules = {digest: sources_of(store, digest) for digest in turn.module_ids if digest in own}
    wanted = {s for m in memories for s in m.source_ids} | {s for ids in modules.values() for s in ids}
    return Explanation(
        turn,
        version,
        memories,
        modules,
        tuple(digest for digest in turn.module_ids if digest not in own),
        _turns(store, wanted),
        store.ledger.feedback_of(turn.id),
    )


def sources_of(store: Store, artefact: str) -> tuple[str, ...]:
    """What a module or delta learned from: the lineage of the version that it was made for."""
    for record in store.registry.versions():
        candidate = store.registry.lineage(record.digest).candidates.get(artefact)
        if candidate is not None:
            return tuple(candidate["source_ids"])
    return ()


def _turns(store: Store, ids: Collection[str]) -> tuple[Turn, ...]:
    """The turns among the ids, feedback's left out, oldest first."""
    return tuple(sorted(_still_there(store.ledger.turn, sorted(ids)), key=lambda turn: turn.created_at))


def _still_there(get: Callable[[str], T], ids: Collection[str]) -> tuple[T, ...]:
    """What `get` finds; what was erased is left out."""
    found = []
    for id in ids:
        with contextlib.suppress(NotFound):
            found.append(get(id))
    return tuple(found)
