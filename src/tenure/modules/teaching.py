"""Teaching a base its skills, once: `make skills` (or `python -m tenure.modules.teaching MODEL`).

An hour on two slow cores for 135M parameters. Deterministic for one machine; the adapters are kept in bf16. Nothing
of a user is among what is learned here: the facts are `matching.jsonl`, of our own writing. Not run by any night.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tenure.config import EngineConfig, ModelConfig
from tenure.model.catalog import resolve
from tenure.model.engine import Engine
from tenure.model.language_model import LanguageModel, load_language_model
from tenure.model.lowrank import Placement, adapted, decoder_layers
from tenure.model.training import Batch, Schedule, Told, train
from tenure.modules.cross_encoder import CrossEncoder
from tenure.modules.match_lesson import PAIRS_PER_STEP, calibrate, day_requests, lesson_pairs, teach_matching
from tenure.modules.objectives import Example, FrozenBelow, accumulate
from tenure.modules.skills import (
    ASKING,
    MATCHING,
    SHIPPED,
    WrittenFact,
    asked_about,
    neutral_prompts,
    question_line,
    skill,
    written_facts,
)

TREE_TOKENS = 1024
FACTS_PER_STEP = 4  # of asking: questions about one fact share its prompt
LAYER_SHARE = 0.6  # of the base's layers are read through to match
Groups = Sequence[Sequence[Example]]


def asking_examples(model: LanguageModel, facts: Sequence[WrittenFact]) -> list[list[Example]]:
    """For each fact, its questions as continuations of its statement."""
    groups = []
    for i, fact in enumerate(facts):
        head = model.chat.encode_text(asked_about(fact.statement), begin=True)
        tails = [model.chat.encode_text(question_line(texts)) for texts in fact.about]
        groups.append([Example(f"{i}:{j}", (*head, *tail), len(head)) for j, tail in enumerate(tails)])
    return groups


def teach(
    model: LanguageModel,
    groups: Groups,
    directory: Path,
    *,
    placement: Placement,
    schedule: Schedule,
    groups_per_step: int,
    seed: int = 0,
) -> None:
    """Train an adapter on groups of examples, `groups_per_step` whole ones a step, and write it in bf16."""
    examples = {example.id: example for group in groups for example in group}

    def gradients(batch: Batch) -> float:
        chosen = [replace(examples[i], weight=1 / len(batch)) for i in batch]
        return accumulate(model.network, body, chosen, max_tokens=TREE_TOKENS)

    with adapted(model.network, placement, seed=seed) as adapter:
        body = FrozenBelow(model.network, placement.first_layer)
        train(
            adapter.parameters(),
            gradients,
            _steps(groups, groups_per_step, seed),
            schedule,
            budget_seconds=float("inf"),
            told=_told(directory),
        )
        adapter.save(directory, base_name=model.name)
    halve(directory)


def halve(directory: Path) -> None:
    """Keep an adapter's factors in bf16: half the bytes."""
    path = directory / "adapter_model.safetensors"
    small = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(path).items()}
    save_file(small, path, metadata={"format": "pt"})


def _steps(groups: Groups, groups_per_step: int, seed: int) -> Iterator[Batch]:
    rng = random.Random(seed)
    while True:
        order = rng.sample(groups, len(groups))
        for i in range(0, len(order) - groups_per_step + 1, groups_per_step):
            yield tuple(example.id for group in order[i : i + groups_per_step] for example in group)


def _told(directory: Path) -> Told:
    return lambda step, planned, loss: _say(f"{directory.name}: step {step} of {planned}, loss {loss:.3f}")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def teach_to_ask(model: LanguageModel, directory: Path, start: Path | None, known: int) -> None:
    """Three times over the written facts, rank 8. Raises SystemExit when it is to go on from a taught skill."""
    if start is not None:
        raise SystemExit("asking is taught from the beginning only: leave --go-on out, or name --skills matching")
    facts = written_facts()
    teach(
        model,
        asking_examples(model, facts),
        directory,
        placement=Placement(rank=8, alpha=16.0),
        schedule=Schedule(num_steps=3 * len(facts) // FACTS_PER_STEP, learning_rate=1e-3, warmup_steps=10),
        groups_per_step=FACTS_PER_STEP,
    )


def teach_to_match(model: LanguageModel, directory: Path, start: Path | None, known: int) -> None:
    """Twice over all pairs, rank 8 on the lower layers; once where it goes on from a taught skill."""
    layer = max(1, round(LAYER_SHARE * len(decoder_layers(model.network))))
    pairs = lesson_pairs(model, written_facts(), neutral_prompts(), seed=known, num_known=known)
    teach_matching(
        model,
        pairs,
        directory,
        placement=Placement(rank=8, alpha=16.0, last_layer=layer - 1),
        schedule=Schedule(
            num_steps=(1 if start else 2) * len(pairs) // PAIRS_PER_STEP, learning_rate=1e-3, warmup_steps=20
        ),
        layer=layer,
        told=_told(directory),
        start=CrossEncoder.load(start) if start else None,
    )
    halve(directory)
    set_threshold(model, directory)


def set_threshold(model: LanguageModel, directory: Path) -> None:
    """The threshold of matching, by the worlds kept apart (`calibration.jsonl`)."""
    requests = day_requests(model.chat, written_facts("calibration.jsonl"))
    right, false = calibrate(Engine(model, EngineConfig()), model.chat, requests, directory)
    _say(f"matching: recognises {right:.3f} of the questions kept apart, fires on {false:.3f} of their near-misses")


LESSONS = {ASKING: teach_to_ask, MATCHING: teach_to_match}


def main(arguments: Sequence[str]) -> None:
    """Teach skills to a model and write them where `skills.skill` finds them."""
    parser = argparse.ArgumentParser("tenure.modules.teaching", description="Teach a base its skills, once.")
    parser.add_argument("model", help="a known name, a local directory or a hub id")
    parser.add_argument("--skills", nargs="+", choices=LESSONS, default=list(LESSONS))
    parser.add_argument("--go-on", type=int, metavar="N", help="go on from the skill, which knows the first N facts")
    parser.add_argument("--calibrate", action="store_true", help="only set the threshold of matching, which is taught")
    parser.add_argument("--into", type=Path, help="directory for the skills; the package's own by default")
    asked = parser.parse_args(arguments)
    directory = resolve(asked.model, Path(ModelConfig().cache).expanduser())
    model = load_language_model(directory, precision="auto")
    if asked.calibrate:
        set_threshold(model, (asked.into or SHIPPED / model.base[:16]) / MATCHING)
        return
    for name in asked.skills:
        start = skill(name, model) if asked.go_on else None
        LESSONS[name](model, (asked.into or SHIPPED / model.base[:16]) / name, start, asked.go_on or 0)


if __name__ == "__main__":
    main(sys.argv[1:])
