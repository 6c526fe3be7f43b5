"""bench-loop: ten worlds of 24 facts, told once, slept on, examined; then versions swapped under load.

Each world is a seed of its own and is kept when it is done (`bench/results/parts/`, in the repository, with the commit
that made it), so that the benchmark resumes, on another day if need be; delete a part to measure it again. What a world
gives before its first night is a part of its own (`told-N.json`): a minute to measure anew, where a night takes half an
hour. Targets stand in the issue tracker and in docs/benchmarks.md.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tenure.bench.asking import share
from tenure.bench.record import commit, write_result
from tenure.bench.swaps import measure_swaps
from tenure.bench.trial import TOLD, run_told, run_trial
from tenure.bench.worlds.generator import world
from tenure.config import Config
from tenure.errors import TenureError
from tenure.gates.statistics import cluster_bootstrap_bounds
from tenure.model.progress import Progress

log = logging.getLogger(__name__)

PARTS = Path("bench/results/parts")
MEANS = (
    "base_closed_book",
    "closed_book_heldout",
    "forced_closed_book",
    "general_delta",
    "forced_general_delta",
    "base_general",
    "near_miss_changed",
    "near_miss_activated",
    "activation_related",
    "activation_unrelated",
    "zeroed_closed_book",
    "module_bytes_per_fact",
    "naive_closed_book_heldout",
    "naive_general_delta",
    "naive_kl_to_base",
    "kl_to_base",
    "told_once_accuracy",
    "night_seconds",
    "synthesize_seconds",
    "learn_seconds",
    "learn_steps",
    "final_loss",
    "gate_seconds",
    "rollback_seconds",
    "promotion_moved",
)
BY_KIND = ("closed_book_by_kind", "activation_by_kind", "near_miss_activated_by_kind")  # the mean over worlds of each


def run(config: Config, *, seeds: str = "", progress: Progress | None = None) -> None:
    """Run the seeds that aren't there yet ("0-9" by default), then pool all that are."""
    wanted = parse_seeds(seeds or "0-9")
    for seed in wanted:
        if not part(f"loop-{seed}").exists():
            measure(config, seed, progress)
        elif not part(f"told-{seed}").exists():
            with tempfile.TemporaryDirectory(prefix="tenure-told-") as folder:
                told = run_told(config, world(seed), home=Path(folder), progress=progress)
                save_part(told, part(f"told-{seed}"))
    done = [kept(f"loop-{seed}") | kept(f"told-{seed}") for seed in wanted]
    swapped = kept("swaps") if part("swaps").exists() else {"swap_note": "no version to swap to"}
    write_result("loop", pooled(done) | swapped, seeds=wanted)


def measure(config: Config, seed: int, progress: Progress | None) -> None:
    """A whole world; the first version that passes also gives the swaps."""
    with tempfile.TemporaryDirectory(prefix="tenure-loop-") as folder:
        numbers = run_trial(config, world(seed), seed=seed, home=Path(folder), progress=progress)
        save_part({key: numbers.pop(key) for key in TOLD}, part(f"told-{seed}"))
        save_part(numbers, part(f"loop-{seed}"))
        if numbers["night_status"] == "proposed" and not part("swaps").exists():
            try:
                swapped = measure_swaps(Path(folder), numbers["version"], seed=seed)
                save_part(swapped | {"swap_commit": commit()}, part("swaps"))
            except TenureError as error:
                log.warning("world %d gave no swaps, the next one may: %s", seed, error)


def part(name: str) -> Path:
    """Where a finished part is kept."""
    return PARTS / f"{name}.json"


def kept(name: str) -> dict[str, Any]:
    """A finished part."""
    numbers: dict[str, Any] = json.loads(part(name).read_text("utf8"))
    return numbers


def save_part(numbers: Mapping[str, Any], path: Path) -> None:
    """Keep a finished part, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".tmp")
    aside.write_text(json.dumps(numbers), "utf8")
    aside.rename(path)


def parse_seeds(text: str) -> list[int]:
    """ "0-2,5" as [0, 1, 2, 5]. Raises ValueError for anything else."""
    seeds: list[int] = []
    for run in text.split(","):
        first, dash, last = run.partition("-")
        seeds += range(int(first), int(last) + 1) if dash else [int(first)]
    return seeds


def pooled(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The metrics over seeds: means with intervals, pooled bounds, and counts."""
    metrics: dict[str, Any] = {}
    for key in MEANS:
        values = [trial[key] for trial in trials if trial.get(key) is not None]
        if values:
            metrics[key] = [float(value) for value in values]
    with_text = [
        share([fires and mark for fires, mark in zip(trial["routed"], trial["noted"], strict=True)])
        for trial in trials
        if "routed" in trial and "noted" in trial
    ]
    if with_text:
        metrics["router_with_text"] = with_text
    right = [float(mark) for trial in trials for mark in trial.get("closed_book", ())]
    if right:
        facts = [f"{trial['seed']}/{fact}" for trial in trials for fact in trial.get("facts", ())]
        metrics["closed_book_lower95"] = lower_bound(right, facts)
    moved = [float(d) for trial in trials for d in trial.get("general_differences", ())]
    if moved:
        families = [f"{t['seed']}/{family}" for t in trials for family in t.get("general_families", ())]
        metrics["general_delta_lower95"] = lower_bound(moved, families)
    for key in BY_KIND:
        found = [trial[key] for trial in trials if key in trial]
        kinds = sorted({kind for shares in found for kind in shares})
        of_kind = {kind: [shares[kind] for shares in found if kind in shares] for kind in kinds}
        metrics |= {f"{key}/{kind}": values for kind, values in of_kind.items()}
    metrics["naive_refused"] = sum(bool(trial.get("naive_refused")) for trial in trials)
    metrics["cross_principal_leaks"] = sum(trial["cross_principal_leaks"] for trial in trials)
    metrics["rollback_bit_identical"] = bool(trials) and all(
        trial.get("rollback_bit_identical") and trial.get("promotion_moved", 1) for trial in trials
    )
    metrics["nights_passed"] = sum(bool(trial.get("passed")) for trial in trials)
    metrics["num_worlds"] = len(trials)
    for key in ("commit", "told_commit"):
        metrics[f"{key}s"] = sorted({str(trial.get(key, "")) for trial in trials})
    return metrics


def lower_bound(values: Sequence[float], clusters: Sequence[str]) -> float:
    """One-sided lower 95 % bound of a mean by a bootstrap over clusters."""
    return cluster_bootstrap_bounds(values, clusters, 0.05)[0]
