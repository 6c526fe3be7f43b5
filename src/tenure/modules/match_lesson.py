"""Teaching the skill of matching: which statement answers which question, and which only shares its words.

Positives are the questions of each written fact; negatives its near-misses, the same questions beside one of the likest
other statements of their world, and neutral prompts. Names are exchanged too (`renamed`): on one side only, the
question is about somebody else; on both, it is answered as before, so that no name means anything by itself. The
threshold lets `MAX_FALSE` of the near-misses of worlds kept apart (`calibration.jsonl`) through, each put beside the
statements that its words lead to, as it will be by day. Called by `teaching`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tenure.model.language_model import LanguageModel
from tenure.model.lowrank import Placement, adapted, only_layers
from tenure.model.token_tree import token_tree
from tenure.model.training import Batch, Schedule, Told, train
from tenure.modules.cross_encoder import CrossEncoder, head_scores, save_head, words_of
from tenure.modules.evidence import NUM_LEXICAL, NUM_READ, knowledge_of, matches_of, reading_of
from tenure.modules.near_misses import alike, names_of, numbers_of, other_number
from tenure.modules.objectives import FrozenBelow
from tenure.modules.skills import WrittenFact, conversation, worlds_of
from tenure.types import Message

OTHER_SHARE = 0.6  # of the conversations are put beside another statement too
STRANGE_SHARE = 0.6  # of those that name what the statement names are asked about a stranger too,
BOTH_SHARE = 0.3  # or have the name exchanged on both sides,
TOLD_SHARE = 0.3  # or in the statement alone
PAIRS_PER_STEP = 48
MAX_FALSE = 0.03  # of the hardest near-misses that we know how to write
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
                        other = rng.choice(matches_of(model.chat, others, asked, NUM_READ))
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


@dataclass(frozen=True, slots=True)
class DayRequest:
    """A conversation beside the statements that its words lead to, and whether one of its world answers it."""

    pairs: tuple[Pair, ...]
    about: bool


def day_requests(model: LanguageModel, facts: Sequence[WrittenFact]) -> list[DayRequest]:
    """Questions and near-misses of each world, as the router will read them."""
    requests: list[DayRequest] = []
    for world in worlds_of(facts):
        known = [knowledge_of(model.chat, fact.statement, ()) for fact in world]
        for fact in world:
            for about, conversations in ((True, fact.about), (False, fact.near)):
                for asked in map(conversation, conversations):
                    found = [known[m.index].statement for m in matches_of(model.chat, known, asked, NUM_READ)]
                    first = NUM_READ * len(requests)
                    pairs = (_pair(model, first + i, s, asked, s == fact.statement) for i, s in enumerate(found))
                    requests.append(DayRequest(tuple(pairs), about))
    return requests


def _pair(model: LanguageModel, number: int, statement: str, messages: Sequence[Message], answers: bool) -> Pair:
    tokens, _ = reading_of(model.chat, statement, messages)
    return Pair(f"pair {number}", statement, tokens, words_of(model.chat, statement, messages), answers)


class _Reader:
    """The base's lower layers, an adapter on them, and the head."""

    def __init__(self, model: LanguageModel, head: Mapping[str, Tensor] | None) -> None:
        width = int(model.network.config.get_text_config().hidden_size)
        start = head or {
            "norm_weight": torch.ones(width),
            "norm_bias": torch.zeros(width),
            "weight": torch.zeros(width + NUM_LEXICAL),
            "bias": torch.zeros(()),
        }
        self.head = {key: nn.Parameter(start[key].float()) for key in ("norm_weight", "norm_bias", "weight", "bias")}
        self._body = FrozenBelow(model.network, 0)

    def scores(self, pairs: Sequence[Pair]) -> Tensor:
        sequences = [pair.tokens for pair in pairs]
        tree = token_tree(sequences)
        last_NC = self._body.hidden(tree, sequences)[[nodes[-1] for nodes in tree.nodes]]
        return head_scores(self.head, last_NC, torch.tensor([pair.lexical for pair in pairs]))

    @torch.no_grad()
    def all_scores(self, pairs: Sequence[Pair]) -> Tensor:
        order = sorted(range(len(pairs)), key=lambda i: pairs[i].tokens)
        scores_N = torch.zeros(len(pairs))
        for start in range(0, len(order), PAIRS_PER_STEP):
            here = order[start : start + PAIRS_PER_STEP]
            scores_N[here] = self.scores([pairs[i] for i in here])
        return scores_N


def teach_matching(
    model: LanguageModel,
    pairs: Sequence[Pair],
    calibration: Sequence[DayRequest],
    directory: Path,
    *,
    placement: Placement,
    schedule: Schedule,
    layer: int,
    seed: int = 0,
    told: Told | None = None,
    start: CrossEncoder | None = None,
) -> tuple[float, float]:
    """Train adapter and head, from `start` (of the same placement and layer) where given, and write them.

    Returns the shares of calibration questions recognised and of near-misses fired on.
    """
    by_id = {pair.id: pair for pair in pairs}
    reader = _Reader(model, start.head if start else None)

    def gradients(batch: Batch) -> float:
        chosen = [by_id[i] for i in batch]
        wanted_N = torch.tensor([float(pair.answers) for pair in chosen])
        loss = binary_cross_entropy_with_logits(reader.scores(chosen), wanted_N)
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    with (
        only_layers(model.network, range(layer), with_norm=False),
        adapted(model.network, placement, seed=seed) as adapter,
    ):
        if start is not None:
            adapter.load(start.directory)
        parameters = [*adapter.parameters(), *reader.head.values()]
        train(parameters, gradients, _steps(pairs, seed), schedule, budget_seconds=float("inf"), told=told)
        scores = iter(reader.all_scores([pair for request in calibration for pair in request.pairs]).tolist())
        scores_N = torch.tensor([max(next(scores) for _ in request.pairs) for request in calibration])
        adapter.save(directory, base_name=model.name)
    answers_N = torch.tensor([request.about for request in calibration])
    threshold = threshold_at(scores_N[~answers_N], MAX_FALSE)
    save_head(directory, reader.head, layer=layer, threshold=threshold)
    fires_N = scores_N >= threshold
    return float(fires_N[answers_N].float().mean()), float(fires_N[~answers_N].float().mean())


def threshold_at(negatives: Tensor, share: float) -> float:
    """The log-odds that at most a share of the negatives reach."""
    descending = negatives.sort(descending=True).values
    return float(descending[int(share * len(descending))]) + 1e-4


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
