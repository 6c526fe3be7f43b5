"""A worker thread steps while others submit, score, swap versions and go away."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from served import engine_of, prompt, request, tiny, write_adapter

from tenure.errors import ModelError
from tenure.model.language_model import LanguageModel
from tenure.model.requests import GenerationRequest, Sampling, ScoreRequest
from tenure.model.turnstile import Turnstile
from tenure.model.worker import EngineWorker
from tenure.types import AttachmentUse


@pytest.fixture(scope="module")
def model(tiny_model_directory: Path) -> LanguageModel:
    return tiny(tiny_model_directory)


def test_many_threads_get_what_each_would_get_alone(model: LanguageModel) -> None:
    engine = engine_of(model)
    requests = [request(i, 5 + i, 8) for i in range(16)]
    wanted = [engine_of(model).generate([r])[0].tokens for r in requests]
    worker = EngineWorker(engine)
    worker.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            said = list(pool.map(lambda r: engine.submit(r).result().tokens, requests))
            listed = engine.generate(requests[:3])
    finally:
        worker.stop()
    assert said == wanted
    assert [c.tokens for c in listed] == wanted[:3]
    assert (engine.num_running, engine.num_waiting) == (0, 0)


def test_versions_are_swapped_under_load_without_a_failed_request(
    model: LanguageModel, tiny_model_directory: Path, tmp_path: Path
) -> None:
    adapters = [write_adapter(tiny_model_directory, tmp_path / f"a{i}", seed=i) for i in range(2)]
    engine = engine_of(model)
    item = ScoreRequest(prompt(1, 20), (prompt(2, 3),))
    base_score = engine.score([item])[0]
    stop, failures = threading.Event(), list[str]()

    def ask() -> None:
        asked = 0
        while not stop.is_set() or asked < 3:
            weights = max(engine.weight_sets)  # the newest version's name is the largest
            completion = engine.submit(request(asked, 12, 6, weights=weights)).result()
            if completion.finish_reason not in ("stop", "length"):
                failures.append(completion.error)
            asked += 1

    worker = EngineWorker(engine)
    worker.start()
    try:
        with ThreadPoolExecutor(5) as pool:
            askers = [pool.submit(ask) for _ in range(4)]
            for i in range(12):
                engine.add_weights(f"v{i:02}", [(adapters[i % 2], 1.0)])
                engine.add_attachment(f"m{i}", adapters[i % 2])
                assert engine.score([item])[0].log_likelihoods == pytest.approx(base_score.log_likelihoods, abs=1e-4)
                assert engine.hidden_states([prompt(1, 6)], layer=1)[0].shape == (6, 64)
                if i >= 4:
                    engine.drop_weights(f"v{i - 4:02}")
                    engine.drop_attachment(f"m{i - 4}")
            stop.set()
            for asker in askers:
                asker.result(timeout=60)
    finally:
        stop.set()
        worker.stop()
    assert failures == []


def test_requests_left_when_the_worker_stops_end_as_cancelled(model: LanguageModel) -> None:
    engine = engine_of(model, max_batch=1)
    worker = EngineWorker(engine)
    worker.start()
    generations = [engine.submit(request(i, 5, 480)) for i in range(3)]
    events = iter(generations[0])
    next(events)
    worker.stop()
    reasons = [g.result().finish_reason for g in generations]
    assert set(reasons) <= {"cancelled", "stop", "length"}
    assert reasons[-1] == "cancelled"
    assert engine.submit(request(1, 5, 3)).result().finish_reason in ("stop", "length"), "it still serves without one"


class Breaks:
    """An adapter's factor that can't be multiplied: stands for whatever one row may provoke in a step."""

    def __init__(self, engine: Any) -> None:
        shelf = engine._shelf
        self.real = shelf.terms

    def terms(self, rows: Any) -> Any:
        if any(adapter.digest == "bad" for used, _ in rows for adapter, _ in used):
            raise RuntimeError("bad factors")
        return self.real(rows)


def test_an_error_costs_only_the_rows_that_it_belongs_to(
    model: LanguageModel, tiny_model_directory: Path, tmp_path: Path
) -> None:
    engine = engine_of(model)
    engine.add_attachment("bad", write_adapter(tiny_model_directory, tmp_path / "bad", seed=1))
    engine._shelf.terms = Breaks(engine).terms  # type: ignore[method-assign]
    good = [engine.submit(request(i)) for i in range(2)]
    bad = engine.submit(request(3, attachments=(AttachmentUse("bad"),)))
    assert bad.result().finish_reason == "error"
    assert "bad factors" in bad.result().error
    assert [g.result().tokens for g in good] == [engine_of(model).generate([request(i)])[0].tokens for i in range(2)]
    assert engine.counters.num_failed == 1
    with pytest.raises(ModelError, match="request 1 of 2"):
        engine.generate([request(1), request(3, attachments=(AttachmentUse("bad"),))])
    assert engine.generate([request(1)])[0].tokens == good[1].result().tokens


def test_a_turnstile_lets_through_in_the_order_of_asking() -> None:
    turnstile, order = Turnstile(), list[int]()
    threads = []
    with turnstile.turn():
        for i in range(6):

            def go(i: int = i) -> None:
                with turnstile.turn():
                    order.append(i)

            threads.append(threading.Thread(target=go))
            threads[-1].start()
            while len(turnstile._queue) <= i:
                pass
    for thread in threads:
        thread.join()
    assert order == list(range(6))


def test_counters_count(model: LanguageModel) -> None:
    engine = engine_of(model)
    done = engine.generate([request(1, 40, 5), GenerationRequest(prompt(2, 7), Sampling(max_tokens=3))])
    counters = engine.counters
    assert counters.num_prompt_tokens == 47
    assert counters.num_generated_tokens == sum(len(c.tokens) for c in done)
    assert counters.num_finished == 2
    assert counters.num_steps >= 5
    assert torch.get_num_threads() == 1
