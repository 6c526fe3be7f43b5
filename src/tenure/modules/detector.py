"""The detector of one night and owner: does this request ask about a statement learned then? Silent by default.

With the base's skill of matching it only lists the statements and which module learned each. Without the skill it is
fitted by night: it finds the nearest statement by words, has the base read both, and judges the result with a small
network. Positives are the night's questions, negatives its near-misses, plus a hand-written set of invented facts
(`matching.jsonl`) that show what people's own wordings and real near-misses look like. `router` holds several.
Tensors: N examples, F features.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tenure.errors import LearnError
from tenure.model.chat import ChatFormat
from tenure.model.engine import Engine
from tenure.modules.bi_encoder import BiEncoder
from tenure.modules.cross_encoder import CrossEncoder
from tenure.modules.evidence import NUM_LEXICAL, Knowledge, evidence_of, knowledge_of, match_of
from tenure.modules.near_misses import names_of, neighbour
from tenure.modules.skills import WORLD_SIZE, conversation, neutral_prompts, written_facts
from tenure.types import Episode, Message

LAYER_SHARE = 0.4  # of the base's layers
NUM_FOLDS = 8  # networks, each fitted without an eighth of the statements: their average decides
HIDDEN = 48
EPOCHS = 30
NUM_WRITTEN = 4 * WORLD_SIZE  # all of them would take most of a night to read
MAX_OWN = 480  # examples of the night; more are sampled
MISS_COST = 1 / 0.03  # a missed question and a wrong activation, as shares of what is allowed of each
FALSE_COST = 1 / 0.015
MAX_KEYS = 16  # questions of a statement by which it is found
MIN_OVERLAP = 0.05  # of rare words shared; below it a request isn't even read
LEXICAL_SCALE = 3.0  # eight lexical features stand beside a thousand of the base


@dataclass(frozen=True, slots=True)
class Example:
    """A conversation and whether a module that learned `known` should answer it. `group` keeps folds apart."""

    messages: tuple[Message, ...]
    known: int  # index of a set of statements
    about: bool
    group: str
    written: bool  # by hand


@dataclass(frozen=True, slots=True)
class Detector:
    """Statements and what decides about them. `weights`: the networks' tensors, stacked over folds; empty: a skill's.

    `threshold` are the log-odds from which a request is about its nearest statement; `min_overlap` the rare words that
    the two must share to be read at all.
    """

    layer: int
    threshold: float
    min_overlap: float
    known: tuple[Knowledge, ...]
    weights: Mapping[str, Tensor]

    def without(self, modules: Collection[str]) -> Detector:
        """This detector without what those modules learned."""
        return replace(self, known=tuple(k for k in self.known if k.module not in modules))

    def scores(self, evidence_NF: Tensor, lexical_NE: Tensor) -> Tensor:
        """[N] mean log-odds of the folds' networks."""
        return _forward(self.weights, torch.cat([evidence_NF, lexical_NE * LEXICAL_SCALE], 1)).mean(0)


# ---------------------------------------------------------------- fitting


def read_detector(
    engine: Engine,
    chat: ChatFormat,
    modules: Mapping[str, str],
    episodes: Sequence[Episode],
    *,
    encoder: CrossEncoder,
    finder: BiEncoder | None,
) -> Detector:
    """The detector of statements that a cross-encoder reads; nothing is fitted. `modules`: {source id: module digest}.

    Raises LearnError when no episode has a source.
    """
    known = _own_knowledge(chat, modules, episodes)
    if finder is not None:
        for source, knowledge in known.items():
            asked = [e.messages for e in _asked(episodes) if e.source_ids[0] == source][:MAX_KEYS]
            places = finder.places_of_texts(engine, chat, [knowledge.statement]), finder.places(engine, chat, asked)
            known[source] = replace(knowledge, keys_KC=torch.cat(places).half())
    return Detector(encoder.layer, encoder.threshold, MIN_OVERLAP, tuple(known.values()), {})


def fit_detector(
    engine: Engine, chat: ChatFormat, modules: Mapping[str, str], episodes: Sequence[Episode], *, seed: int = 0
) -> Detector:
    """Fit a detector from the episodes that the modules were trained on (held-out ones are not to be passed).

    `modules`: {source id: module digest}. Deterministic for a seed. Raises LearnError when no episode has a source.
    """
    own = _own_knowledge(chat, modules, episodes)
    rng = random.Random(seed)
    layer = max(1, round(LAYER_SHARE * engine.num_layers))
    sets = [tuple(own.values()), *_written_knowledge(chat)]
    examples = [*_own_examples(episodes, own, rng), *_written_examples(rng)]
    matches = [match_of(chat, sets[e.known], e.messages) for e in examples]
    pairs = [(sets[e.known][m.index].statement, e.messages) for e, m in zip(examples, matches, strict=True)]
    evidence_NF = evidence_of(engine, chat, pairs, layer=layer)
    features_NF = torch.cat([evidence_NF, torch.tensor([m.lexical for m in matches]) * LEXICAL_SCALE], 1)
    weights, scores = _fit_folds(features_NF, examples, seed)
    return Detector(layer, _threshold(scores, examples), MIN_OVERLAP, sets[0], weights)


def _own_knowledge(chat: ChatFormat, modules: Mapping[str, str], episodes: Sequence[Episode]) -> dict[str, Knowledge]:
    statements: dict[str, str] = {}
    questions: dict[str, list[str]] = {}
    for episode in _asked(episodes):
        if episode.source_ids[0] in modules:
            statements[episode.source_ids[0]] = episode.context
            questions.setdefault(episode.source_ids[0], []).append(episode.messages[-1].content)
    if not statements:
        raise LearnError("no question episodes about what the modules learned; a detector needs what they were taught")
    return {
        source: replace(knowledge_of(chat, text, questions[source][:MAX_KEYS]), module=modules[source])
        for source, text in statements.items()
    }


