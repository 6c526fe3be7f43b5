"""What a learner drives down: cross entropy on checked replies, and divergence from a distribution of the frozen base.

An `Example` is one token sequence with what is wanted at some of its positions. Examples of a step are laid out as
token trees, the layers below the adapter are computed once a run and remembered, and the vocabulary-wide logits exist
for the wanted positions only. Knows no optimiser, no clock and no files; called by the learners.

Shapes: P wanted positions, K kept entries of a distribution, J entries asked for, N nodes of a tree, D hidden width,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tenure.model.lowrank import decoder_layers, only_layers
from tenure.model.token_tree import TokenTree, attending_along_paths, in_batches, token_tree

REST = 1e-8  # floor of the probability outside the kept entries, against log(0)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A pruned distribution for each position: the base's K most likely tokens, in float32; the rest is one lump."""

    tokens_PK: Tensor
    log_probabilities_PK: Tensor

    @property
    def rest(self) -> Tensor:
        """Log-probability of everything outside the kept entries."""
        return (1 - self.log_probabilities_PK.exp().sum(-1)).clamp_min(REST).log()


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence. Position `start - 1` is the first whose next token counts; `tokens[start:]` are the targets.

    `hard` and `soft` weigh cross entropy and divergence; `weight` the whole; `wanted` fits the targets.
    """

    id: str
    tokens: tuple[int, ...]
    start: int
    hard: float = 1.0
    soft: float = 0.0
    weight: float = 1.0
    wanted: Wanted | None = field(default=None, compare=False)

    @property
    def num_targets(self) -> int:
        """Tokens to predict."""
        return len(self.tokens) - self.start


def log_probabilities(network: Any, hidden_PD: Tensor) -> Tensor:
    """[P, V] float32 log-probabilities of the next token from final hidden states."""
    logits_PV = network.lm_head(hidden_PD).float()
    cap = getattr(network.config.get_text_config(), "final_logit_softcapping", None)
    if cap:
        logits_PV = cap * torch.tanh(logits_PV / cap)
    return torch.log_softmax(logits_PV, dim=-1)


class FrozenBelow:
    """Runs a network whose layers below `first_layer` never change: their output is computed once a sequence."""

    def __init__(self, network: nn.Module, first_layer: int) -> None:
        self._network: Any = network
        self._num_layers = len(decoder_layers(network))
        self._first = first_layer
        self._remembered: dict[tuple[int, ...], Tensor] = {}

    def tree(self, sequences: Sequence[Sequence[int]]) -> TokenTree:
        """The tree of these sequences, where the network is."""
        return token_tree(sequences, self._network.device)

    @torch.no_grad()
    def remember(self, sequences: Sequence[tuple[int, ...]], *, max_tokens: int) -> None:
        """Compute the lower layers for sequences that are not known yet. Does nothing when the adapter starts at 0."""
        new = [s for s in dict.fromkeys(sequences) if s not in self._remembered]
        if not self._first:
            return
        with only_layers(self._network, range(self._first), with_norm=False):
            for run in in_batches([len(s) for s in new], max_tokens):
                tree = self.tree([new[i] for i in run])
                hidden_ND = self._body(tree, input_ids=tree.tokens_N[None])
                for i, nodes in zip(run, tree.nodes, strict=True):
                    self._remembered[new[i]] = hidden_ND[list(nodes)].clone()

    def hidden(self, tree: TokenTree, sequences: Sequence[tuple[int, ...]]) -> Tensor:
        """[N, D] final hidden states of the tree of `sequences`, which must be remembered."""
        if not self._first:
            return self._body(tree, input_ids=tree.tokens_N[None])
        width = self._remembered[sequences[0]].shape[-1]
        lower_ND = torch.empty(len(tree.tokens_N), width, dtype=self._remembered[sequences[0]].dtype)
        for sequence, nodes in zip(sequences, tree.nodes, strict=True):
            lower_ND[list(nodes)] = self._remembered[sequence]
        with only_layers(self._network, range(self._first, self._num_layers), with_norm=True):
            return self._body(tree, inputs_embeds=lower_ND[None])

    def _body(self, tree: TokenTree, **inputs: Tensor) -> Tensor:
        with attending_along_paths(self._network):
            out = self._network.base_model(**inputs, position_ids=tree.positions_N[None], use_cache=False, tree=tree)
        hidden: Tensor = out.last_hidden_state[0]
        return hidden


@torch.no_grad()
def distributions(
    network: nn.Module, sequences: Sequence[tuple[tuple[int, ...], int]], *, num_kept: int, max_tokens: int = 1024
) -> list[Wanted]:
    """The network's pruned distributions for (tokens, start), at the positions that predict `tokens[start:]`."""
    found = []
    body = FrozenBelow(network, 0)
    for run in in_batches([len(tokens) for tokens, _ in sequences], max_tokens):
        chosen = [sequences[i] for i in run]
        tree = body.tree([tokens for tokens, _ in chosen])
        hidden_ND = body.hidden(tree, [tokens for tokens, _ in chosen])
        for (_, start), nodes in zip(chosen, tree.nodes, strict=True):
            logs_PV = log_probabilities(network, hidden_ND[list(nodes[start - 1 : -1])])
            top = logs_PV.topk(num_kept, dim=-1)
            found.append(Wanted(top.indices, top.values))
    return found


