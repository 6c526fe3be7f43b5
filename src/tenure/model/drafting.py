"""Drafts of a reply's next tokens, taken from what its row already holds; the batch checks them in one step.

A reply often says again what stands before it: words of a note, of the question, of itself. Where the last few tokens
stood before, what followed them then is a guess at what follows now (prompt lookup decoding, Saxena 2023; Yang et al.
2023, Inference with reference, section 3). A guess costs a row in a product that reads the whole weight anyway, and
never changes a reply: the batch takes it only where the row's own sampler chooses the same.
"""

from __future__ import annotations

from collections.abc import Sequence

LONGEST, SHORTEST = 3, 2  # tokens that must stand alike before what is drafted; the longer match is looked for first


class Drafter:
    """The drafts of one row. Their length follows how they fare: one token longer than the last one was right.

    After a draft that was wrong from its first token, only the longest match is trusted.
    """

    def __init__(self, tokens: Sequence[int], max_tokens: int) -> None:
        self._tokens: list[int] = []
        self._max_tokens = max_tokens
        self._length = 1
        self._ends: dict[tuple[int, ...], int] = {}  # of the last place of a run of tokens, its own end left out
        self._newest: list[tuple[int, ...]] = []
        if max_tokens > 0:
            for token in tokens:
                self.push(token)

    def push(self, token: int) -> None:
        """The row's next token."""
        if self._max_tokens <= 0:
            return
        for run in self._newest:  # only now does something follow them
            self._ends[run] = len(self._tokens)
        self._tokens.append(token)
        lengths = range(SHORTEST, min(LONGEST, len(self._tokens)) + 1)
        self._newest = [tuple(self._tokens[-n:]) for n in lengths]

    def draft(self, room: int) -> tuple[int, ...]:
        """At most `room` tokens that may come next; empty where the last ones never stood before."""
        length = min(max(1, self._length), self._max_tokens, room)
        for run in reversed(self._newest) if length > 0 else ():
            start = self._ends.get(run) if self._length or len(run) == LONGEST else None
            if start is not None:
                return tuple(self._tokens[start : start + length])
        return ()

    def fared(self, num_drafted: int, num_right: int) -> None:
        """How many tokens of the last draft were right."""
        if num_drafted:
            self._length = num_right + 1 if num_right else 0
