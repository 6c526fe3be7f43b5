"""Teaching a base its skills, once: `make skills` (or `python -m tenure.modules.teaching MODEL`).

Minutes on a GPU (`--device cuda`), three hours on two slow cores for 135M parameters. Deterministic for one CPU; the
adapters are kept in bf16. Nothing of a user is among what is learned here: the facts are `matching.jsonl`, of our own
writing. Not run by any night.
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
from tenure.modules.calibration import calibrate
from tenure.modules.find_lesson import facts_to_place, teach_finding
from tenure.modules.match_lesson import PAIRS_PER_STEP, lesson_pairs, teach_matching
from tenure.modules.objectives import Example, FrozenBelow, accumulate
from tenure.modules.read_lesson import reading_examples
from tenure.modules.skills import (
    ASKING,
    FINDING,
    MATCHING,
    READING,
    SHIPPED,
    WrittenFact,
    asked_about,
    neutral_prompts,
    question_line,
    written_facts,
)

TREE_TOKENS = 1024
FACTS_PER_STEP = 4  # of asking and reading: what is said about one fact shares its prompt
FIND_LAYER_SHARE = 0.3  # of the base's layers are read through to find,
MATCH_LAYER_SHARE = 0.6  # and to match
MATCH_EPOCHS = 3
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


def teach_to_ask(model: LanguageModel, directory: Path) -> None:
    """Three times over the written facts, rank 8."""
    facts = written_facts()
    teach(
        model,
        asking_examples(model, facts),
        directory,
        placement=Placement(rank=8, alpha=16.0),
        schedule=Schedule(num_steps=3 * len(facts) // FACTS_PER_STEP, learning_rate=1e-3, warmup_steps=10),
        groups_per_step=FACTS_PER_STEP,
    )


def teach_to_find(model: LanguageModel, directory: Path) -> None:
    """Rank 16 on the lowest layers."""
    layer = max(1, round(FIND_LAYER_SHARE * len(decoder_layers(model.network))))
    teach_finding(
        model,
        facts_to_place(model, written_facts()),
        directory,
        placement=Placement(rank=16, alpha=32.0, last_layer=layer - 1),
        schedule=Schedule(num_steps=600, learning_rate=1e-3, warmup_steps=30, weight_decay=0.01),
        layer=layer,
        told=_told(directory),
    )
    halve(directory)


def teach_to_match(model: LanguageModel, directory: Path) -> None:
    """Over all pairs, with names exchanged anew each epoch; rank 16 on the lower layers."""
    layer = max(1, round(MATCH_LAYER_SHARE * len(decoder_layers(model.network))))
    drawn = [lesson_pairs(model, written_facts(), neutral_prompts(), seed=epoch) for epoch in range(MATCH_EPOCHS)]
    pairs = [replace(pair, id=f"epoch {i} {pair.id}") for i, epoch in enumerate(drawn) for pair in epoch]
    teach_matching(
        model,
        pairs,
        directory,
        placement=Placement(rank=16, alpha=32.0, last_layer=layer - 1),
        schedule=Schedule(num_steps=len(pairs) // PAIRS_PER_STEP, learning_rate=1e-3, warmup_steps=40),
        layer=layer,
        told=_told(directory),
    )
    halve(directory)


def teach_to_read(model: LanguageModel, directory: Path) -> None:
    """Once over the facts that have replies, rank 8."""
    device = model.network.device
    model.network.to("cpu")  # where the engine lets the base give replies of its own
    groups = reading_examples(Engine(model, EngineConfig()), model, written_facts(), neutral_prompts())
    model.network.to(device)
    teach(
        model,
        groups,
        directory,
        placement=Placement(rank=8, alpha=16.0),
        schedule=Schedule(num_steps=len(groups) // FACTS_PER_STEP, learning_rate=1e-3, warmup_steps=10),
        groups_per_step=FACTS_PER_STEP,
    )


def set_threshold(model: LanguageModel, skills: Path) -> None:
    """The threshold of matching, by the worlds kept apart (`calibration.jsonl`)."""
    finding = skills / FINDING if (skills / FINDING).is_dir() else None
    facts = written_facts("calibration.jsonl")
    right, false = calibrate(Engine(model, EngineConfig()), model.chat, facts, skills / MATCHING, finding)
    _say(f"matching: recognises {right:.3f} of the questions kept apart, fires on {false:.3f} of their near-misses")


LESSONS = {ASKING: teach_to_ask, FINDING: teach_to_find, MATCHING: teach_to_match, READING: teach_to_read}


def main(arguments: Sequence[str]) -> None:
    """Teach skills to a model and write them where `skills.skill` finds them."""
    parser = argparse.ArgumentParser("tenure.modules.teaching", description="Teach a base its skills, once.")
    parser.add_argument("model", help="a known name, a local directory or a hub id")
    parser.add_argument("--skills", nargs="+", choices=LESSONS, default=list(LESSONS))
    parser.add_argument("--calibrate", action="store_true", help="only set the threshold of matching, which is taught")
    parser.add_argument("--device", default="cpu", help="where to teach, such as cuda")
    parser.add_argument("--into", type=Path, help="directory for the skills; the package's own by default")
    asked = parser.parse_args(arguments)
    directory = resolve(asked.model, Path(ModelConfig().cache).expanduser())
    model = load_language_model(directory, precision="fp32" if asked.device != "cpu" else "auto")
    skills = asked.into or SHIPPED / model.base[:16]
    if not asked.calibrate:
        model.network.to(asked.device)
        for name in asked.skills:
            LESSONS[name](model, skills / name)
        model.network.to("cpu")
    if asked.calibrate or MATCHING in asked.skills:
        set_threshold(model, skills)


if __name__ == "__main__":
    main(sys.argv[1:])
