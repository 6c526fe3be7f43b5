"""Teaching the skill of matching: which statement answers which question, and which only shares its words.

Positives are the questions of each written fact; negatives its near-misses, the same questions beside one of the likest
other statements of their world, and neutral prompts. Names are exchanged too (`renamed`): on one side only, the
question is about somebody else; on both, it is answered as before, so that no name means anything by itself. Called
by `teaching`; `calibration` sets the threshold.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tenure.model.language_model import LanguageModel
from tenure.model.lowrank import Placement, adapted, only_layers
from tenure.model.training import Batch, RunningMean, Schedule, Told, train
from tenure.modules.cross_encoder import head_scores, save_head, words_of
from tenure.modules.evidence import NUM_LEXICAL, knowledge_of, matches_of, reading_of
from tenure.modules.near_misses import alike, names_of, numbers_of, other_number
from tenure.modules.objectives import FrozenBelow
from tenure.modules.skills import WrittenFact, conversation, worlds_of
from tenure.types import Message

OTHER_SHARE = 0.6  # of the conversations are put beside another statement too, one of
NUM_LIKELIEST = 3  # the nearest by words;
STRANGE_SHARE = 0.6  # of those that name what the statement names are asked about a stranger too,
BOTH_SHARE = 0.3  # or have the name exchanged on both sides,
TOLD_SHARE = 0.3  # or in the statement alone
PAIRS_PER_STEP = 96
MEAN_DECAY = 0.997  # of the weights, a step
RUN_LENGTH = 8  # pairs of one statement stand together in a step: they share its prefix


@dataclass(frozen=True, slots=True)
class Pair:
    """A statement and a conversation side by side, and whether one answers the other."""

    id: str
    statement: str
    tokens: tuple[int, ...]
    lexical: tuple[float, ...]
    answers: bool


def lesson_pairs(model: LanguageModel, facts: Sequence[WrittenFact], neutral: Sequence[str], seed: int) -> list[Pair]:
    """Everything to be told apart."""
    rng = random.Random(seed)
    pairs: list[Pair] = []
    for world in worlds_of(facts):
        known = [knowledge_of(model.chat, fact.statement, ()) for fact in world]
        for i, fact in enumerate(world):
            others = known[:i] + known[i + 1 :]
            for about, conversations in ((True, fact.about), (False, fact.near)):
                for asked in map(conversation, conversations):
                    pairs.append(_pair(model, len(pairs), fact.statement, asked, about))
                    if about and others and rng.random() < OTHER_SHARE:
                        other = rng.choice(matches_of(model.chat, others, asked, NUM_LIKELIEST))
                        pairs.append(_pair(model, len(pairs), others[other.index].statement, asked, False))
            for statement, asked, about in renamed(fact, rng):
                pairs.append(_pair(model, len(pairs), statement, asked, about))
    for prompt in neutral:
        pairs.append(_pair(model, len(pairs), rng.choice(facts).statement, conversation([prompt]), False))
    return pairs


def renamed(fact: WrittenFact, rng: random.Random) -> list[tuple[str, tuple[Message, ...], bool]]:
    """The fact's questions with a name (or number) that the statement has exchanged for one like it.

    (statement, conversation, whether it is answered): the question asks about the stranger, or the statement tells
    about them, or both.
    """
    exchanges = [_exchange(name, alike(name, rng)) for name in names_of(fact.statement)]
    exchanges += [_exchange(number, other_number(number, rng)) for number in numbers_of(fact.statement)]
    found: list[tuple[str, tuple[Message, ...], bool]] = []
    for texts in fact.about:
        moved = [(e, asked) for e in exchanges if (asked := tuple(map(e, texts))) != texts]
        if not moved:
            continue
        exchange, asked = rng.choice(moved)
        if rng.random() < STRANGE_SHARE:
            found.append((fact.statement, conversation(asked), False))
        if rng.random() < BOTH_SHARE:
            found.append((exchange(fact.statement), conversation(asked), True))
        if rng.random() < TOLD_SHARE:
            found.append((exchange(fact.statement), conversation(texts), False))
    return found


def _exchange(name: str, new: str) -> Callable[[str], str]:
    """Every word of a name for its counterpart, wherever it stands as a word of its own; case is looked at."""
    counterparts = {a: b for a, b in zip(name.split(), new.split(), strict=True) if a != b}
    if not counterparts:
        return lambda text: text
    pattern = re.compile(r"(?<!\w)(" + "|".join(map(re.escape, counterparts)) + r")(?!\w)")
    return lambda text: pattern.sub(lambda match: counterparts[match.group()], text)


def _pair(model: LanguageModel, number: int, statement: str, messages: Sequence[Message], answers: bool) -> Pair:
    tokens, _ = reading_of(model.chat, statement, messages)
    return Pair(f"pair {number}", statement, tokens, words_of(model.chat, statement, messages), answers)


class _Reader:
    """The base's lower layers, an adapter on them, and the head."""

    def __init__(self, model: LanguageModel) -> None:
        width = int(model.network.config.get_text_config().hidden_size)
        start = {
            "norm_weight": torch.ones(width),
            "norm_bias": torch.zeros(width),
            "weight": torch.zeros(width + NUM_LEXICAL),
            "bias": torch.zeros(()),
        }
        self._device = model.network.device
        self.head = {key: nn.Parameter(tensor.to(self._device)) for key, tensor in start.items()}
        self._body = FrozenBelow(model.network, 0)

    def scores(self, pairs: Sequence[Pair]) -> Tensor:
        sequences = [pair.tokens for pair in pairs]
        tree = self._body.tree(sequences)
        last_NC = self._body.hidden(tree, sequences)[[nodes[-1] for nodes in tree.nodes]]
        return head_scores(self.head, last_NC, torch.tensor([pair.lexical for pair in pairs], device=self._device))


