"""A tree of sequences gives every sequence what it would get alone, and computes the shared beginning once."""

from __future__ import annotations

import pytest
import torch

from tenure.model.language_model import LanguageModel
from tenure.model.token_tree import in_batches, token_tree
from tenure.modules.objectives import FrozenBelow

SEQUENCES = [(1, 5, 6, 7, 8), (1, 5, 6, 9), (1, 5, 6, 7, 8, 4, 2), (3, 3, 3)]


def test_shared_beginnings_are_one_branch() -> None:
    tree = token_tree(SEQUENCES)
    assert len(tree.tokens_N) == 5 + 1 + 2 + 3
    assert tree.nodes[0] == tree.nodes[2][:5]
    assert [int(tree.tokens_N[n]) for n in tree.nodes[2]] == list(SEQUENCES[2])
    assert [int(tree.positions_N[n]) for n in tree.nodes[3]] == [0, 1, 2]
    assert tree.paths_SL.shape == (4, 7)
    assert tree.paths_SL.flatten()[tree.places_N].tolist() == list(range(len(tree.tokens_N)))


@pytest.mark.parametrize("first_layer", [0, 1])
def test_a_tree_gives_each_sequence_its_own_hidden_states(model: LanguageModel, first_layer: int) -> None:
    body = FrozenBelow(model.network, first_layer)
    body.remember(SEQUENCES, max_tokens=6)
    tree = token_tree(SEQUENCES)
    with torch.no_grad():
        hidden_ND = body.hidden(tree, SEQUENCES)
        for sequence, nodes in zip(SEQUENCES, tree.nodes, strict=True):
            alone = model.network.base_model(input_ids=torch.tensor([sequence])).last_hidden_state[0]
            torch.testing.assert_close(hidden_ND[list(nodes)], alone, atol=1e-5, rtol=1e-4)


def test_batches_keep_the_order_and_the_limit() -> None:
    assert in_batches([3, 3, 3, 9, 1], 6) == [[0, 1], [2], [3], [4]]
    assert in_batches([], 6) == []
