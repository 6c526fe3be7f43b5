"""The one training loop: steps within a budget of seconds, recorded so that they can be repeated exactly.

The loop owns optimiser, learning rate, clipping, the clock and the record. It knows neither losses nor data: a learner
hands it the trainable parameters, an endless order of batches and a function that adds up gradients for one batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import nn

from tenure.errors import LearnError, OutOfTime

Batch = tuple[str, ...]
Accumulate = Callable[[Batch], float]
Told = Callable[[int, int, float], None]

NUM_TIMED_STEPS = 4  # the first steps, taken before the length of the run is fixed by the clock
SPARE_SHARE = 0.03  # of the budget, kept for writing the artefact


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast: AdamW, a linear warm-up, a half cosine down to `final_share` of the rate."""

    num_steps: int = 100
    learning_rate: float = 5e-4
    warmup_steps: int = 5
    final_share: float = 0.1
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    betas: tuple[float, float] = (0.9, 0.99)

    def rate(self, step: int, planned_steps: int) -> float:
        """The learning rate of a step (from 0). Warm-up doesn't depend on the length, which is fixed a few steps in."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, planned_steps - self.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        return self.learning_rate * (self.final_share + (1 - self.final_share) * cosine)


@dataclass(frozen=True, slots=True)
class Replay:
    """The steps that a run really took: their batches, and the length for which its learning rates were planned."""

    batch_order: tuple[Batch, ...]
    planned_steps: int


@dataclass(frozen=True, slots=True)
class Run:
    """What a training run did. `losses` is one number a step; `replay` repeats it."""

    replay: Replay
    losses: tuple[float, ...]
    seconds: float

    @property
    def num_steps(self) -> int:
        """Steps really taken."""
        return len(self.losses)


def train(
    parameters: Sequence[nn.Parameter],
    accumulate: Accumulate,
    batches: Iterable[Batch],
    schedule: Schedule,
    *,
    budget_seconds: float,
    replay: Replay | None = None,
    told: Told | None = None,
) -> Run:
    """Train `parameters` in place.

    `accumulate(batch)` runs forward and backward and returns the loss. The first few steps are timed; then the run is
    planned to end within `budget_seconds` (at most `schedule.num_steps`), and stops there in any case. With `replay`
    the clock is ignored and the recorded steps are taken again: on the same machine, with the same threads, torch and
    seed, the parameters come out bit-identical.

    Raises LearnError when the loss is no number, OutOfTime when the budget ends before the first step.
    """
    started = time.monotonic()
    # One fused pass over small tensors would be enough; foreach keeps the Python time of hundreds of them away.
    optimiser = torch.optim.AdamW(
        parameters, lr=schedule.learning_rate, betas=schedule.betas, weight_decay=schedule.weight_decay, foreach=True
    )
    planned = replay.planned_steps if replay else schedule.num_steps
    source = replay.batch_order if replay else islice(batches, schedule.num_steps)
    budget = math.inf if replay else budget_seconds * (1 - SPARE_SHARE)
    taken: list[Batch] = []
    losses: list[float] = []
    for step, batch in enumerate(source):
        elapsed = time.monotonic() - started
        if not replay and step == NUM_TIMED_STEPS:
            planned = max(step, int(min(budget / (elapsed / step), schedule.num_steps)))
        if step >= planned or elapsed + elapsed / max(1, step) > budget:
            break
        losses.append(_step(optimiser, parameters, accumulate, batch, schedule, schedule.rate(step, planned)))
        taken.append(batch)
        if told:
            told(step + 1, planned, losses[-1])
    if not losses:
        raise OutOfTime(f"no step fits into {budget_seconds:.1f} seconds; give the learner a larger budget")
    return Run(Replay(tuple(taken), planned), tuple(losses), time.monotonic() - started)


def _step(
    optimiser: torch.optim.Optimizer,
    parameters: Sequence[nn.Parameter],
    accumulate: Accumulate,
    batch: Batch,
    schedule: Schedule,
    rate: float,
) -> float:
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    loss = accumulate(batch)
    if not math.isfinite(loss):
        raise LearnError(f"the loss became {loss} at a learning rate of {rate:g}; lower it")
    nn.utils.clip_grad_norm_(parameters, schedule.clip_norm)
    optimiser.step()
    return loss


class RunningMean:
    """The exponential mean of parameters over the steps of a run: what the last steps only jittered about.

    Iterate averaging (Polyak, Juditsky 1992) with a window: `decay` a step, at first step / (step + 10).
    """

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self._parameters = parameters
        self._decay = decay
        self._mean = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def follow(self, step: int) -> None:
        """Take in the parameters as they are after that step, counted from 1."""
        share = 1 - min(self._decay, step / (step + 10))
        for mean, parameter in zip(self._mean, self._parameters, strict=True):
            mean.lerp_(parameter, share)

    @torch.no_grad()
    def settle(self) -> None:
        """Put the mean in the parameters' place."""
        for mean, parameter in zip(self._mean, self._parameters, strict=True):
            parameter.copy_(mean)
