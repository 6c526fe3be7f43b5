"""Nights as jobs: one runs at a time, a dead one can be resumed, an ended one stays ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tenure.errors import BusyError, NotFound, StoreError
from tenure.store.library import Store
from tenure.store.nights import NightStatus


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "home") as opened:
        yield opened


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_night_from_queue_to_end(store: Store) -> None:
    nights = store.nights
    id = nights.queue({"learner": "distil-lora"}, asked_by="acme/ann")
    assert nights.get(id).status == "queued" and nights.running() is None
    assert nights.claim(id, pid=os.getpid()).status is NightStatus.RUNNING
    assert nights.running() is not None and nights.get(id).alive
    nights.event(id, "started", {"num_sources": 3})
    nights.event(id, "slow", level="warning")
    nights.checkpoint(id, "curate", {"episodes": ["a"]})
    nights.checkpoint(id, "learn", {"step": 1})
    nights.checkpoint(id, "learn", {"step": 2})
    assert nights.checkpoints(id) == {"curate": {"episodes": ["a"]}, "learn": {"step": 2}}
    nights.finish(id, "promoted", {"version": "v"})
    night = nights.get(id)
    assert (night.status, night.result, night.settings) == ("promoted", {"version": "v"}, {"learner": "distil-lora"})
    assert night.finished_at is not None and night.finished_at >= night.created_at
    said = nights.events(id)
    assert [(event.message, event.level) for event in said] == [("started", "info"), ("slow", "warning")]
    assert said[0].data == {"num_sources": 3} and said[0].night_id == id


def test_one_night_runs_at_a_time(store: Store) -> None:
    one, two = (store.nights.queue({}, asked_by="cli") for _ in range(2))
    store.nights.claim(one, pid=os.getppid())
    with pytest.raises(BusyError, match=one):
        store.nights.claim(two, pid=os.getpid())
    with pytest.raises(BusyError):
        store.nights.claim(one, pid=os.getpid())


def test_a_night_whose_process_died_is_resumed(store: Store) -> None:
    id = store.nights.queue({}, asked_by="cli")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        store.nights.claim(id, pid=process.pid)
        assert store.nights.get(id).alive
        process.kill()
        process.wait()
    night = store.nights.running()
    assert night is not None and not night.alive
    store.nights.checkpoint(id, "learn", {"step": 1})
    assert store.nights.claim(id, pid=os.getpid()).alive
    assert store.nights.checkpoints(id) == {"learn": {"step": 1}}


def test_cancelling(store: Store) -> None:
    nights = store.nights
    queued, running = (nights.queue({}, asked_by="cli") for _ in range(2))
    nights.cancel(queued)
    assert nights.get(queued).status == "cancelled"
    nights.claim(running, pid=os.getpid())
    nights.cancel(running)
    assert nights.get(running).status == "running" and nights.get(running).cancel_requested
    nights.finish(running, "cancelled", {})
    for call in (lambda: nights.claim(queued, pid=1), lambda: nights.finish(running, "failed", {})):
        with pytest.raises(StoreError, match="over"):
            call()
    nights.cancel(running)
    left = nights.queue({}, asked_by="cli")
    nights.claim(left, pid=dead_pid())
    nights.cancel(left)
    assert nights.get(left).status == "cancelled"


def test_listing_pages_from_the_newest(store: Store) -> None:
    ids = [store.nights.queue({"n": n}, asked_by="cli") for n in range(5)]
    assert [night.id for night in store.nights.list(limit=2)] == ids[:2:-1]
    assert [night.id for night in store.nights.list(after=ids[3])] == ids[2::-1]
    for call in (lambda: store.nights.list(after="x"), lambda: store.nights.get("x"), lambda: store.nights.events("x")):
        with pytest.raises(NotFound):
            call()
    with pytest.raises(StoreError, match="end"):
        store.nights.finish(ids[0], "running", {})
