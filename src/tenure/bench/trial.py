"""One world, told, slept on and examined: every number of the loop that one seed gives.

Called by `bench.loop`. In one process, closed book means memory off; the exam's questions come from `bench/worlds`,
which knows nothing of `sleep/`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tenure.bench.asking import ask, marks, share, tell
from tenure.bench.record import commit, machine
from tenure.bench.worlds.world import World
from tenure.config import Config
from tenure.gates.cache import DirectoryCache
from tenure.gates.examination import examine
from tenure.gates.suites import general_suite, neutral_suite
from tenure.model.language_model import parameter_digest
from tenure.model.progress import Progress
from tenure.runtime import Runtime
from tenure.sleep.answering import EngineAnswerer
from tenure.sleep.cycle import NightResult, NightSettings
from tenure.store.digests import version_digest
from tenure.types import Alias, Message, Outcome, QuestionItem, Scope, SilenceItem, Version

COLLEAGUE, STRANGER = Scope("world", "colleague"), Scope("world", "stranger")


TOLD = ("told_once_accuracy", "told_once", "cross_principal_leaks", "noted", "told_commit")


def run_trial(
    config: Config, world: World, *, seed: int, home: Path, foil: bool = True, progress: Progress | None = None
) -> dict[str, Any]:
    """Tell the world's facts to a fresh home, spend a distilling night and a naive one (`foil`), and measure.

    Ours comes first, so that nothing it takes was computed by another night; the foil takes its self-study. The numbers
    of one world; lists hold one entry per question or item, so that seeds can be pooled.
    """
    config = replace(config, store=replace(config.store, home=str(home)))
    runtime = Runtime.open(config, progress=progress)
    try:
        numbers: dict[str, Any] = {"seed": seed, "world": world.name, "commit": commit(), "machine": machine()}
        prompts = [question.messages for question in world.questions]
        numbers["base_closed_book"] = share(marks(world.questions, ask(runtime, prompts, COLLEAGUE)))
        numbers |= told_once(runtime, world)
        settings = NightSettings.of(config, seed=seed, propose=True)
        ours = runtime.sleep(replace(settings, learner="distil-lora"), progress=progress)
        numbers |= night_numbers(ours)
        if foil:
            naive = runtime.sleep(replace(settings, learner="naive-sft"), progress=progress)
            numbers |= {f"naive_{key}": value for key, value in naive_numbers(runtime, world, naive).items()}
        if ours.version:
            numbers |= version_numbers(runtime, world, ours.version)
        if ours.status == "proposed":
            numbers |= reversal(runtime, world, ours.version)
        return numbers
    finally:
        runtime.close()


def run_told(config: Config, world: World, *, home: Path, progress: Progress | None = None) -> dict[str, Any]:
    """What a trial measures before its first night, alone: the context layer of today beside an older night."""
    runtime = Runtime.open(replace(config, store=replace(config.store, home=str(home))), progress=progress)
    try:
        return told_once(runtime, world)
    finally:
        runtime.close()


def told_once(runtime: Runtime, world: World) -> dict[str, Any]:
    """Tell fact by fact; the very next request asks for it with memory on, as the same principal and as another.

    It leaks when the other one's reply used a memory, or isn't what the bare base says (which guesses right now and
    then).

    `noted`: all questions, with memory on, when everything was told.
    """
    known, leaks = [], 0
    for fact in world.facts:
        tell(runtime, [*fact.told, *([fact.correction] if fact.correction else [])], COLLEAGUE)
        item = fact.questions[0]
        known += marks([item], ask(runtime, [item.messages], COLLEAGUE, memory=True))
        (stranger,), (bare,) = (ask(runtime, [item.messages], STRANGER, memory=memory) for memory in (True, False))
        leaks += bool(stranger.memory_ids) or stranger.text != bare.text
    return {
        "told_once_accuracy": share(known),
        "told_once": known,
        "cross_principal_leaks": leaks,
        "noted": marks(world.questions, ask(runtime, [q.messages for q in world.questions], COLLEAGUE, memory=True)),
        "told_commit": commit(),
    }


def naive_numbers(runtime: Runtime, world: World, result: NightResult) -> dict[str, Any]:
    """The foil, asked as it would be served."""
    if not result.version:
        return {"status": result.status, "refused": False, "reason": result.reason}
    answerer = answerer_of(runtime, result.version)
    answers = answerer.answer([q.messages for q in world.questions])
    right = marks(world.questions, answers)  # type: ignore[arg-type]
    measured = ability(runtime, answerer)
    return {
        "closed_book_heldout": share(right),
        "general_delta": measured["general_delta"],
        "kl_to_base": measured["kl_to_base"],
        "refused": result.status == "refused",
        "outcome": result.verdict.outcome.value if result.verdict else "",
        "reason": result.reason,
        "seconds": dict(result.seconds),
    }


def night_numbers(result: NightResult) -> dict[str, Any]:
    """How long the night took and what the gate said."""
    seconds = dict(result.seconds)
    return {
        "night_status": result.status,
        "version": result.version,
        "night_reason": result.reason,
        "night_seconds": sum(seconds.values()),
        "synthesize_seconds": seconds.get("synthesize", 0.0),
        "learn_seconds": seconds.get("learn", 0.0),
        "gate_seconds": seconds.get("gate", 0.0),
        "gate_seconds_by_suite": dict(result.suite_seconds),
        "num_episodes": result.num_episodes,
        "num_sources": result.num_sources,
        "passed": bool(result.verdict and result.verdict.outcome is Outcome.PASSED),
    }


def version_numbers(runtime: Runtime, world: World, digest: str) -> dict[str, Any]:
    """Acquisition, isolation and controls of a version, as served (routed) and with its modules forced on."""
    answerer = answerer_of(runtime, digest)
    base = answerer_of(runtime, version_digest(runtime.model.version()))
    prompts = [question.messages for question in world.questions]
    right = marks(world.questions, answerer.answer(prompts))  # type: ignore[arg-type]
    forced = marks(world.questions, answerer.answer(prompts, forced=True))  # type: ignore[arg-type]
    bare = base.route(world.unrelated)[0]
    near = [item.messages for item in world.near_misses]
    moved = [i for i, route in enumerate(answerer.route(world.near_misses)) if route != bare]
    here, there = answerer.answer([near[i] for i in moved]), base.answer([near[i] for i in moved])
    changed = sum(a.text.strip() != b.text.strip() for a, b in zip(here, there, strict=True))
    related = [route != bare for route in answerer.route(world.related)]
    unrelated = [route != bare for route in answerer.route(world.unrelated)]
    return {
        "closed_book": right,
        "facts": [item.family for item in world.questions],
        "closed_book_heldout": share(right),
        "closed_book_by_kind": by_kind(world.questions, right),
        "forced_closed_book": share(forced),
        "near_miss_changed": changed / len(near),
        "near_miss_activated": len(moved) / len(near),
        "near_miss_activated_by_kind": by_kind(world.near_misses, [i in moved for i in range(len(near))]),
        **training_numbers(runtime, digest),
        "activation_related": share(related),
        "activation_by_kind": by_kind(world.related, related),
        "activation_unrelated": share(unrelated),
        **ability(runtime, answerer),
        **controls(runtime, world, digest, answerer, bare),
    }


def by_kind(items: Sequence[QuestionItem | SilenceItem], marks: Sequence[bool]) -> dict[str, float]:
    """The share of marks that are true, for each kind of item."""
    found: dict[str, list[bool]] = {}
    for item, mark in zip(items, marks, strict=True):
        found.setdefault(item.kind, []).append(mark)
    return {kind: share(values) for kind, values in found.items()}


def training_numbers(runtime: Runtime, digest: str) -> dict[str, Any]:
    """How many steps the night's modules really took, and where their losses ended: a slow machine learns less."""
    runs = [part["candidate"]["losses"] for part in runtime.store.registry.lineage(digest).candidates.values()]
    return {
        "num_modules": len(runs),
        "learn_steps": sum(map(len, runs)) / len(runs),
        "final_loss": sum(losses[-1] for losses in runs) / len(runs),
    }


