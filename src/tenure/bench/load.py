"""Load on a server: a few clients that never stop asking, and what became of each request.

Called by the demo and the loop benchmark.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

QUESTIONS = (
    "Name a colour.",
    "Say hello.",
    "What is two plus three?",
    "Name an animal that lives in water.",
    "What do bees make?",
    "Name a fruit.",
)


@dataclass(slots=True)
class LoadRecord:
    """(start, seconds) of every finished request, and the words of every failed one."""

    done: list[tuple[float, float]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    fingerprints: set[str] = field(default_factory=set)

    @property
    def num_requests(self) -> int:
        """Finished and failed ones."""
        return len(self.done) + len(self.failed)

    def with_those_of(self, other: LoadRecord) -> LoadRecord:
        """Both loads as one record."""
        return LoadRecord(
            [*self.done, *other.done], [*self.failed, *other.failed], self.fingerprints | other.fingerprints
        )

    def percentile(self, share: float, windows: Sequence[tuple[float, float]] | None = None) -> float:
        """Latency in seconds below which `share` of the requests that began in the windows (all: None) stayed."""
        taken = sorted(
            seconds for began, seconds in self.done if windows is None or any(a <= began <= b for a, b in windows)
        )
        return taken[min(len(taken) - 1, int(share * len(taken)))] if taken else float("nan")


@contextmanager
def load_on(
    base_url: str,
    *,
    key: str = "",
    questions: Sequence[str] = QUESTIONS,
    num_clients: int = 4,
    max_tokens: int = 8,
) -> Iterator[LoadRecord]:
    """Keep `num_clients` clients asking short questions in turn while the block runs; times are `time.monotonic`."""
    record = LoadRecord()
    stop = threading.Event()

    def ask(number: int) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with httpx.Client(base_url=base_url, headers=headers, timeout=120.0) as client:
            turn = number
            while not stop.is_set():
                turn += 1
                body = {
                    "model": "champion",
                    "messages": [{"role": "user", "content": questions[turn % len(questions)]}],
                    "max_tokens": max_tokens,
                    "store": False,
                }
                began = time.monotonic()
                try:
                    reply = client.post("/v1/chat/completions", json=body)
                    if reply.status_code == 200:
                        record.done.append((began, time.monotonic() - began))
                        record.fingerprints.add(reply.json()["system_fingerprint"])
                    else:
                        record.failed.append(f"{reply.status_code}: {reply.text[:200]}")
                except httpx.HTTPError as error:
                    record.failed.append(repr(error))

    threads = [threading.Thread(target=ask, args=(n,), daemon=True) for n in range(num_clients)]
    for thread in threads:
        thread.start()
    try:
        yield record
    finally:
        stop.set()
        for thread in threads:
            thread.join()
