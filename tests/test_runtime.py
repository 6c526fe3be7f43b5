"""A request through the whole house on the tiny model: kept, recalled, explained, replayed, refused when it must be."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tenure.config import Config, load_config
from tenure.errors import IdempotencyClash, ModelError, NotFound, Refused
from tenure.model.language_model import load_language_model
from tenure.model.lowrank import Placement
from tenure.model.requests import Sampling
from tenure.model.training import Schedule
from tenure.modules.served import NUM_ASIDE
from tenure.modules.skills import written_facts
from tenure.modules.teaching import asking_examples, teach
from tenure.runtime import ChatCall, Reply, Runtime
from tenure.types import Alias, Audience, Feedback, FeedbackKind, Message, ModuleKind, ModuleRef, Role, Scope

ANNA, BEN = Scope("acme", "anna"), Scope("acme", "ben")
ADMIN = frozenset(Role)


@pytest.fixture
def config(tiny_model_directory: Path, tmp_path: Path) -> Config:
    flags = {"model.name": str(tiny_model_directory), "store.home": str(tmp_path / "home"), "model.precision": "fp32"}
    return load_config(flags={**flags, "model.threads": 1, "engine.max_context_tokens": 2000}, environment={})


@pytest.fixture
def runtime(config: Config) -> Iterator[Runtime]:
    opened = Runtime.open(config)
    yield opened
    opened.close()


def write_adapter(base: Path, *, seed: int = 0) -> Path:
    """An adapter that fits a base and changes what it says, in a directory beside it."""
    directory = base.parent / f"adapter-{seed}"
    model = load_language_model(base, precision="fp32", threads=1)
    groups = asking_examples(model, written_facts()[:2])
    schedule = Schedule(num_steps=3, learning_rate=0.1)
    placement = Placement(rank=2, alpha=4.0)
    teach(model, groups, directory, placement=placement, schedule=schedule, groups_per_step=1, seed=seed)
    return directory


def say(
    runtime: Runtime, text: str, scope: Scope = ANNA, *, history: tuple[Message, ...] = (), **more: object
) -> Reply:
    call = ChatCall((*history, Message("user", text)), scope, sampling=Sampling(max_tokens=4))
    reply = runtime.chat(replace(call, **more))  # type: ignore[arg-type]
    reply.result()
    return reply


def test_a_turn_is_kept_with_the_version_that_answered(runtime: Runtime) -> None:
    reply = say(runtime, "Hello there.")
    turn = runtime.store.ledger.turn(reply.id)
    assert turn.messages == (Message("user", "Hello there."),)
    assert turn.version == reply.fingerprint == runtime.store.registry.aliases()[Alias.CHAMPION]
    assert turn.effective == reply.effective
    assert turn.reply == reply.result().message


def test_what_was_told_is_used_by_the_next_request_and_why_names_it(runtime: Runtime) -> None:
    told = say(runtime, "The gate code of the Ostrel depot is 4471.")
    question = "What is the gate code of the Ostrel depot?"
    asked = say(runtime, question)
    assert len(asked.memory_ids) == 1
    explained = runtime.why(asked.id, ANNA, frozenset({Role.CHAT}))
    assert [turn.id for turn in explained.sources] == [told.id]
    assert not say(runtime, question, memory=False).memory_ids
    assert not say(runtime, question, BEN).memory_ids


def test_a_reply_is_explained_after_what_it_used_was_forgotten(runtime: Runtime) -> None:
    told = say(runtime, "The gate code of the Ostrel depot is 4471.")
    asked = say(runtime, "What is the gate code of the Ostrel depot?")
    runtime.store.forget([told.id], reason="asked")
    explained = runtime.why(asked.id, ANNA, frozenset({Role.CHAT}))
    assert explained.turn.memory_ids == asked.memory_ids
    assert not explained.memories and not explained.sources


def test_the_ledger_keeps_what_the_client_sent_and_not_what_memory_added(runtime: Runtime) -> None:
    say(runtime, "The gate code of the Ostrel depot is 4471.")
    asked = say(runtime, "What is the gate code of the Ostrel depot?")
    assert "4471" not in runtime.store.ledger.turn(asked.id).messages[-1].content


def test_nobody_explains_somebody_elses_reply(runtime: Runtime) -> None:
    reply = say(runtime, "Hello there.")
    with pytest.raises(NotFound):
        runtime.why(reply.id, BEN, frozenset({Role.CHAT}))
    assert runtime.why(reply.id, BEN, ADMIN).turn.id == reply.id


def test_a_correction_is_remembered_at_once_and_only_by_its_author(runtime: Runtime) -> None:
    reply = say(runtime, "What is the gate code of the Ostrel depot?")
    text = "The gate code of the Ostrel depot is 9902."
    entry = Feedback("fb1", ANNA, FeedbackKind.CORRECTION, time.time(), reply.id, text=text)
    with pytest.raises(NotFound):
        runtime.feedback(replace(entry, id="fb2", scope=BEN))
    runtime.feedback(entry)
    assert say(runtime, "What is the gate code of the Ostrel depot?").memory_ids
    assert not say(runtime, "What is the gate code of the Ostrel depot?", BEN).memory_ids


def test_a_correction_sent_twice_is_remembered_once(runtime: Runtime) -> None:
    """Else forgetting it leaves a copy that no feedback stands behind."""
    reply = say(runtime, "What is the gate code of the Ostrel depot?")
    text = "The gate code of the Ostrel depot is 9902."
    ids = {
        runtime.feedback(
            Feedback(f"fb{i}", ANNA, FeedbackKind.CORRECTION, time.time(), reply.id, text=text), idempotency_key="k"
        )
        for i in range(2)
    }
    assert ids == {"fb0"}
    (memory,) = runtime.store.memories.of_scope(ANNA)
    assert (memory.source_ids, memory.superseded_by) == (("fb0",), None)
    runtime.store.forget(["fb0"], reason="asked")
    assert not runtime.store.memories.of_scope(ANNA)


def test_a_correction_and_what_it_replaces_change_in_one_step(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(runtime, "The gate code of the Ostrel depot is 4471.")
    writes = []
    write = runtime.store.database.write
    monkeypatch.setattr(runtime.store.database, "write", lambda work: writes.append(work) or write(work))
    say(runtime, "Correction: the gate code of the Ostrel depot is 9902.")
    assert len(writes) == 1
    old, new = runtime.store.memories.of_scope(ANNA)
    assert old.superseded_by == new.id


def test_a_repeated_key_gets_the_first_reply_and_another_request_under_it_is_refused(runtime: Runtime) -> None:
    first = say(runtime, "Hello there.", idempotency_key="k")
    again = say(runtime, "Hello there.", idempotency_key="k")
    assert again.id == first.id
    assert again.result().message == first.result().message
    assert sum(1 for _ in runtime.store.ledger.turns()) == 1
    with pytest.raises(IdempotencyClash):
        say(runtime, "Something else.", idempotency_key="k")
    assert say(runtime, "Hello there.", BEN, idempotency_key="k").id != first.id


@pytest.mark.parametrize(
    "other",
    [{"memory": False}, {"model": "base"}, {"tools": ({"type": "function", "function": {"name": "f"}},)}, {"max": 2}],
    ids=lambda other: next(iter(other)),
)
def test_a_key_means_one_request_in_all_that_shapes_its_reply(runtime: Runtime, other: dict[str, object]) -> None:
    say(runtime, "Hello there.", idempotency_key="k")
    changed = {"sampling": Sampling(max_tokens=2)} if "max" in other else other
    with pytest.raises(IdempotencyClash):
        say(runtime, "Hello there.", idempotency_key="k", **changed)
    with pytest.raises(IdempotencyClash):
        say(runtime, "Hello there.", replace(ANNA, user="somebody else"), idempotency_key="k")


def test_a_repeat_is_told_why_the_first_reply_ended_and_what_it_took(runtime: Runtime) -> None:
    first = say(runtime, "Hello there.", idempotency_key="k").result()
    again = say(runtime, "Hello there.", idempotency_key="k").result()
    assert first.finish_reason == "length"
    for name in ("message", "finish_reason", "num_prompt_tokens", "num_reply_tokens"):
        assert getattr(again, name) == getattr(first, name)


def test_a_version_stays_loaded_from_routing_to_the_engine(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """An alias that moves between the two would take its modules away."""
    module = runtime.store.objects.put_directory(write_adapter(runtime.model.directory))
    reference = ModuleRef(module, ModuleKind.LORA, Audience.PUBLIC, "", always_on=True)
    version = runtime.store.registry.put(replace(runtime.model.version(), modules=(reference,)))
    recall = runtime.recall

    def moving(call: ChatCall) -> object:
        runtime.served.keep_only([])
        return recall(call)

    monkeypatch.setattr(runtime, "recall", moving)
    assert say(runtime, "Hello there.", model=version, roles=ADMIN).module_ids == (module,)
    runtime.served.keep_only([])
    assert module not in runtime.engine.attachments


def test_versions_that_no_alias_wants_do_not_pile_up(runtime: Runtime) -> None:
    adapter = write_adapter(runtime.model.directory)
    module = runtime.store.objects.put_directory(adapter)
    digests = []
    for number in range(NUM_ASIDE + 3):
        reference = ModuleRef(module, ModuleKind.LORA, Audience.PUBLIC, f"owner {number}", scale=1 + number)
        digests.append(runtime.store.registry.put(replace(runtime.model.version(), modules=(reference,))))
        say(runtime, "Hello.", model=digests[-1], roles=ADMIN)
    assert [digest for digest in digests if runtime.served.is_loaded(digest)] == digests[-NUM_ASIDE:]
    assert module in runtime.engine.attachments


def test_the_watcher_outlives_what_it_can_not_load(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime.open(config)
    calls = []

    def refresh() -> None:
        calls.append(len(calls))
        if len(calls) == 1:
            raise ModelError("no room for its weights")

    monkeypatch.setattr(runtime, "refresh", refresh)
    runtime._start()
    try:
        while len(calls) < 3:
            time.sleep(0.01)
    finally:
        runtime.close()


def test_a_challenger_is_listed_and_answers_to_admins_only(runtime: Runtime) -> None:
    challenger = runtime.store.registry.put(replace(runtime.model.version(), precision="other"))
    runtime.store.registry.challenge(challenger)
    with pytest.raises(NotFound):
        say(runtime, "Hello.", model="challenger")
    assert say(runtime, "Hello.", model="challenger", roles=ADMIN).fingerprint == challenger
    cards = {card.digest: card.names for card in runtime.models(ANNA, ADMIN)}
    assert cards[challenger] == ("challenger",)
    assert challenger not in {card.digest for card in runtime.models(ANNA, frozenset({Role.CHAT}))}


def test_a_session_goes_on_while_its_history_does(runtime: Runtime) -> None:
    first = say(runtime, "Hello there.")
    history = (Message("user", "Hello there."), first.result().message)
    assert say(runtime, "And now?", history=history).session == first.session
    assert say(runtime, "Something new.").session != first.session


def test_an_unknown_version_is_not_found_and_never_falls_back(runtime: Runtime) -> None:
    for name in ("gpt-4", "challenger", "0" * 64):
        with pytest.raises(NotFound):
            say(runtime, "Hello.", model=name)


def test_an_unjudged_version_answers_to_admins_only_and_is_not_promoted(runtime: Runtime) -> None:
    base = runtime.model.version()
    unjudged = runtime.store.registry.put(replace(base, precision="other"))
    with pytest.raises(NotFound):
        say(runtime, "Hello.", model=unjudged)
    assert say(runtime, "Hello.", model=unjudged, roles=ADMIN).fingerprint == unjudged
    with pytest.raises(Refused):
        runtime.promote(unjudged)
    assert unjudged not in {card.digest for card in runtime.models(ANNA, frozenset({Role.CHAT}))}
    assert unjudged in {card.digest for card in runtime.models(ANNA, ADMIN)}


def test_a_reply_that_was_cancelled_is_never_learned_from(config: Config) -> None:
    runtime = Runtime.open(config, worker=True)
    try:
        call = ChatCall((Message("user", "Count."),), ANNA, sampling=Sampling(max_tokens=1500))
        reply = runtime.chat(call)
        next(iter(reply))
        reply.cancel()
        assert reply.result().finish_reason == "cancelled"
        assert not runtime.store.ledger.turn(reply.id).learnable
    finally:
        runtime.close()


def test_a_runtime_without_a_model_moves_and_reads_what_is_stored(config: Config, runtime: Runtime) -> None:
    light = Runtime.open(config, model=False)
    assert light.status().aliases == runtime.status().aliases
    light.close()


def test_auto_precision_stays_what_the_home_was_founded_on(config: Config) -> None:
    founded = replace(config, model=replace(config.model, precision="bf16"))
    Runtime.open(founded).close()
    auto = Runtime.open(replace(config, model=replace(config.model, precision="auto")))
    try:
        assert auto.model.precision == auto.status().precision == "bf16"
    finally:
        auto.close()


def test_tools_count_before_a_memory_is_written_in(runtime: Runtime) -> None:
    """A request that only fits without its notes is answered without them."""
    told = "The gate code of the Ostrel depot is 4471."
    say(runtime, told)
    question = (Message("user", "What is the gate code of the Ostrel depot?"),)
    tool = {"type": "function", "function": {"name": "look_up", "description": "Looks things up. " * 20}}
    taken = len(runtime.model.chat.encode(question, tools=(tool,)))
    call = ChatCall(question, ANNA, sampling=Sampling(max_tokens=2000 - taken), tools=(tool,))
    reply = runtime.chat(call)
    assert not reply.memory_ids
    reply.cancel()
