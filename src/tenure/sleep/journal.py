"""The night's journal: its job in the store, what it finished, and what is left of its budget.

Every finished stage is a checkpoint, so that a night which was killed goes on where it stopped. Knows no learning.
Called by `cycle.night` only.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from tenure.errors import Cancelled
from tenure.store.digests import canonical_json
from tenure.store.library import Store
from tenure.types import Audience, Candidate, Episode, Message, Scope

SPENT = "spent_seconds"  # of the budget, noted in every checkpoint


class Journal:
    """One night's record. `seconds` maps each stage to the wall time it took (stages taken from a checkpoint: 0),
    `suite_seconds` each suite of the gate. What a night that was cut off had spent by its last checkpoint stays spent.
    """

    def __init__(self, store: Store, night_id: str, *, budget_seconds: float) -> None:
        self._store = store
        self.night_id = night_id
        self.budget_seconds = budget_seconds
        self.seconds: dict[str, float] = {}
        self.suite_seconds: dict[str, float] = {}
        self._done = store.nights.checkpoints(night_id)
        spent = max((float(done.get(SPENT, 0.0)) for done in self._done.values()), default=0.0)
        self._began = time.monotonic() - spent

    @classmethod
    def begin(
        cls, store: Store, settings: Mapping[str, Any], night_id: str | None, *, budget_seconds: float
    ) -> Journal:
        """Claim the named night, else the last one that was cut off with the same settings, else a new one.

        Raises BusyError when another living process runs a night, NotFound or StoreError for an id that can't be run.
        """
        if night_id is None:
            cut_off = store.nights.running()
            resumable = cut_off is not None and not cut_off.alive and dict(cut_off.settings) == dict(settings)
            if cut_off is not None and not cut_off.alive and not resumable:
                store.nights.cancel(cut_off.id)
            night_id = cut_off.id if cut_off and resumable else store.nights.queue(settings, asked_by="night")
        store.nights.claim(night_id, pid=os.getpid())
        return cls(store, night_id, budget_seconds=budget_seconds)

    @property
    def left_seconds(self) -> float:
        """What is left of the budget, never below zero."""
        return max(0.0, self.budget_seconds - self._spent)

    @property
    def _spent(self) -> float:
        return time.monotonic() - self._began

    def event(self, message: str, **data: Any) -> None:
        """A line that people follow the night by."""
        self._store.nights.event(self.night_id, message, data)

    def finished(self, stage: str) -> Mapping[str, Any] | None:
        """What a finished stage left, or None when it has to be done."""
        done = self._done.get(stage)
        return None if done is None else {key: value for key, value in done.items() if key != SPENT}

    def stop_if_cancelled(self, before: str) -> None:
        """Raises Cancelled when somebody cancelled the night."""
        if self._store.nights.get(self.night_id).cancel_requested:
            raise Cancelled(f"night {self.night_id} was cancelled before {before}")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and announce it; a night that was cancelled stops here."""
        self.stop_if_cancelled(name)
        began = time.monotonic()
        self.event(f"{name}: started")
        yield
        self.seconds[name] = time.monotonic() - began
        self.event(f"{name}: done in {self.seconds[name]:.1f} s")

    def suite_took(self, suite: str, seconds: float) -> None:
        """Note and announce what a suite of the gate took."""
        self.suite_seconds[suite] = seconds
        self.event(f"gate: {suite} asked in {seconds:.1f} s")

    def checkpoint(self, stage: str, payload: Mapping[str, Any]) -> None:
        """Make a stage's result durable."""
        self._store.nights.checkpoint(self.night_id, stage, {**payload, SPENT: self._spent})

    def keep_episodes(self, stage: str, episodes: Sequence[Episode], **more: Any) -> None:
        """Checkpoint episodes as one object."""
        digest = self._store.objects.put_bytes(canonical_json([asdict(episode) for episode in episodes]))
        self.checkpoint(stage, {"episodes": digest, **more})

    def kept_episodes(self, stage: str) -> tuple[Episode, ...] | None:
        """The episodes that a finished stage left."""
        done = self.finished(stage)
        return self._episodes(done["episodes"]) if done is not None else None

    def earlier_episodes(self, stage: str, subject: str) -> tuple[Episode, ...] | None:
        """What one of the last nights left of a stage on the very same subject, if one did."""
        for night in self._store.nights.list():
            done = self._store.nights.checkpoints(night.id).get(stage, {})
            if done.get("subject") == subject:
                return self._episodes(done["episodes"])
        return None

    def _episodes(self, digest: str) -> tuple[Episode, ...]:
        return tuple(episode_from(document) for document in json.loads(self._store.objects.bytes(digest)))

    def end(self, status: str, result: Mapping[str, Any]) -> None:
        """Close the job."""
        self._store.nights.finish(self.night_id, status, result)


def episode_from(document: Mapping[str, Any]) -> Episode:
    """An episode from its JSON form."""
    values = dict(document)
    values["messages"] = tuple(Message(**{**m, "tool_calls": tuple(m["tool_calls"])}) for m in values["messages"])
    values["scope"] = Scope(**values["scope"])
    values["audience"] = Audience(values["audience"])
    values["source_ids"] = tuple(values["source_ids"])
    return Episode(**values)


def candidate_document(candidate: Candidate, digest: str) -> dict[str, Any]:
    """What lineage keeps of a candidate: everything but the directory, whose digest stands in its place."""
    return {**asdict(replace(candidate, directory=digest))}
