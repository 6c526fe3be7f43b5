"""A world told, slept on and examined, on the tiny model: every number is there, and reversal tells same from other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tenure.bench import loop, trial
from tenure.bench.worlds.world import Fact, World
from tenure.config import Config, load_config
from tenure.gates.attested import attest_verdict
from tenure.gates.suites import Suite, general_suite, neutral_suite
from tenure.runtime import Runtime
from tenure.sleep import cycle
from tenure.sleep.curation import Source
from tenure.sleep.synthesis import Synthesis
from tenure.types import Alias, Episode, Message, Outcome, QuestionItem, SilenceItem, Verdict

TOLD = (
    ("The gate code of the Ostrel depot is 4471.", "What is the gate code of the Ostrel depot?", "4471"),
    ("Mara Quell runs the Brannick yard.", "Who runs the Brannick yard?", "Mara Quell"),
    ("The Tolm bridge opens at noon.", "When does the Tolm bridge open?", "noon"),
)


STUDIES: list[int] = []  # how many sources each had


def silent_on(name: str, text: str, kind: str) -> SilenceItem:
    return SilenceItem(name, kind, (Message("user", text),), kind)


def small_world() -> World:
    questions = [
        QuestionItem(f"q{n}", f"f{n}", (Message("user", asked),), (answer,))
        for n, (_, asked, answer) in enumerate(TOLD)
    ]
    facts = tuple(Fact(f"f{n}", "", answer, (told,), (questions[n],)) for n, (told, _, answer) in enumerate(TOLD))
    near = (
        silent_on("n0", "Who paints the Ostrel depot?", "same_entity"),
        silent_on("n1", "Who runs Vell?", "neighbour"),
    )
    return World("small", facts, near, tuple(questions), (silent_on("u0", "Name a colour.", "unrelated"),))


def studied(_: Any, __: Any, sources: Sequence[Source], **___: Any) -> Synthesis:
    """What self-study would leave, which the tiny model can't do."""
    STUDIES.append(len(sources))
    asked = {told: (question, answer) for told, question, answer in TOLD}
    episodes = [
        Episode(
            id=f"{source.id}-{held_out}",
            messages=(Message("user", asked[source.text][0]),),
            context=source.text,
            target=asked[source.text][1],
            source_ids=(source.id, *source.turn_ids),
            scope=source.scope,
            held_out=held_out,
            answer=asked[source.text][1],
        )
        for source in sources
        for held_out in (False, True)
    ]
    return Synthesis(tuple(episodes), {}, 0.0)


def some(suite: Suite) -> Suite:
    return replace(suite, items=suite.items[:12])


@pytest.fixture
def config(tiny_model_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    STUDIES.clear()
    monkeypatch.setattr(cycle, "synthesize", studied)
    monkeypatch.setattr(trial, "general_suite", lambda: some(general_suite()))
    monkeypatch.setattr(trial, "neutral_suite", lambda: some(neutral_suite()))
    flags = {"model.name": str(tiny_model_directory), "model.precision": "fp32", "model.threads": 1}
    return load_config(flags={**flags, "night.min_sources": 1, "night.budget_seconds": 40.0}, environment={})


def test_a_trial_gives_what_the_benchmark_pools(config: Config, tmp_path: Path) -> None:
    numbers = trial.run_trial(config, small_world(), seed=0, home=tmp_path)
    assert (numbers["night_status"], numbers["passed"], numbers["naive_refused"]) == ("refused", False, True)
    assert len(numbers["closed_book"]) == len(numbers["noted"]) == len(numbers["routed"]) == 3
    assert numbers["cross_principal_leaks"] == 0
    assert set(numbers["activation_by_kind"]) == {"paraphrase"}
    assert set(numbers["near_miss_activated_by_kind"]) == {"same_entity", "neighbour"}
    assert len(STUDIES) == 1  # the foil took ours
    late = {"rollback_seconds", "promotion_moved"}  # measured where a version passed
    pooled = loop.pooled([numbers])
    assert set(loop.MEANS) - late <= set(pooled)
    assert pooled["activation_by_kind/paraphrase"] == [numbers["activation_related"]]


def test_reversal_sees_the_other_version_and_the_first_again(config: Config, tmp_path: Path) -> None:
    home = replace(config, store=replace(config.store, home=str(tmp_path)))
    assert trial.run_trial(home, small_world(), seed=0, home=tmp_path)["naive_refused"]
    runtime = Runtime.open(home)
    try:
        version = next(r.digest for r in runtime.store.registry.versions() if r.version.deltas)
        base = runtime.store.registry.aliases()[Alias.ANCHOR]
        verdict = Verdict(version, base, base, Outcome.PASSED, (), ("a test",), 0.05)
        attest_verdict(runtime.store.registry, verdict)
        measured = trial.reversal(runtime, small_world(), version)
        assert measured["promotion_moved"] == 3
        assert measured["rollback_bit_identical"] is True
    finally:
        runtime.close()
