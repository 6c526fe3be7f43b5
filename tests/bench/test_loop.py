"""The loop's parts: what is finished isn't measured again, and what a world gives before its night is apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tenure.bench import loop
from tenure.config import Config, load_config
from tenure.errors import TenureError

NIGHT = {"seed": 1, "night_status": "refused", "passed": False, "commit": "old", "closed_book_heldout": 0.5}


def told(accuracy: float) -> dict[str, Any]:
    return {
        "told_once_accuracy": accuracy,
        "told_once": [True],
        "cross_principal_leaks": 0,
        "noted": [True, False, True],
        "told_commit": "new",
    }


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    return load_config(flags={}, environment={})


def test_a_world_is_measured_once_and_what_it_was_told_can_be_measured_alone(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []

    def trial(*_: Any, **more: Any) -> dict[str, Any]:
        measured.append(f"night {more['seed']}")
        return NIGHT | told(0.5)

    def alone(*_: Any, **__: Any) -> dict[str, Any]:
        measured.append("told")
        return told(0.9)

    monkeypatch.setattr(loop, "run_trial", trial)
    monkeypatch.setattr(loop, "run_told", alone)
    loop.run(config, seeds="1")
    loop.run(config, seeds="1")
    assert measured == ["night 1"]
    assert not set(loop.TOLD) & set(json.loads(loop.part("loop-1").read_text()))
    loop.part("told-1").unlink()
    loop.run(config, seeds="1")
    assert measured == ["night 1", "told"]
    metrics = json.loads(Path("bench/results/loop.json").read_text())["metrics"]
    assert metrics["told_once_accuracy"] == 0.9
    assert (metrics["commits"], metrics["told_commits"]) == (["old"], ["new"])


def test_the_first_version_that_passes_gives_the_swaps(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    passed = NIGHT | told(0.5) | {"night_status": "proposed", "version": "v", "routed": [True, True, False]}
    swapped = []

    def swaps(_: Path, version: str, *, seed: int) -> dict[str, Any]:
        swapped.append((version, seed))
        if seed == 0:
            raise TenureError("the nights beside the load learned [0, 3] modules")
        return {"failed_requests": 0}

    monkeypatch.setattr(loop, "run_trial", lambda *_, **more: dict(passed) | {"seed": more["seed"]})
    monkeypatch.setattr(loop, "measure_swaps", swaps)
    loop.run(config, seeds="0-2")
    assert swapped == [("v", 0), ("v", 1)]
    metrics = json.loads(Path("bench/results/loop.json").read_text())["metrics"]
    assert metrics["failed_requests"] == 0
    assert metrics["router_with_text"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(("text", "seeds"), [("0-2,5", [0, 1, 2, 5]), ("7", [7])])
def test_seeds_are_ranges_and_numbers(text: str, seeds: list[int]) -> None:
    assert loop.parse_seeds(text) == seeds