def divergence(wanted: Wanted, own_PK: Tensor) -> Tensor:
    """[P] KL(wanted || network) in nats, with the pruned entries lumped together (a lower bound of the full KL).

    `own_PK` are the network's log-probabilities of the kept tokens.
    """
    rest_P = (1 - own_PK.exp().sum(-1)).clamp_min(REST).log()
    kept_P = (wanted.log_probabilities_PK.exp() * (wanted.log_probabilities_PK - own_PK)).sum(-1)
    return kept_P + wanted.rest.exp() * (wanted.rest - rest_P)


def example_losses(network: nn.Module, body: FrozenBelow, examples: Sequence[Example]) -> Tensor:
    """[number of examples] mean loss over each one's targets, weighted; one forward pass over their tree."""
    sequences = [e.tokens for e in examples]
    tree = body.tree(sequences)
    hidden_ND = body.hidden(tree, sequences)
    rows = [node for e, nodes in zip(examples, tree.nodes, strict=True) for node in nodes[e.start - 1 : -1]]
    # One gather for all that is asked of the vocabulary: every further one would cost a [P, V] gradient of its own.
    asked_PJ = torch.nn.utils.rnn.pad_sequence(
        [column for e in examples for column in _asked(e, hidden_ND.device)], batch_first=True
    )
    logs_PJ = log_probabilities(network, hidden_ND[rows]).gather(-1, asked_PJ)
    losses = [
        _loss(e, own) for e, own in zip(examples, torch.split(logs_PJ, [e.num_targets for e in examples]), strict=True)
    ]
    return torch.stack(losses)


def _asked(example: Example, device: torch.device) -> Tensor:
    """[P, 1 + K] the tokens whose log-probabilities an example's loss is made of: targets first."""
    targets_P1 = torch.tensor(example.tokens[example.start :], device=device)[:, None]
    return targets_P1 if example.wanted is None else torch.cat([targets_P1, example.wanted.tokens_PK], dim=-1)


def _loss(example: Example, logs_PJ: Tensor) -> Tensor:
    loss = -example.hard * logs_PJ[:, 0].mean()
    if example.soft and example.wanted is not None:
        num_kept = example.wanted.tokens_PK.shape[-1]
        loss = loss + example.soft * divergence(example.wanted, logs_PJ[:, 1 : 1 + num_kept]).mean()
    return example.weight * loss


def accumulate(network: nn.Module, body: FrozenBelow, examples: Sequence[Example], *, max_tokens: int) -> float:
    """Add the gradients of the examples' weighted sum, a tree of at most `max_tokens` at a time; returns the loss."""
    ordered = sorted(examples, key=lambda e: (len(e.tokens), e.id))
    total = 0.0
    for run in in_batches([len(e.tokens) for e in ordered], max_tokens):
        loss = example_losses(network, body, [ordered[i] for i in run]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total
