"""From logits to a token: greedy, temperature, top-p and log-probabilities, with a generator of each row's own.

Knows no network and no batch: a row's choice depends on its logits and its seed only. Called by the batch.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from tenure.errors import InputError
from tenure.model.constraint import Constraint
from tenure.model.requests import Sampling

SEED_BITS = 63


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen token with its log-probability and the likeliest (token, log-probability) pairs, if asked for."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def check_sampling(sampling: Sampling, vocab_size: int) -> None:
    """Raises InputError for values that can't be used."""
    if sampling.max_tokens < 1:
        raise InputError(f"max_tokens is {sampling.max_tokens}; it must be at least 1")
    if not 0.0 <= sampling.temperature <= 100.0:
        raise InputError(f"temperature is {sampling.temperature}; it must be 0 (greedy) or more, at most 100")
    if not 0.0 < sampling.top_p <= 1.0:
        raise InputError(f"top_p is {sampling.top_p}; it must be above 0 and at most 1")
    if sampling.logprobs is not None and not 0 <= sampling.logprobs <= min(vocab_size, 100):
        raise InputError(f"logprobs is {sampling.logprobs}; it must be between 0 and 100")
    if any(not stop for stop in sampling.stop):
        raise InputError("a stop string is empty; leave it out")


class Sampler:
    """Chooses the tokens of one reply."""

    def __init__(self, sampling: Sampling, constraint: Constraint | None = None) -> None:
        self._sampling = sampling
        self._constraint = constraint
        seed = sampling.seed if sampling.seed is not None else random.SystemRandom().getrandbits(SEED_BITS)
        self._generator = torch.Generator().manual_seed(seed % 2**SEED_BITS)

    @property
    def plain(self) -> bool:
        """Whether the choice is the largest logit and nothing else is asked for."""
        s = self._sampling
        return s.temperature == 0.0 and s.logprobs is None and self._constraint is None

    @property
    def complete(self) -> bool:
        """Whether the constraint lets nothing follow."""
        return self._constraint is not None and self._constraint.complete

    def choose(self, logits_V: Tensor) -> Choice:
        """The next token from float32 logits [V]."""
        open_V = self._constraint.allow(logits_V) if self._constraint else logits_V
        token = self._draw(open_V)
        if self._constraint is not None:
            self._constraint.take(token)
        return self._with_logprobs(token, logits_V)

    def _draw(self, logits_V: Tensor) -> int:
        s = self._sampling
        if s.temperature == 0.0:
            return int(logits_V.argmax())
        probabilities_V = torch.softmax(logits_V / s.temperature, dim=-1)
        if s.top_p < 1.0:
            sorted_V, order_V = probabilities_V.sort(descending=True, stable=True)
            before_V = sorted_V.cumsum(0) - sorted_V
            sorted_V[before_V >= s.top_p] = 0.0  # the token that crosses top_p stays in
            return int(order_V[torch.multinomial(sorted_V, 1, generator=self._generator)])
        return int(torch.multinomial(probabilities_V, 1, generator=self._generator))

    def _with_logprobs(self, token: int, logits_V: Tensor) -> Choice:
        wanted = self._sampling.logprobs
        if wanted is None:
            return Choice(token)
        logprobs_V = torch.log_softmax(logits_V, dim=-1)
        if not wanted:
            return Choice(token, float(logprobs_V[token]))
        values, tokens = logprobs_V.topk(wanted)
        top = tuple(zip(tokens.tolist(), values.tolist(), strict=True))
        return Choice(token, float(logprobs_V[token]), top)


class StopText:
    """Finds stop strings in text that comes in pieces, holding back what may be the beginning of one."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.found = False

    def push(self, text: str) -> str:
        """What may be shown now; nothing more once a stop string was found."""
        if not self._stops or self.found:
            return "" if self.found else text
        self._held += text
        places = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if places:
            self.found = True
            shown, self._held = self._held[: min(places)], ""
            return shown
        keep = max(self._beginning_of(stop) for stop in self._stops)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def _beginning_of(self, stop: str) -> int:
        """How many last characters held are a beginning of `stop`."""
        longest = min(len(stop) - 1, len(self._held))
        return next((n for n in range(longest, 0, -1) if stop.startswith(self._held[-n:])), 0)

    def flush(self) -> str:
        """What is still held back, when the reply ends otherwise."""
        held, self._held = self._held, ""
        return held