def _asked(episodes: Sequence[Episode]) -> list[Episode]:
    return [e for e in episodes if e.context and e.kind.startswith("question")]


def _own_examples(episodes: Sequence[Episode], own: Mapping[str, Knowledge], rng: random.Random) -> list[Example]:
    found = []
    names = [name for knowledge in own.values() for name in names_of(knowledge.statement)]
    for episode in episodes:
        about = episode.kind.startswith("question")
        found.append(Example(episode.messages, 0, about, episode.source_ids[0], False))
        if about and rng.random() < 0.5:
            text = neighbour(episode.messages[-1].content, rng, others=names)
            if text:
                messages = (*episode.messages[:-1], Message("user", text))
                found.append(Example(messages, 0, False, episode.source_ids[0], False))
    return found if len(found) <= MAX_OWN else rng.sample(found, MAX_OWN)


def _written_knowledge(chat: ChatFormat) -> list[tuple[Knowledge, ...]]:
    known = [knowledge_of(chat, fact.statement, ()) for fact in written_facts()[:NUM_WRITTEN]]
    return [tuple(known[i : i + WORLD_SIZE]) for i in range(0, len(known), WORLD_SIZE)]


def _written_examples(rng: random.Random) -> list[Example]:
    found = []
    for i, fact in enumerate(written_facts()[:NUM_WRITTEN]):
        for about, conversations in ((True, fact.about), (False, fact.near)):
            for texts in conversations:
                messages = conversation(texts)
                found.append(Example(messages, 1 + i // WORLD_SIZE, about, f"written {i}", True))
    prompts = neutral_prompts()
    num_sets = 1 + found[-1].known if found else 1
    for i, prompt in enumerate(prompts):
        found.append(Example(conversation([prompt]), rng.randrange(num_sets), False, f"neutral {i}", True))
    return found


def _fit_folds(features_NF: Tensor, examples: Sequence[Example], seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """(networks, [N] score of each example by the one network that hasn't seen its group)."""
    groups = sorted({example.group for example in examples})
    random.Random(seed).shuffle(groups)
    fold_of = {group: i % NUM_FOLDS for i, group in enumerate(groups)}
    folds_N = torch.tensor([fold_of[example.group] for example in examples])
    about_N = torch.tensor([float(example.about) for example in examples])
    mean_F, scale_F = features_NF.mean(0), features_NF.std(0) + 1e-3
    mean_F[-NUM_LEXICAL:], scale_F[-NUM_LEXICAL:] = 0.0, 1.0
    normal_NF = (features_NF - mean_F) / scale_F
    networks = []
    scores_N = torch.zeros(len(examples))
    for fold in range(NUM_FOLDS):
        inside = folds_N != fold
        network = _fit_network(normal_NF[inside], about_N[inside], seed * NUM_FOLDS + fold)
        networks.append(network)
        with torch.no_grad():
            scores_N[~inside] = network(normal_NF[~inside])[:, 0]
    weights = {
        name: torch.stack([dict(network.named_parameters())[key].detach() for network in networks])
        for name, key in (("in", "1.weight"), ("in_bias", "1.bias"), ("out", "4.weight"), ("out_bias", "4.bias"))
    }
    return {**weights, "mean": mean_F, "scale": scale_F}, scores_N


def _fit_network(features_NF: Tensor, about_N: Tensor, seed: int) -> nn.Sequential:
    share = about_N.mean().clamp(0.05, 0.95)
    weight_N = torch.where(about_N > 0, 0.5 / share, 0.5 / (1 - share))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Dropout(0.1), nn.Linear(features_NF.shape[1], HIDDEN), nn.GELU(), nn.Dropout(0.3), nn.Linear(HIDDEN, 1)
        )
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.3)
        for _ in range(EPOCHS):
            for batch in torch.split(torch.randperm(len(features_NF)), 256):
                logits = network(features_NF[batch])[:, 0]
                loss = binary_cross_entropy_with_logits(logits, about_N[batch], weight=weight_N[batch])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    return network.eval()


def _forward(weights: Mapping[str, Tensor], features_NF: Tensor) -> Tensor:
    """[folds, N] log-odds."""
    normal = (features_NF - weights["mean"]) / weights["scale"]
    hidden = torch.einsum("nf,khf->knh", normal, weights["in"].float()) + weights["in_bias"].float()[:, None]
    return torch.einsum("knh,koh->kn", nn.functional.gelu(hidden), weights["out"].float()) + weights["out_bias"].float()


def _threshold(scores_N: Tensor, examples: Sequence[Example]) -> float:
    """The cheapest log-odds to fire at, by examples that their network hasn't seen.

    Hand-written ones decide: the night's own are easier than what people will ask. A conversation counts once.
    """
    about = torch.tensor([e.about for e in examples])
    written = torch.tensor([e.written for e in examples])
    return cheapest_threshold(scores_N[about & written], scores_N[~about & written])


def cheapest_threshold(positives: Tensor, negatives: Tensor) -> float:
    """The log-odds at which missed questions and wrong activations cost least, as shares of what is allowed of each."""
    best, best_cost = 0.0, float("inf")
    for candidate in torch.cat([positives, negatives]).sort().values.tolist():
        false = float((negatives >= candidate).float().mean())
        cost = MISS_COST * float((positives < candidate).float().mean()) + FALSE_COST * false
        if cost < best_cost:
            best, best_cost = candidate, cost
    return float(best)
