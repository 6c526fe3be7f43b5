"""Likelihoods and states of given text: many sequences packed into one forward call, nothing sampled, nothing kept.

A result doesn't depend on the other sequences of the list: each attends to itself only, and the linear layers' products
are the same whatever rows stand beside (see docs/engine.md). Knows no requests under way; called by the engine.
Tensors: N packed tokens, n selected positions, V vocabulary, C channels, T tokens of one sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tenure.errors import InputError
from tenure.model.attachments import Shelf, Used
from tenure.model.network import ServedNetwork
from tenure.model.nn.plan import Plan
from tenure.model.nn.row_attention import Tree, TreeAttention
from tenure.model.requests import ScoreRequest, ScoreResult
from tenure.model.token_tree import in_batches
from tenure.model.turnstile import Turnstile
from tenure.model.weight_sets import WeightSet

HEAD_ROWS = 64


@dataclass(frozen=True, slots=True)
class Item:
    """A score request ready to run: its tree of tokens, and where each continuation's tokens are predicted."""

    tokens: tuple[int, ...]
    tree: Tree
    used: Used
    predicted: tuple[tuple[tuple[int, int], ...], ...]  # for each continuation: (place in the tree, token)


def item_of(request: ScoreRequest, used: Used) -> Item:
    """Lay out prompt and continuations; the last token of a continuation is predicted but never read.

    Raises InputError for an empty prompt or continuation.
    """
    if not request.tokens or not request.continuations or not all(request.continuations):
        raise InputError("a prompt or a continuation to score has no tokens; give at least one token each")
    tokens, lengths, predicted = list(request.tokens), [len(request.tokens)], []
    for continuation in request.continuations:
        places = [len(request.tokens) - 1, *range(len(tokens), len(tokens) + len(continuation) - 1)]
        predicted.append(tuple(zip(places, continuation, strict=True)))
        tokens += continuation[:-1]
        lengths.append(len(continuation) - 1)
    lengths = lengths if any(lengths[1:]) else lengths[:1]
    return Item(tuple(tokens), Tree(tuple(lengths)), used, tuple(predicted))


class Scorer:
    """Runs whole sequences through the served network, taking turns with the running batch."""

    def __init__(self, network: ServedNetwork, shelf: Shelf, turnstile: Turnstile) -> None:
        self._network = network
        self._shelf = shelf
        self._turnstile = turnstile

    def score(self, items: Sequence[Item], weight_set: WeightSet, *, batch_tokens: int) -> list[ScoreResult]:
        """Log-likelihoods of all items' continuations."""
        results: list[ScoreResult] = []
        for run in in_batches([item.tree.count for item in items], batch_tokens):
            with self._turnstile.turn(), torch.inference_mode():
                results += self._score_batch([items[i] for i in run], weight_set)
        return results

    def _score_batch(self, items: Sequence[Item], weight_set: WeightSet) -> list[ScoreResult]:
        hidden_NC, plan = self._run(items, weight_set)
        places: list[int] = []
        tokens: list[int] = []
        offset = 0
        for item in items:
            for continuation in item.predicted:
                places += [offset + place for place, _ in continuation]
                tokens += [token for _, token in continuation]
            offset += item.tree.count
        logprobs = iter(self._logprobs(hidden_NC, plan, places, tokens).tolist())
        return [ScoreResult(tuple(sum(next(logprobs) for _ in c) for c in item.predicted)) for item in items]

    def _run(self, items: Sequence[Item], weight_set: WeightSet) -> tuple[Tensor, Plan]:
        terms = self._shelf.terms([(item.used, item.tree.count) for item in items])
        plan = Plan(TreeAttention([item.tree for item in items]), weight_set.weights, terms)
        tokens_N = torch.tensor([token for item in items for token in item.tokens])
        positions_N = torch.tensor([p for item in items for p in item.tree.positions()])
        return self._network.hidden(tokens_N, positions_N, plan), plan

    def _logprobs(self, hidden_NC: Tensor, plan: Plan, places: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """float32 log-probability of each token at its place; the head runs once for places that occur twice."""
        distinct_n, which = torch.unique(torch.tensor(places), return_inverse=True)
        wanted, out = torch.tensor(tokens), torch.empty(len(tokens))
        for start in range(0, len(distinct_n), HEAD_ROWS):
            here = (which >= start) & (which < start + HEAD_ROWS)
            logits_nV = self._network.logits(hidden_NC, distinct_n[start : start + HEAD_ROWS], plan)
            total_n = logits_nV.logsumexp(dim=-1)
            row = which[here] - start
            out[here] = logits_nV[row, wanted[here]] - total_n[row]
        return out

    def distributions(self, item: Item, weight_set: WeightSet) -> Tensor:
        """[T, V] float32 log-probabilities at every position of the item's only continuation."""
        with self._turnstile.turn(), torch.inference_mode():
            hidden_NC, plan = self._run([item], weight_set)
            places = torch.tensor([place for place, _ in item.predicted[0]])
            parts = [
                torch.log_softmax(self._network.logits(hidden_NC, places[i : i + HEAD_ROWS], plan), dim=-1)
                for i in range(0, len(places), HEAD_ROWS)
            ]
        return torch.cat(parts)

    def hidden_states(self, prompts: Sequence[Sequence[int]], *, layer: int, batch_tokens: int) -> list[Tensor]:
        """[T, C] float32 states of the base after `layer` layers, before the final norm."""
        states: list[Tensor] = []
        for run in in_batches([len(p) for p in prompts], batch_tokens):
            chosen = [prompts[i] for i in run]
            plan = Plan(TreeAttention([Tree((len(p),)) for p in chosen]))
            tokens_N = torch.tensor([token for p in chosen for token in p])
            positions_N = torch.tensor([i for p in chosen for i in range(len(p))])
            with self._turnstile.turn(), torch.inference_mode():
                hidden_NC = self._network.hidden(tokens_N, positions_N, plan, layer=layer)
            # A clone outside inference mode may take part in training (of a router's keys).
            states += [part.clone() for part in torch.split(hidden_NC.float(), [len(p) for p in chosen])]
        return states
