"""The night on the tiny model: what it ends with, and that nothing but a passed verdict moves the champion.

The tiny model can't write questions, so the self-study stage is given as a checkpoint, the way an interrupted night
leaves it: every later stage is the real one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tenure.config import Config, load_config
from tenure.errors import Cancelled, OutOfTime, Refused
from tenure.model.requests import Sampling
from tenure.modules.distil_lora import DistilLora
from tenure.modules.router import Router
from tenure.runtime import ChatCall, Runtime
from tenure.sleep import cycle
from tenure.sleep.assembly import assemble
from tenure.sleep.curation import Curated
from tenure.sleep.cycle import NightSettings, gate_seconds, learned_sources, outdated_modules
from tenure.sleep.examiner import suites_for
from tenure.sleep.journal import Journal
from tenure.types import Alias, Audience, Candidate, Episode, Message, Outcome, Scope

ANNA = Scope("acme", "anna")
FACTS = (
    ("The gate code of the Ostrel depot is 4471.", "What is the gate code of the Ostrel depot?", "4471"),
    ("Mara Quell runs the Brannick yard.", "Who runs the Brannick yard?", "Mara Quell"),
    ("The Tolm bridge opens at noon.", "When does the Tolm bridge open?", "noon"),
)


def config_of(tiny_model_directory: Path, home: Path, **changes: object) -> Config:
    flags = {"model.name": str(tiny_model_directory), "store.home": str(home), "model.precision": "fp32"}
    more = {name.replace("__", "."): value for name, value in changes.items()}
    return load_config(flags={**flags, "model.threads": 1, **more}, environment={})


@pytest.fixture
def runtime(tiny_model_directory: Path, tmp_path: Path) -> Iterator[Runtime]:
    opened = Runtime.open(config_of(tiny_model_directory, tmp_path))
    yield opened
    opened.close()


def tell(runtime: Runtime) -> None:
    for told, _, _ in FACTS:
        runtime.chat(ChatCall((Message("user", told),), ANNA, sampling=Sampling(max_tokens=2))).result()


def studied() -> list[Episode]:
    """What self-study would leave: the same question to learn and, held out, to be examined on."""
    episodes = []
    for number, (told, question, answer) in enumerate(FACTS):
        for held_out in (False, True):
            episodes.append(
                Episode(
                    id=f"e{number}-{held_out}",
                    messages=(Message("user", question),),
                    context=told,
                    target=answer,
                    source_ids=(f"src_{number}", f"turn_{number}"),
                    scope=ANNA,
                    audience=Audience.PRINCIPAL,
                    held_out=held_out,
                    answer=answer,
                )
            )
    return episodes


def interrupted_after_study(runtime: Runtime, settings: NightSettings) -> str:
    """A night that was cut off after self-study."""
    night_id = runtime.store.nights.queue(asdict(settings), asked_by="test")
    journal = Journal.begin(runtime.store, asdict(settings), night_id, budget_seconds=settings.budget_seconds)
    journal.keep_episodes("synthesize", studied())
    return night_id


def settings_of(runtime: Runtime, **changes: object) -> NightSettings:
    return NightSettings.of(runtime.config, **{"budget_seconds": 60.0, **changes})


def test_with_nothing_told_there_is_nothing_to_learn_and_a_reason(runtime: Runtime) -> None:
    result = runtime.sleep(settings_of(runtime))
    assert result.status == "nothing"
    assert "0 new statements" in result.reason
    assert runtime.store.nights.get(result.night_id).status == "nothing"


@pytest.mark.parametrize("slow", [{0}, {0, 1}, {0, 1, 2}])
def test_a_statement_without_time_for_a_step_is_left_to_the_next_night(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, slow: set[int]
) -> None:
    """Other work on the machine may take a module's whole share; the others are learned all the same."""
    tell(runtime)
    learn, calls = DistilLora.learn, []

    def sometimes_late(self: DistilLora, *arguments: object, **more: object) -> object:
        calls.append(len(calls))
        if calls[-1] in slow:
            raise OutOfTime("no step fits into -0.2 seconds; give the learner a larger budget")
        return learn(self, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(DistilLora, "learn", sometimes_late)
    settings = settings_of(runtime, learner="distil-lora")
    night_id = interrupted_after_study(runtime, settings)
    if len(slow) == len(FACTS):
        with pytest.raises(OutOfTime):
            runtime.sleep(settings, night_id=night_id)
        return
    result = runtime.sleep(settings, night_id=night_id)
    assert len(runtime.store.registry.version(result.version).modules) == len(FACTS) - len(slow)
    events = [event.message for event in runtime.store.nights.events(night_id)]
    assert sum("next night's" in text for text in events) == len(slow)


@pytest.mark.parametrize("learner", ["naive-sft", "distil-lora"])
def test_a_version_that_does_not_pass_is_refused_and_the_champion_stays(runtime: Runtime, learner: str) -> None:
    tell(runtime)
    before = runtime.store.registry.aliases()[Alias.CHAMPION]
    settings = settings_of(runtime, learner=learner)
    result = runtime.sleep(settings, night_id=interrupted_after_study(runtime, settings))
    assert result.status == "refused"
    assert result.verdict is not None
    assert result.verdict.outcome is not Outcome.PASSED
    assert result.reason
    assert runtime.store.registry.aliases()[Alias.CHAMPION] == before
    with pytest.raises(Refused):
        runtime.promote(result.version)


def test_a_cancelled_night_stops_before_its_next_stage(runtime: Runtime) -> None:
    tell(runtime)
    settings = settings_of(runtime)
    night_id = interrupted_after_study(runtime, settings)
    runtime.store.nights.cancel(night_id)
    with pytest.raises(Cancelled):
        runtime.sleep(settings, night_id=night_id)
    assert runtime.store.nights.get(night_id).status == "cancelled"


def test_a_night_that_was_cut_off_goes_on_with_what_it_had(runtime: Runtime) -> None:
    tell(runtime)
    settings = settings_of(runtime)
    night_id = interrupted_after_study(runtime, settings)
    result = runtime.sleep(settings, night_id=night_id)
    learned = runtime.store.nights.checkpoints(night_id)
    assert {"synthesize", "assemble", *(f"learn acme/anna src_{i}" for i in range(3))} <= set(learned)
    assert result.num_episodes == len(studied())


def test_every_statement_gets_a_module_that_names_its_own_source(runtime: Runtime) -> None:
    tell(runtime)
    settings = settings_of(runtime)
    result = runtime.sleep(settings, night_id=interrupted_after_study(runtime, settings))
    version = runtime.store.registry.version(result.version)
    parts = runtime.store.registry.lineage(result.version).candidates
    assert len(version.modules) == 3 and all(m.owner == "acme/anna" for m in version.modules)
    assert {m.digest: parts[m.digest]["source_ids"] for m in version.modules} == {
        m.digest: [f"src_{i}", f"turn_{i}"] for i, m in enumerate(version.modules)
    }
    router = Router.load(runtime.store.objects.path(version.router))
    known = {k.module: k.statement for d in router.detectors for k in d.known}
    assert known == {m.digest: told for m, (told, _, _) in zip(version.modules, FACTS, strict=True)}


def test_what_was_corrected_goes_and_is_asked_for_no_more(runtime: Runtime) -> None:
    tell(runtime)
    settings = settings_of(runtime)
    first = runtime.sleep(settings, night_id=interrupted_after_study(runtime, settings)).version
    registry, house = runtime.store.registry, runtime.house()
    modules = [m.digest for m in registry.version(first).modules]
    dropped = (("src_1", "superseded: src_9 says otherwise"), ("src_2", "already learnt"), ("turn_0", "nothing told"))
    outdated = outdated_modules(house, first, Curated((), dropped))
    assert outdated == {modules[1]}
    second = registry.put(assemble(registry.version(first), remove=outdated))
    registry.set_lineage(second, parent=first, source_ids=[], candidates={})
    (retention,) = [s for s in suites_for(house, second) if s.name == "retention"]
    assert sorted(item.family for item in retention.items) == ["src_0", "src_2"]


def test_what_was_learned_from_an_erased_turn_goes(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(runtime)
    settings = settings_of(runtime)
    version = runtime.sleep(settings, night_id=interrupted_after_study(runtime, settings)).version
    house = runtime.house()
    modules = [m.digest for m in house.store.registry.version(version).modules]
    assert outdated_modules(house, version, Curated((), ())) == frozenset()
    monkeypatch.setattr(type(house.store.ledger), "erased", lambda _: frozenset({"turn_2", "turn_7"}))
    assert outdated_modules(house, version, Curated((), ())) == {modules[2]}


def test_a_night_killed_while_learning_keeps_the_modules_that_were_done(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(runtime)
    settings = settings_of(runtime)
    night_id = interrupted_after_study(runtime, settings)
    taught: list[str] = []
    learn = DistilLora.learn

    def dying(self: DistilLora, model: object, episodes: Sequence[Episode], **more: Any) -> Candidate:
        taught.append(episodes[0].source_ids[0])
        if len(taught) == 2:
            raise KeyboardInterrupt
        return learn(self, model, episodes, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(DistilLora, "learn", dying)
    with pytest.raises(KeyboardInterrupt):
        runtime.sleep(settings, night_id=night_id)
    result = runtime.sleep(settings, night_id=night_id)
    assert taught == ["src_0", "src_1", "src_1", "src_2"]
    assert len(runtime.store.registry.version(result.version).modules) == 3


def test_what_no_time_is_left_for_stays_for_the_next_night(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(runtime)
    settings = settings_of(runtime, budget_seconds=10.0)
    learn = DistilLora.learn
    shares: list[float] = []

    def slow(self: DistilLora, model: object, episodes: Sequence[Episode], **more: Any) -> Candidate:
        shares.append(more["budget_seconds"])
        candidate = learn(self, model, episodes, **{**more, "budget_seconds": 60.0})  # type: ignore[arg-type]
        time.sleep(max(0.0, 5.5 - candidate.seconds))
        return candidate

    monkeypatch.setattr(DistilLora, "learn", slow)
    result = runtime.sleep(settings, night_id=interrupted_after_study(runtime, settings))
    lineage = runtime.store.registry.lineage(result.version)
    assert len(shares) == 1 and 0 < shares[0] < 2.3
    assert lineage.source_ids == ("src_0", "turn_0")
    assert set(learned_sources(runtime.house(), result.version)) == {"src_0", "turn_0"}


def test_the_exams_seconds_are_kept_from_learning(runtime: Runtime) -> None:
    house, nights = runtime.house(), runtime.store.nights

    def spent(status: str, seconds: float) -> None:
        night_id = nights.queue({}, asked_by="test")
        nights.finish(night_id, status, {"seconds": {"gate": seconds}})

    assert gate_seconds(house, 100.0) == 35.0  # nothing is known yet
    spent("proposed", 20.0)
    spent("refused", 60.0)  # of another kind
    assert gate_seconds(house, 100.0) == 20.0
    spent("promoted", 40.0)
    spent("promoted", 3.0)  # went on where it had been killed
    assert gate_seconds(house, 100.0) == 40.0


def test_something_is_left_for_learning_however_long_exams_take(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(runtime)
    monkeypatch.setattr(cycle, "gate_seconds", lambda *_: 1e6)
    settings = settings_of(runtime)
    result = runtime.sleep(settings, night_id=interrupted_after_study(runtime, settings))
    assert len(runtime.store.registry.version(result.version).modules) == len(FACTS)


def test_what_a_night_had_spent_before_it_was_cut_off_stays_spent(runtime: Runtime) -> None:
    settings = settings_of(runtime)
    night_id = runtime.store.nights.queue(asdict(settings), asked_by="test")
    first = Journal.begin(runtime.store, asdict(settings), night_id, budget_seconds=60.0)
    time.sleep(0.2)
    first.checkpoint("learn one", {"digest": "d"})
    again = Journal.begin(runtime.store, asdict(settings), night_id, budget_seconds=60.0)
    assert again.left_seconds <= 59.8
    assert again.finished("learn one") == {"digest": "d"}


def test_a_night_cancelled_while_learning_stops_before_the_next_statement(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(runtime)
    settings = settings_of(runtime)
    night_id = interrupted_after_study(runtime, settings)
    learn = DistilLora.learn

    def cancelling(self: DistilLora, model: object, episodes: Sequence[Episode], **more: Any) -> Candidate:
        runtime.store.nights.cancel(night_id)
        return learn(self, model, episodes, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(DistilLora, "learn", cancelling)
    with pytest.raises(Cancelled):
        runtime.sleep(settings, night_id=night_id)
    assert [name for name in runtime.store.nights.checkpoints(night_id) if name.startswith("learn")] == [
        "learn acme/anna src_0"
    ]


def test_what_an_earlier_night_studied_is_found_by_its_very_subject(runtime: Runtime) -> None:
    first, second = (
        Journal(runtime.store, runtime.store.nights.queue({}, asked_by="test"), budget_seconds=60.0) for _ in range(2)
    )
    first.keep_episodes("synthesize", studied(), subject="the same sources, seed and base")
    assert second.earlier_episodes("synthesize", "the same sources, seed and base") == tuple(studied())
    assert second.earlier_episodes("synthesize", "others") is None
    assert second.kept_episodes("synthesize") is None


def test_the_night_belongs_to_one_process(runtime: Runtime) -> None:
    night_id = interrupted_after_study(runtime, settings_of(runtime))
    assert runtime.store.nights.get(night_id).pid == os.getpid()
    running = runtime.store.nights.running()
    assert running is not None
    assert running.alive
    assert replace(settings_of(runtime), seed=1) != settings_of(runtime)
