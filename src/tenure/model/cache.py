"""Keys and values: the slots of the running rows, and the blocks of finished prefixes that later requests may reuse.

Knows no requests; a prefix is named by the cache key hash(weight set, effective attachments and scales, tenant,
tokens).
Tensors: S slots, L positions, G key/value heads, D head width.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from tenure.store.digests import canonical_json
from tenure.types import AttachmentUse

BLOCK_TOKENS = 32


class Slots:
    """Preallocated keys and values, one slot a running row: `keys[layer]` and `values[layer]` are [S, L, G, D].

    Pages are touched only as rows grow, so unused length costs no memory. The lowest free slot is taken first, which
    keeps decoding rows together.
    """

    def __init__(
        self, *, num_layers: int, num_slots: int, length: int, num_heads: int, head_dim: int, dtype: torch.dtype
    ) -> None:
        shape = (2, num_layers, num_slots, length, num_heads, head_dim)
        self.length = length
        self._all = _untouched_zeros(shape, dtype)
        self.keys: list[Tensor] = list(self._all[0])
        self.values: list[Tensor] = list(self._all[1])
        self._free = list(range(num_slots))

    @property
    def num_free(self) -> int:
        """Slots that no row holds."""
        return len(self._free)

    def take(self) -> int:
        """The lowest free slot."""
        slot = min(self._free)
        self._free.remove(slot)
        return slot

    def give_back(self, slot: int) -> None:
        """Free a slot; its content stays until another row overwrites it."""
        assert slot not in self._free
        self._free.append(slot)

    def copy_out(self, slot: int, start: int, end: int) -> Tensor:
        """[2, layers, end - start, G, D]: a copy of keys and values of these positions."""
        return self._all[:, :, slot, start:end].clone()

    def copy_in(self, slot: int, start: int, block: Tensor) -> None:
        """Put what `copy_out` returned at `start` of a slot."""
        self._all[:, :, slot, start : start + block.shape[2]] = block


def _untouched_zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Zeros that the system hands out page by page at the first touch; torch.zeros would write them all."""
    num_bytes = math.prod(shape) * dtype.itemsize
    return torch.from_numpy(np.zeros(num_bytes, dtype=np.uint8)).view(dtype).view(shape)


def prefix_root(weights: str, attachments: Iterable[AttachmentUse], tenant: str) -> bytes:
    """What every block of a request's prefix is hashed with: nothing is shared across any of these."""
    uses = sorted((use.digest, use.scale) for use in attachments)
    return hashlib.sha256(canonical_json([weights, uses, tenant])).digest()


def block_names(root: bytes, tokens: Sequence[int]) -> list[bytes]:
    """The chained name of each whole block of `tokens`: a block's name covers all tokens before it."""
    names, name = [], root
    for start in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        block = b"".join(token.to_bytes(4, "little") for token in tokens[start : start + BLOCK_TOKENS])
        name = hashlib.sha256(name + block).digest()
        names.append(name)
    return names


class PrefixCache:
    """Blocks of keys and values by name, the least recently used leaving first."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._blocks: OrderedDict[bytes, Tensor] = OrderedDict()

    def find(self, names: Sequence[bytes]) -> list[Tensor]:
        """The longest kept run of these blocks from the start."""
        found = list(itertools.takewhile(self._blocks.__contains__, names))
        for name in reversed(found):  # the first block ends up the newest: without it the others are of no use
            self._blocks.move_to_end(name)
        return [self._blocks[name] for name in found]

    def keep(self, root: bytes, tokens: Sequence[int], slots: Slots, slot: int) -> None:
        """Copy the whole blocks of `tokens`, whose keys and values are in `slot`, unless they are kept already."""
        if self.max_bytes <= 0:
            return
        for i, name in reversed(list(enumerate(block_names(root, tokens)))):
            if name in self._blocks:
                self._blocks.move_to_end(name)
                continue
            block = slots.copy_out(slot, i * BLOCK_TOKENS, (i + 1) * BLOCK_TOKENS)
            self._blocks[name] = block
            self.num_bytes += block.numel() * block.element_size()
        while self.num_bytes > self.max_bytes:
            _, block = self._blocks.popitem(last=False)
            self.num_bytes -= block.numel() * block.element_size()
