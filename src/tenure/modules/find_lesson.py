"""Teaching the skill of finding: a question lies nearer to the statement that answers it than to any other.

Whole worlds of written facts stand in a step, so that each question is told from statements about the same house and
people (Karpukhin et al. 2020, Dense passage retrieval, eq. 2; and the same the other way round). Called by `teaching`.
Shapes: S statements, Q questions, C channels of the base.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, dropout

from tenure.model.language_model import LanguageModel
from tenure.model.lowrank import Placement, adapted, only_layers
from tenure.model.training import Batch, Schedule, Told, train
from tenure.modules.bi_encoder import place_of, save_depth, text_tokens, users_words
from tenure.modules.objectives import FrozenBelow
from tenure.modules.skills import WrittenFact, conversation, worlds_of

TEMPERATURE = 0.05
QUESTIONS_PER_FACT = 2  # of a step
WORLDS_PER_STEP = 6
DROPOUT = 0.1  # of the embeddings: a few hundred facts are soon known by heart


@dataclass(frozen=True, slots=True)
class Placed:
    """A statement and the questions that it answers, as tokens."""

    id: str
    statement: tuple[int, ...]
    questions: tuple[tuple[int, ...], ...]


def facts_to_place(model: LanguageModel, facts: Sequence[WrittenFact]) -> list[list[Placed]]:
    """World by world."""
    worlds = enumerate(worlds_of(facts))
    return [[_placed(model, f"{w} {i}", fact) for i, fact in enumerate(world)] for w, world in worlds]


def _placed(model: LanguageModel, number: str, fact: WrittenFact) -> Placed:
    asked = tuple(text_tokens(model.chat, users_words(conversation(texts))) for texts in fact.about)
    return Placed(number, text_tokens(model.chat, fact.statement), asked)


def teach_finding(
    model: LanguageModel,
    worlds: Sequence[Sequence[Placed]],
    directory: Path,
    *,
    placement: Placement,
    schedule: Schedule,
    layer: int,
    seed: int = 0,
    told: Told | None = None,
) -> None:
    """Train the adapter and write it."""
    by_id = {placed.id: placed for world in worlds for placed in world}
    body = FrozenBelow(model.network, 0)
    rng = random.Random(seed)

    def places(texts: Sequence[tuple[int, ...]]) -> Tensor:
        tree = body.tree(texts)
        hidden_NC = body.hidden(tree, texts)
        return torch.stack([place_of(hidden_NC[list(nodes)]) for nodes in tree.nodes])

    def gradients(batch: Batch) -> float:
        chosen = [by_id[i] for i in batch]
        asked = [question for p in chosen for question in rng.sample(p.questions, QUESTIONS_PER_FACT)]
        loss = contrast(places([p.statement for p in chosen]), places(asked))
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    hook = model.network.get_input_embeddings().register_forward_hook(lambda m, i, out: dropout(out, DROPOUT))
    try:
        with (
            only_layers(model.network, range(layer), with_norm=False),
            adapted(model.network, placement, seed=seed) as adapter,
        ):
            torch.manual_seed(seed)
            train(
                adapter.parameters(), gradients, _steps(worlds, seed), schedule, budget_seconds=float("inf"), told=told
            )
            adapter.save(directory, base_name=model.name)
    finally:
        hook.remove()
    save_depth(directory, layer)


def contrast(statements_SC: Tensor, questions_QC: Tensor) -> Tensor:
    """Mean loss of finding each question's statement (question q belongs to statement q // QUESTIONS_PER_FACT), and
    each statement's first question."""
    likeness_QS = questions_QC @ statements_SC.T / TEMPERATURE
    numbers_Q = torch.arange(len(questions_QC), device=likeness_QS.device)
    found = cross_entropy(likeness_QS, numbers_Q // QUESTIONS_PER_FACT)
    first_SS = likeness_QS[::QUESTIONS_PER_FACT].T
    return found + 0.5 * cross_entropy(first_SS, torch.arange(len(first_SS), device=first_SS.device))


def _steps(worlds: Sequence[Sequence[Placed]], seed: int) -> Iterator[Batch]:
    rng = random.Random(seed)
    while True:
        chosen = rng.sample(worlds, min(WORLDS_PER_STEP, len(worlds)))
        yield tuple(placed.id for world in chosen for placed in world)