def ability(runtime: Runtime, answerer: EngineAnswerer) -> dict[str, Any]:
    """General suite minus base, as served and forced on (from the gate's own cached results), and drift."""
    base = answerer_of(runtime, version_digest(runtime.model.version()))
    cache = DirectoryCache(runtime.config.home / "exams")
    report = examine(answerer, base, base, [general_suite(), neutral_suite()], cache=cache)
    general, drift = report.suites
    pairs = [
        int(mine.correct) - int(theirs.correct) for mine, theirs in zip(general.version, general.anchor, strict=True)
    ]
    forced = [int(m.correct) - int(t.correct) for m, t in zip(general.forced, general.anchor, strict=True)]
    return {
        "general_differences": pairs,
        "general_families": [result.family for result in general.version],
        "general_delta": sum(pairs) / len(pairs),
        "base_general": share([result.correct for result in general.anchor]),
        "forced_general_delta": sum(forced) / len(forced) if forced else 0.0,
        "kl_to_base": sum(result.kl for result in drift.version) / len(drift.version),
    }


def controls(runtime: Runtime, world: World, digest: str, answerer: EngineAnswerer, bare: str) -> dict[str, Any]:
    """The same router with the module's values zeroed, and what it would hand the told text (`loop.pooled` does)."""
    prompts = [question.messages for question in world.questions]
    zeroed = answerer_of(runtime, zeroed_version(runtime, digest))
    without = marks(world.questions, zeroed.answer(prompts, forced=True))  # type: ignore[arg-type]
    return {
        "zeroed_closed_book": share(without),
        "routed": [route != bare for route in answerer.route(world.questions)],
        "module_bytes_per_fact": module_bytes(runtime, digest) / len(world.facts),
    }


