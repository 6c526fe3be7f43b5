"""Swapping the served version under load: failed requests, and the latency around swaps over that without any.

The home of a world of the loop, with the version that passed its gate there; a server over it in a process of its own;
beside it a night that trains at low priority, on a copy of the home, so that there is the same to learn whatever is
promoted; clients that never stop asking, every other time about what the version learned. Half of the requests see no
swap (half of those the base, half the version), half see twenty; each half has a night of its own. Called by
`bench.loop`.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, cycle
from pathlib import Path
from typing import Any

from tenure.bench.load import QUESTIONS, LoadRecord, load_on
from tenure.bench.servers import ServerProcess, lower_priority, serving, tenure_command
from tenure.errors import TenureError
from tenure.store.library import Store

NUM_SWAPS = 20
NUM_REQUESTS = 5000
AROUND_SECONDS = 1.0


def measure_swaps(home: Path, digest: str, *, seed: int, num_requests: int = NUM_REQUESTS) -> dict[str, Any]:
    """`failed_requests`, `swap_requests`, `swap_p99_ratio`, the two p99s in milliseconds, and what the nights did.

    `home` holds a version of that digest which passed its gate in a night of that seed and is not promoted. Raises
    TenureError when the night beside one of the halves learned nothing: then the halves don't compare.
    """
    questions = [text for pair in zip(learned_questions(home, digest), cycle(QUESTIONS), strict=False) for text in pair]
    moved: list[float] = []
    with tempfile.TemporaryDirectory(prefix="tenure-swaps-") as folder:
        asides = [Path(shutil.copytree(home, Path(folder) / half)) for half in ("calm", "swapped")]
        before = [num_learned(aside) for aside in asides]
        with serving(home) as server:
            with training(asides[0], seed):
                calm = under_load(server, questions, [], num_requests // 4)
                swap(server, digest, forward=True)
                calm = calm.with_those_of(under_load(server, questions, [], num_requests // 4))
                swap(server, digest, forward=False)
            with training(asides[1], seed):
                swapped = under_load(server, questions, moved, num_requests // 2, digest=digest)
        learned = [num_learned(aside) - count for aside, count in zip(asides, before, strict=True)]
    if not all(learned):
        raise TenureError(f"the nights beside the load learned {learned} modules; see that `tenure sleep` runs there")
    windows = [(at - AROUND_SECONDS, at + AROUND_SECONDS) for at in moved]
    around, without = swapped.percentile(0.99, windows), calm.percentile(0.99)
    return {
        "failed_requests": len(calm.failed) + len(swapped.failed),
        "swap_requests": calm.num_requests + swapped.num_requests,
        "num_swaps": len(moved),
        "versions_seen": len(swapped.fingerprints),
        "swap_p99_ratio": around / without if without and not math.isnan(around) else None,
        "swap_p99_milliseconds": around * 1e3,
        "calm_p99_milliseconds": without * 1e3,
        "modules_learned_beside": learned,
        "first_failures": [*calm.failed, *swapped.failed][:3],
    }


def learned_questions(home: Path, digest: str) -> list[str]:
    """The held-out questions of what a version learned, as they end."""
    with Store.open(home) as store:
        exams = [part["exam"] for part in store.registry.lineage(digest).candidates.values()]
        items = chain.from_iterable(json.loads(store.objects.bytes(exam))["items"] for exam in exams)
        return [str(item["messages"][-1]["content"]) for item in items]


def num_learned(home: Path) -> int:
    """How many modules the nights of a home have finished."""
    with Store.open(home) as store:
        nights = store.nights.list(limit=1000)
        return sum(name.startswith("learn ") for night in nights for name in store.nights.checkpoints(night.id))


def under_load(
    server: ServerProcess, questions: Sequence[str], moved: list[float], num_requests: int, *, digest: str = ""
) -> LoadRecord:
    """Load until `num_requests` are through; with a digest, promote it and roll it back in turn, twenty times."""
    with load_on(str(server.client.base_url), questions=questions) as record:
        while record.num_requests < num_requests:
            time.sleep(0.5)
            due = len(moved) < NUM_SWAPS * record.num_requests / num_requests
            if digest and due and len(moved) < NUM_SWAPS:
                swap(server, digest, forward=len(moved) % 2 == 0)
                moved.append(time.monotonic())
    return record


def swap(server: ServerProcess, digest: str, *, forward: bool) -> None:
    """Move the champion over the admin door."""
    path, body = ("promote", {"digest": digest}) if forward else ("rollback", {})
    server.client.post(f"/v1/admin/{path}", json=body).raise_for_status()


@contextmanager
def training(home: Path, seed: int) -> Iterator[None]:
    """Nights that train over and over at low priority, and never promote; of a seed whose self-study is done."""
    command = [*tenure_command(home), "sleep", "--propose", "--json", "--seed", str(seed)]
    script = "import json, subprocess, sys\nwhile True: subprocess.run(json.loads(sys.argv[1]), stdout=-3, stderr=-3)"
    process = subprocess.Popen(
        [command[0], "-c", script, json.dumps(command)], preexec_fn=lower_priority, start_new_session=True
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
