"""The loop keeps its budget, records what it did, and repeats it."""

from __future__ import annotations

import itertools
import time

import pytest
import torch
from torch import nn

from tenure.errors import LearnError
from tenure.model.training import RunningMean, Schedule, train

SCHEDULE = Schedule(num_steps=40, learning_rate=0.2, warmup_steps=5)


def problem(pause_seconds: float = 0.0) -> tuple[nn.Parameter, object]:
    x = nn.Parameter(torch.tensor([3.0, -2.0]))

    def accumulate(batch: tuple[str, ...]) -> float:
        time.sleep(pause_seconds)
        loss = ((x - float(batch[0])) ** 2).sum()
        loss.backward()
        return float(loss.detach())

    return x, accumulate


def endless() -> itertools.cycle[tuple[str, ...]]:
    return itertools.cycle([("0",), ("1",), ("0.5",)])


def test_it_trains_and_records_every_step() -> None:
    x, accumulate = problem()
    seen = []
    run = train([x], accumulate, endless(), SCHEDULE, budget_seconds=60, told=lambda *a: seen.append(a[:2]))
    assert run.num_steps == 40 and len(run.replay.batch_order) == 40
    assert max(run.losses[-3:]) < 0.2 * run.losses[0]
    assert seen[-1] == (40, 40)


def test_a_short_budget_is_kept_and_its_steps_can_be_repeated_exactly() -> None:
    x, accumulate = problem(pause_seconds=0.02)
    started = time.monotonic()
    run = train([x], accumulate, endless(), SCHEDULE, budget_seconds=0.4)
    assert time.monotonic() - started < 0.5
    assert 4 < run.num_steps < 20 and run.replay.planned_steps < 20
    y, again = problem()
    repeated = train([y], again, endless(), SCHEDULE, budget_seconds=1e-9, replay=run.replay)
    assert torch.equal(x, y) and repeated.losses == run.losses and repeated.replay == run.replay


def test_rates_warm_up_and_then_fall() -> None:
    rates = [SCHEDULE.rate(step, 40) for step in range(40)]
    assert rates[:5] == pytest.approx([0.04, 0.08, 0.12, 0.16, 0.2])
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert SCHEDULE.rate(40, 40) == pytest.approx(0.02)


def test_no_step_and_no_number_are_errors() -> None:
    x, accumulate = problem()
    with pytest.raises(LearnError, match="budget"):
        train([x], accumulate, endless(), SCHEDULE, budget_seconds=0)
    with pytest.raises(LearnError, match="lower it"):
        train([x], lambda batch: float("nan"), endless(), SCHEDULE, budget_seconds=9)


def test_the_running_mean_lies_between_what_it_followed() -> None:
    x = nn.Parameter(torch.tensor([0.0, 4.0]))
    mean = RunningMean([x], decay=0.1)
    with torch.no_grad():
        for step, value in enumerate((1.0, 3.0), start=1):
            x.fill_(value)
            mean.follow(step)
    mean.settle()
    # At first it follows closely: the decay is step / (step + 10) as long as that is less than what was asked for.
    first = torch.tensor([0.0, 4.0]).lerp(torch.ones(2), 10 / 11)
    torch.testing.assert_close(x.detach(), first.lerp(torch.full((2,), 3.0), 0.9))