def zeroed_version(runtime: Runtime, digest: str) -> str:
    """A version whose modules have every value set to zero; it is never judged or served."""
    registry, objects = runtime.store.registry, runtime.store.objects
    version = registry.version(digest)
    modules = []
    for module in version.modules:
        aside = runtime.config.home / "zeroed" / module.digest
        aside.mkdir(parents=True, exist_ok=True)
        for file in objects.path(module.digest).iterdir():
            if file.suffix == ".safetensors":
                tensors = {name: torch.zeros_like(tensor) for name, tensor in load_file(file).items()}
                save_file(tensors, aside / file.name)
            else:
                (aside / file.name).write_bytes(file.read_bytes())
        modules.append(replace(module, digest=objects.put_directory(aside)))
    return registry.put(
        Version(version.base, version.tokenizer, version.chat_template, version.precision, (), tuple(modules))
    )


def module_bytes(runtime: Runtime, digest: str) -> int:
    """Bytes of a version's modules on disk."""
    paths = [runtime.store.objects.path(m.digest) for m in runtime.store.registry.version(digest).modules]
    return sum(file.stat().st_size for path in paths for file in path.rglob("*") if file.is_file())


def reversal(runtime: Runtime, world: World, digest: str) -> dict[str, Any]:
    """Promote and roll back: how long, and whether parameters and the champion's logits are as before.

    Each fact's first question is asked at one fixed shape; `promotion_moved` is how many of them the promoted version
    answers with other logits, without which nothing would be proved.
    """
    probes = [fact.questions[0].messages for fact in world.facts]
    before = state(runtime, probes)
    runtime.promote(digest)
    between = state(runtime, probes)
    began = time.monotonic()
    runtime.rollback()
    seconds = time.monotonic() - began
    after = state(runtime, probes)
    champion = runtime.store.registry.aliases()[Alias.CHAMPION]
    return {
        "rollback_seconds": seconds,
        "rollback_bit_identical": before == after and champion == version_digest(runtime.model.version()),
        "promotion_moved": sum(a != b for a, b in zip(before[1], between[1], strict=True)),
    }


def state(runtime: Runtime, probes: Sequence[tuple[Message, ...]]) -> tuple[str, list[bytes]]:
    """Digest of the served parameters, and the bytes of the champion's logits on each probe, as served."""
    plans = answerer_of(runtime, runtime.store.registry.aliases()[Alias.CHAMPION]).plans(probes)
    found = []
    for messages, plan in zip(probes, plans, strict=True):
        tokens = runtime.model.chat.encode(messages)
        logits_TV = runtime.engine.distributions(tokens, tokens[-4:], weights=plan.weights, attachments=plan.uses)
        found.append(logits_TV.numpy().tobytes())
    return parameter_digest(runtime.model.network), found


def answerer_of(runtime: Runtime, digest: str) -> EngineAnswerer:
    """A version of this runtime as an exam sees it."""
    house = runtime.house()
    return EngineAnswerer(house, house.served.load(runtime.store.registry.version(digest)))
