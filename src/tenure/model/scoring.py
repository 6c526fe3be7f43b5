"""Likelihoods and states of given text: many sequences packed into one forward call, nothing sampled, nothing kept.

A result doesn't depend on the other sequences of the list: each attends to itself only, and the linear layers' products
are the same whatever rows stand beside (see docs/engine.md). Knows no requests under way; called by the engine.
Tensors: N packed tokens, n selected positions, V vocabulary, C channels, T tokens of one sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tenure.errors import InputError
from tenure.model.attachments import Shelf, Used
from tenure.model.cache import BLOCK_TOKENS
from tenure.model.network import ServedNetwork
from tenure.model.nn.plan import Plan
from tenure.model.nn.row_attention import Span, SpanAttention, Tree
from tenure.model.requests import ScoreRequest, ScoreResult
from tenure.model.token_tree import in_batches
from tenure.model.turnstile import Turnstile
from tenure.model.weight_sets import WeightSet

HEAD_ROWS = 64


@dataclass(frozen=True, slots=True)
class Item:
    """A score request ready to run: the prompt, the continuations without their last tokens, and the adapters.

    Other items begin with the first `head` tokens, too: those are laid out apart, so that they are computed once.
    """

    prompt: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]
    used: Used
    head: int = 0

    @property
    def num_tokens(self) -> int:
        """Tokens to run; the last of a continuation is predicted but never read."""
        return len(self.prompt) + sum(len(c) - 1 for c in self.continuations)


def item_of(request: ScoreRequest, used: Used) -> Item:
    """Check and wrap a request. Raises InputError for an empty prompt or continuation."""
    if not request.tokens or not request.continuations or not all(request.continuations):
        raise InputError("a prompt or a continuation to score has no tokens; give at least one token each")
    return Item(request.tokens, request.continuations, used)


@dataclass(slots=True)
class Pack:
    """Items laid out for one forward call: whole blocks of prompts that begin alike are there once, and so are heads.

    `places` has, for each item added, where each of its continuations' tokens are predicted.
    """

    tokens: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    uses: list[tuple[Used, int]] = field(default_factory=list)
    places: list[list[list[int]]] = field(default_factory=list)
    _blocks: dict[tuple[object, ...], tuple[int, int]] = field(default_factory=dict)

    def add(self, item: Item) -> None:
        """Lay out one more item."""
        start, before = 0, list[tuple[int, int]]()
        chain: tuple[object, ...] = tuple((id(adapter), scale) for adapter, scale in item.used)
        for end in block_ends(len(item.prompt), item.head):
            block = item.prompt[start:end]
            chain = (chain, block)
            if chain not in self._blocks:
                place = self._span(block, Tree((len(block),)), before, item.used)
                self._blocks[chain] = (place, place + len(block))
            before.append(self._blocks[chain])
            start = end
        rest = item.prompt[start:]
        lengths = [len(c) - 1 for c in item.continuations]
        tree = Tree((len(rest), *lengths) if any(lengths) else (len(rest),))
        place = self._span([*rest, *(t for c in item.continuations for t in c[:-1])], tree, before, item.used)
        last, branch, places = place + len(rest) - 1, place + len(rest), []
        for length in lengths:
            places.append([last, *range(branch, branch + length)])
            branch += length
        self.places.append(places)

    def _span(self, tokens: Sequence[int], tree: Tree, before: Sequence[tuple[int, int]], used: Used) -> int:
        place, ranges = len(self.tokens), list[tuple[int, int]]()
        for start, end in before:
            if ranges and ranges[-1][1] == start:
                ranges[-1] = (ranges[-1][0], end)
            else:
                ranges.append((start, end))
        span = Span(place, tree, tuple(ranges))
        self.spans.append(span)
        self.tokens += tokens
        self.positions += [span.num_before + position for position in tree.positions()]
        self.uses.append((used, tree.count))
        return place


def block_ends(num_tokens: int, head: int) -> list[int]:
    """Where the blocks of a prompt end, but for its last: full ones up to the end of its head, and from there on."""
    ends = [*range(BLOCK_TOKENS, head, BLOCK_TOKENS), *([head] if head else [])]
    return [end for end in (*ends, *range(head + BLOCK_TOKENS, num_tokens, BLOCK_TOKENS)) if end < num_tokens]


class Scorer:
    """Runs whole sequences through the served network, taking turns with the running batch."""

    def __init__(self, network: ServedNetwork, shelf: Shelf, turnstile: Turnstile) -> None:
        self._network = network
        self._shelf = shelf
        self._turnstile = turnstile

    def score(self, items: Sequence[Item], weight_set: WeightSet, *, batch_tokens: int) -> list[ScoreResult]:
        """Log-likelihoods of all items' continuations; items that begin alike are computed together."""
        order = sorted(range(len(items)), key=lambda i: items[i].prompt)
        results: dict[int, ScoreResult] = {}
        while order:
            pack, taken = Pack(), list[int]()
            while order and (not taken or len(pack.tokens) + items[order[0]].num_tokens <= batch_tokens):
                taken.append(order.pop(0))
                pack.add(items[taken[-1]])
            with self._turnstile.turn(), torch.inference_mode():
                scored = self._score_pack(pack, [items[i] for i in taken], weight_set)
            results.update(zip(taken, scored, strict=True))
        return [results[i] for i in range(len(items))]

    def _score_pack(self, pack: Pack, items: Sequence[Item], weight_set: WeightSet) -> list[ScoreResult]:
        hidden_NC, plan = self._run(pack, weight_set)
        places = [place for item in pack.places for continuation in item for place in continuation]
        tokens = [token for item in items for continuation in item.continuations for token in continuation]
        logprobs = iter(self._logprobs(hidden_NC, plan, places, tokens).tolist())
        return [ScoreResult(tuple(sum(next(logprobs) for _ in c) for c in item.continuations)) for item in items]

    def _run(self, pack: Pack, weight_set: WeightSet) -> tuple[Tensor, Plan]:
        plan = Plan(SpanAttention(pack.spans), weight_set.weights, self._shelf.terms(pack.uses))
        return self._network.hidden(torch.tensor(pack.tokens), torch.tensor(pack.positions), plan), plan

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
        pack = Pack()
        pack.add(item)
        with self._turnstile.turn(), torch.inference_mode():
            hidden_NC, plan = self._run(pack, weight_set)
            places = torch.tensor(pack.places[0][0])
            parts = [
                torch.log_softmax(self._network.logits(hidden_NC, places[i : i + HEAD_ROWS], plan), dim=-1)
                for i in range(0, len(places), HEAD_ROWS)
            ]
        return torch.cat(parts)

    def hidden_states(
        self, prompts: Sequence[Sequence[int]], used: Used, *, layer: int, heads: Sequence[int], batch_tokens: int
    ) -> list[Tensor]:
        """[T, C] float32 states of the base with adapters after `layer` layers, before the final norm.

        Prompts with the same head, the first `heads[i]` tokens, are computed together.
        """
        order = sorted(range(len(prompts)), key=lambda i: tuple(prompts[i][: heads[i]]))
        states: dict[int, Tensor] = {}
        for run in in_batches([len(prompts[i]) for i in order], batch_tokens):
            pack, taken = Pack(), [order[i] for i in run]
            for i in taken:
                # A continuation of one token is only predicted: what runs is the prompt.
                pack.add(Item(tuple(prompts[i]), ((0,),), used, heads[i]))
            plan = Plan(SpanAttention(pack.spans), terms=self._shelf.terms(pack.uses))
            with self._turnstile.turn(), torch.inference_mode():
                hidden_NC = self._network.hidden(
                    torch.tensor(pack.tokens), torch.tensor(pack.positions), plan, layer=layer
                )
            states.update((i, self._own_states(hidden_NC, pack, n, prompts[i])) for n, i in enumerate(taken))
        return [states[i] for i in range(len(prompts))]

    def _own_states(self, hidden_NC: Tensor, pack: Pack, index: int, prompt: Sequence[int]) -> Tensor:
        last = pack.places[index][0][0]
        span = next(s for s in pack.spans if s.place <= last < s.place + s.tree.count)
        rows = [*(range(start, end) for start, end in span.before), range(span.place, last + 1)]
        index_T = torch.tensor([row for run in rows for row in run])
        assert len(index_T) == len(prompt)
        # Copied outside inference mode, so that it may take part in training (of a router's keys).
        return hidden_NC[index_T].float().clone()