def teach_matching(
    model: LanguageModel,
    pairs: Sequence[Pair],
    directory: Path,
    *,
    placement: Placement,
    schedule: Schedule,
    layer: int,
    seed: int = 0,
    told: Told | None = None,
) -> None:
    """Train adapter and head and write the mean of their weights over the last steps.

    The threshold is even odds until `calibrate` sets it.
    """
    by_id = {pair.id: pair for pair in pairs}
    reader = _Reader(model)

    def gradients(batch: Batch) -> float:
        chosen = [by_id[i] for i in batch]
        wanted_N = torch.tensor([float(pair.answers) for pair in chosen], device=model.network.device)
        loss = binary_cross_entropy_with_logits(reader.scores(chosen), wanted_N)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    with (
        only_layers(model.network, range(layer), with_norm=False),
        adapted(model.network, placement, seed=seed) as adapter,
    ):
        parameters = [*adapter.parameters(), *reader.head.values()]
        mean = RunningMean(parameters, MEAN_DECAY)

        def taken(step: int, planned: int, loss: float) -> None:
            mean.follow(step)
            if told:
                told(step, planned, loss)

        train(parameters, gradients, _steps(pairs, seed), schedule, budget_seconds=float("inf"), told=taken)
        mean.settle()
        adapter.save(directory, base_name=model.name)
    save_head(directory, reader.head, layer=layer, threshold=0.0)


def _steps(pairs: Sequence[Pair], seed: int) -> Iterator[Batch]:
    rng = random.Random(seed)
    by_statement: dict[str, list[str]] = {}
    for pair in pairs:
        by_statement.setdefault(pair.statement, []).append(pair.id)
    while True:
        runs = []
        for ids in by_statement.values():
            order = rng.sample(ids, len(ids))
            runs += [order[i : i + RUN_LENGTH] for i in range(0, len(order), RUN_LENGTH)]
        flat = [i for run in rng.sample(runs, len(runs)) for i in run]
        for i in range(0, len(flat), PAIRS_PER_STEP):
            yield tuple(flat[i : i + PAIRS_PER_STEP])
