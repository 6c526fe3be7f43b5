"""Swapping the served version under load: failed requests, and the latency around swaps over that without any.

The home of a world of the loop, with the version that passed its gate there; a server over it in a process of its own;
a night that trains in another one at low priority; clients that never stop asking. Half of the requests see no swap,
half see twenty. Called by `bench.loop`.
"""

from __future__ import annotations

import json
import math
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tenure.bench.load import LoadRecord, load_on
from tenure.bench.servers import ServerProcess, lower_priority, serving, tenure_command

NUM_SWAPS = 20
NUM_REQUESTS = 5000
AROUND_SECONDS = 1.0


def measure_swaps(home: Path, digest: str) -> dict[str, Any]:
    """`failed_requests`, `swap_requests`, `swap_p99_ratio` and the two p99s in milliseconds.

    `home` holds a version of that digest which passed its gate and is not promoted.
    """
    with serving(home) as server, training(home):
        calm = under_load(server, [], NUM_REQUESTS // 2)
        moved: list[float] = []
        swapped = under_load(server, moved, NUM_REQUESTS // 2, digest=digest)
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
        "first_failures": [*calm.failed, *swapped.failed][:3],
    }


def under_load(server: ServerProcess, moved: list[float], num_requests: int, *, digest: str = "") -> LoadRecord:
    """Load until `num_requests` are through; with a digest, promote it and roll it back in turn, twenty times."""
    with load_on(str(server.client.base_url), num_clients=4) as record:
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


class training:  # noqa: N801 (used as a context manager, like `serving`)
    """Nights that train over and over at low priority, and never promote."""

    def __init__(self, home: Path, options: Sequence[str] = ()) -> None:
        self._command = [*tenure_command(home, options), "sleep", "--propose", "--json"]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> None:
        script = (
            "import json, subprocess, sys\nwhile True: subprocess.run(json.loads(sys.argv[1]), stdout=-3, stderr=-3)"
        )
        command = [self._command[0], "-c", script, json.dumps(self._command)]
        self._process = subprocess.Popen(command, preexec_fn=lower_priority, start_new_session=True)

    def __exit__(self, *exc: object) -> None:
        import os
        import signal

        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
