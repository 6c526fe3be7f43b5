"""The benchmarks by name: `tenure bench NAME`, `make bench-NAME`.

A literal dict; each runner imports its own file when it is called, so that the command line starts fast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module

from tenure.bench.record import commit
from tenure.config import Config
from tenure.model.progress import Progress


def _runner(module: str) -> Callable[..., None]:
    def run(config: Config, *, seeds: str = "", progress: Progress | None = None) -> None:
        commit()  # what runs is what is checked out now
        import_module(module).run(config, **({"seeds": seeds} if seeds else {}), progress=progress)

    return run


BENCHMARKS: Mapping[str, Callable[..., None]] = {
    "loop": _runner("tenure.bench.loop"),
    "rehearsal": _runner("tenure.bench.rehearsal"),
    "engine": _runner("tenure.bench.engine"),
    "ledger": _runner("tenure.bench.ledger"),
    "crash": _runner("tenure.bench.crash"),
    "retrieval": _runner("tenure.bench.retrieval.measure"),
}
