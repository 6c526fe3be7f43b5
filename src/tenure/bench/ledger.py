"""What durability costs: one append over one raw fsync, appends a second from many writers, verifying a million turns.

Everything runs on the file system of the store's home. The raw side writes and syncs the very bytes that the ledger
keeps, in turn with the appends, so that whatever else the disk does hits both. Knows no model; `tenure bench` calls it.
"""

from __future__ import annotations

import os
import random
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from tenure.bench.record import write_result
from tenure.config import Config
from tenure.model.progress import Progress, silent
from tenure.store import entries
from tenure.store.library import Store
from tenure.types import Message, Scope, Turn

NUM_PAIRS = 1500
BLOCK = 50
NUM_WRITERS = 64
WRITER_SECONDS = 4.0
NUM_VERIFIED = 1_000_000
BATCH = 10_000
WORDS = ("pump", "valve", "night", "shift", "report", "order", "customer", "invoice", "berth", "crane", "tide", "says")


def run(config: Config, *, seeds: str = "", progress: Progress | None = None) -> None:
    """Measure and write bench/results/ledger.json. `seeds`: "0,1,2" (the default); they vary texts and order."""
    numbers = [int(part) for part in (seeds or "0,1,2").split(",")]
    told = progress or silent
    config.home.mkdir(parents=True, exist_ok=True)
    metrics: dict[str, list[float]] = {}
    for position, seed in enumerate(numbers):
        told("durable appends", position, len(numbers))
        with tempfile.TemporaryDirectory(dir=config.home, prefix="bench-ledger-") as folder:
            found = {**compare_with_fsync(Path(folder), seed), **write_together(Path(folder), seed)}
        for key, value in found.items():
            metrics.setdefault(key, []).append(value)
    verified = verify_a_million(config.home, numbers, told)
    write_result("ledger", {**metrics, **verified}, seeds=numbers)


def a_turn(chance: random.Random, id: str) -> Turn:
    """A turn of everyday size: about 700 bytes as stored."""
    said = (Message("system", "Answer briefly."), Message("user", " ".join(chance.choices(WORDS, k=30))))
    reply = Message("assistant", " ".join(chance.choices(WORDS, k=25)))
    scope = Scope("acme", f"person-{id[-1]}")
    version = f"{chance.getrandbits(256):064x}"
    return Turn(id, scope, f"session-{id[-3:]}", time.time(), said, reply, version=version, effective=version)


def compare_with_fsync(folder: Path, seed: int) -> dict[str, float]:
    """NUM_PAIRS appends, each beside write + fdatasync of the same bytes at the end of a growing file, and within
    a file of fixed size (the least that any log could cost). The order of the three is drawn anew each time."""
    chance = random.Random(seed)
    growing = os.open(folder / "growing", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    fixed = os.open(folder / "fixed", os.O_CREAT | os.O_RDWR)
    turns = [a_turn(chance, f"turn_{seed}_{number:08d}") for number in range(NUM_PAIRS)]
    os.pwrite(fixed, bytes(NUM_PAIRS * 1500), 0)
    os.fsync(fixed)
    seconds: dict[str, list[float]] = {"append": [], "growing": [], "fixed": []}
    with Store.open(folder / "alone") as store:
        for number, turn in enumerate(turns):
            content = entries.encode(turn)
            for side in chance.sample(sorted(seconds), 3):
                started = time.perf_counter()
                if side == "append":
                    store.ledger.append(turn)
                elif side == "growing":
                    os.write(growing, content)
                    os.fdatasync(growing)
                else:
                    os.pwrite(fixed, content, number * 1500)
                    os.fdatasync(fixed)
                seconds[side].append(time.perf_counter() - started)
    os.close(growing)
    os.close(fixed)
    append, raw, least = (median(seconds[side]) for side in ("append", "growing", "fixed"))
    return {
        "append_over_fsync": ratio(seconds["append"], seconds["growing"]),
        "append_over_fsync_fixed_size": ratio(seconds["append"], seconds["fixed"]),
        # On a machine that is busy with other things a wait ends when the scheduler pleases; these ended soonest.
        "append_over_fsync_fastest_tenth": tenth(seconds["append"]) / tenth(seconds["growing"]),
        "append_milliseconds": append * 1e3,
        "fsync_milliseconds": raw * 1e3,
        "fsync_fixed_size_milliseconds": least * 1e3,
    }


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median over blocks of BLOCK neighbours of median(ours) / median(theirs): what the disk and the other processes do
    meanwhile changes over seconds, and a block sees one and the same of it."""
    starts = range(0, len(ours), BLOCK)
    return median(median(ours[at : at + BLOCK]) / median(theirs[at : at + BLOCK]) for at in starts)


def tenth(values: Sequence[float]) -> float:
    """The value that a tenth of the values lie below."""
    return sorted(values)[len(values) // 10]


def write_together(folder: Path, seed: int) -> dict[str, float]:
    """Durable appends a second from NUM_WRITERS threads, each waiting for its own acknowledgement."""
    counts = [0] * NUM_WRITERS
    begin = threading.Barrier(NUM_WRITERS + 1)
    with Store.open(folder / "together") as store:

        def write(writer: int) -> None:
            chance = random.Random(seed * 1000 + writer)
            begin.wait()
            deadline = time.perf_counter() + WRITER_SECONDS
            while time.perf_counter() < deadline:
                store.ledger.append(a_turn(chance, f"turn_{writer:02d}_{counts[writer]:08d}"))
                counts[writer] += 1

        threads = [threading.Thread(target=write, args=(writer,)) for writer in range(NUM_WRITERS)]
        for thread in threads:
            thread.start()
        begin.wait()
        started = time.perf_counter()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - started
        assert store.ledger.verify().num_entries == sum(counts)
    return {"appends_per_second": sum(counts) / seconds}


def verify_a_million(home: Path, seeds: Sequence[int], told: Progress) -> dict[str, Any]:
    """Seconds to verify NUM_VERIFIED turns, once a seed over one ledger (kept by `append_all` in large batches)."""
    chance = random.Random(seeds[0])
    bodies = [a_turn(chance, f"turn_{number:08d}") for number in range(2000)]
    with tempfile.TemporaryDirectory(dir=home, prefix="bench-ledger-") as folder, Store.open(Path(folder)) as store:
        for start in range(0, NUM_VERIFIED, BATCH):
            told("turns to verify", start, NUM_VERIFIED)
            numbers = range(start, start + BATCH)
            store.ledger.append_all([replace(bodies[n % len(bodies)], id=f"turn_{n:08d}") for n in numbers])
        num_bytes = (Path(folder) / "tenure.db").stat().st_size
        seconds = []
        for _ in seeds:
            started = time.perf_counter()
            found = store.ledger.verify(lambda done, total: told("verified turns", done, total))
            seconds.append(time.perf_counter() - started)
            assert found.num_entries == NUM_VERIFIED
    return {"verify_1m_seconds": seconds, "num_verified": NUM_VERIFIED, "verified_database_bytes": num_bytes}
