"""Weight sets: the base's linear layers with weight deltas merged in, several side by side within a memory limit.

A delta is a low-rank adapter in PEFT layout, merged in float32 and rounded once. Knows no requests beyond counting
them; called by the engine.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from tenure.errors import ModelError, NotFound
from tenure.model.attachments import with_deltas
from tenure.model.nn.attachable_linear import AttachableLinear
from tenure.model.precision import Packing, Weight

BASE = ""


@dataclass(slots=True, eq=False)
class WeightSet:
    """What differs from the base, by served layer. `num_users` requests run on it."""

    name: str
    weights: Mapping[str, Weight]
    num_users: int = 0
    dropped: bool = False

    @property
    def num_bytes(self) -> int:
        """Memory beside the base."""
        return sum(w.num_bytes for w in self.weights.values())


class WeightSets:
    """All live weight sets, the base among them under the empty name.

    `layers` are the served layers by key; `packing` turns a merged float32 weight into what the network computes with.
    """

    def __init__(self, layers: Mapping[str, AttachableLinear], packing: Packing, max_bytes: int) -> None:
        self._layers = layers
        self._packing = packing
        self._max_bytes = max_bytes
        self._live: list[WeightSet] = [WeightSet(BASE, {})]  # the least recently used first
        self._lock = threading.Lock()

    def add(self, name: str, deltas: Sequence[tuple[Path, float]]) -> None:
        """Merge (directory, scale) deltas in order under `name`; a name that is there is left as it is.

        Idle sets leave, the least recently used first, until the new one fits. Raises BrokenModel for a delta that
        doesn't fit the base, ModelError when the limit can't be kept.
        """
        if self._find(name) is not None:
            return
        fresh = WeightSet(name, self._merge(deltas))
        with self._lock:
            self._make_room(fresh.num_bytes, name)
            self._live.append(fresh)

    def _merge(self, deltas: Sequence[tuple[Path, float]]) -> dict[str, Weight]:
        originals = {name: w for layer in self._layers.values() for name, w in layer.originals.items()}
        merged = with_deltas(originals, deltas)
        return {
            key: self._packing(torch.cat([merged.get(name, w) for name, w in layer.originals.items()]))
            for key, layer in self._layers.items()
            if not merged.keys().isdisjoint(layer.originals)
        }

    def _make_room(self, num_bytes: int, name: str) -> None:
        def used() -> int:
            return sum(s.num_bytes for s in self._live)

        for idle in [s for s in self._live if s.name != BASE and s.num_users == 0]:
            if used() + num_bytes <= self._max_bytes:
                break
            self._live.remove(idle)
        if used() + num_bytes > self._max_bytes:
            raise ModelError(
                f"weight set {name[:12]} needs {num_bytes} bytes and {used()} are in use, more than "
                f"engine.weight_sets_bytes = {self._max_bytes}; raise the limit or wait for running requests"
            )

    def drop(self, name: str) -> None:
        """Forget a set; its memory is free when the requests that run on it are done."""
        found = self._find(name)
        if found is None or name == BASE:
            return
        with self._lock:
            found.dropped = True
            self._forget_unused(found)

    def take(self, name: str) -> WeightSet:
        """The set for one request, which must `give_back` it. Raises NotFound for an unknown name."""
        with self._lock:
            found = self._find(name)
            if found is None:
                raise NotFound(f"weight set {name!r} isn't loaded; add it to the engine first")
            self._live.remove(found)
            self._live.append(found)
            found.num_users += 1
            return found

    def give_back(self, weight_set: WeightSet) -> None:
        """One request less runs on it."""
        with self._lock:
            weight_set.num_users -= 1
            self._forget_unused(weight_set)

    def _forget_unused(self, weight_set: WeightSet) -> None:
        if weight_set.dropped and weight_set.num_users == 0 and weight_set in self._live:
            self._live.remove(weight_set)

    def _find(self, name: str) -> WeightSet | None:
        return next((s for s in self._live if s.name == name and not s.dropped), None)

    @property
    def names(self) -> frozenset[str]:
        """Names that `take` knows."""
        return frozenset(s.name for s in self._live if not s.dropped)

    @property
    def num_bytes(self) -> int:
        """Memory of all live sets beside the base, dropped ones that still run included."""
        return sum(s.num_bytes for s in self._live)
