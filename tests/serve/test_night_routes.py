"""Nights as fine-tuning jobs: asked for, followed, cancelled; a real one in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import openai
import pytest
from house import House, Serve, settings_of

from tenure.config import Config, load_config, write_settings
from tenure.errors import ConfigError
from tenure.serve.flights import Flights
from tenure.serve.nightwatch import NightWatch, due_after
from tenure.store.library import Store
from tenure.store.nights import NightStatus


@pytest.fixture(scope="module")
def sleeper(serve: Serve) -> Iterator[House]:
    with serve(night__min_sources=3, night__budget_seconds=30) as running:
        yield running


def test_a_night_is_a_job_with_events(sleeper: House) -> None:
    jobs = sleeper.client().fine_tuning.jobs
    job = jobs.create(model="champion", training_file="ledger", seed=5, extra_body={"propose": True})
    assert (job.object, job.status, job.seed) == ("fine_tuning.job", "queued", 5)
    waiting = jobs.create(model="champion", training_file="ledger")
    cancelled = jobs.cancel(waiting.id)
    assert cancelled.status == "cancelled" and cancelled.finished_at is not None
    deadline = time.monotonic() + 60
    while (job := jobs.retrieve(job.id)).status in ("queued", "running"):
        assert time.monotonic() < deadline, (sleeper.runtime.config.home / "nights" / f"{job.id}.log").read_text()
        time.sleep(0.2)
    log = (sleeper.runtime.config.home / "nights" / f"{job.id}.log").read_text()
    assert job.status == "succeeded", log
    assert job.model_extra and job.model_extra["tenure"]["status"] == "nothing"  # nobody has told it anything
    assert job.model_extra["tenure"]["settings"]["propose"] is True
    assert job.fine_tuned_model is None and job.finished_at is not None
    assert [j.id for j in jobs.list()] == [waiting.id, job.id]
    assert [j.id for j in jobs.list(limit=1)] == [waiting.id, job.id]  # the client turns the pages
    events = list(jobs.list_events(job.id, limit=1))
    assert events and any("curate" in event.message for event in events)
    assert all(event.object == "fine_tuning.job.event" for event in events)
    assert jobs.checkpoints.list(job.id).object == "list"


def test_checkpoints_are_the_finished_stages(sleeper: House) -> None:
    nights = sleeper.runtime.store.nights
    night_id = nights.queue({"seed": 0}, asked_by="test")
    nights.claim(night_id, pid=os.getpid())  # at once: the watch looks for queued ones every second
    for stage in ("synthesize", "learn"):
        nights.checkpoint(night_id, stage, {"num_episodes": 12, "version": "abc"})
    nights.finish(night_id, NightStatus.REFUSED, {"reason": "it forgot", "version": "abc"})
    with sleeper.client() as client:
        found = list(client.fine_tuning.jobs.checkpoints.list(night_id, limit=1))
        job = client.fine_tuning.jobs.retrieve(night_id)
    assert [(c.step_number, c.fine_tuned_model_checkpoint) for c in found] == [(1, "abc"), (0, "abc")]
    assert job.status == "failed" and job.error is not None
    assert (job.error.code, job.error.message) == ("refused", "it forgot")
    assert job.fine_tuned_model is None


def test_unknown_nights_and_settings_are_refused(sleeper: House) -> None:
    jobs = sleeper.client().fine_tuning.jobs
    for call in (jobs.retrieve, jobs.cancel, jobs.list_events, jobs.checkpoints.list):
        with pytest.raises(openai.NotFoundError):
            call("night_nobody")
    for options in (
        {"training_file": "file-abc"},
        {"model": "gpt-4o"},
        {"extra_body": {"learner": "magic"}},
        {"extra_body": {"budget_seconds": 0}},
    ):
        with pytest.raises(openai.BadRequestError):
            jobs.create(**{"model": "champion", "training_file": "ledger", **options})  # type: ignore[arg-type]
    with sleeper.http() as http:
        assert http.get("/fine_tuning/jobs", params={"limit": 0}).status_code == 400
        assert http.get("/fine_tuning/jobs", params={"after": "night_nobody"}).status_code == 404


def test_settings_written_for_a_night_read_back_the_same(tmp_path: Path) -> None:
    config = load_config(
        flags={
            "model.name": 'odd "name" \\ with \x7f \N{SNOWMAN}',
            "night.budget_seconds": 12.5,
            "night.propose": True,
            "server.upstream_key": "secret",
            "data": "elsewhere",
        },
        environment={},
    )
    path = write_settings(config, tmp_path / "night.toml")
    assert load_config(path, environment={}) == config
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("at", "now", "due"),
    [
        ("03:30", datetime(2026, 5, 1, 2, 0), datetime(2026, 5, 1, 3, 30)),
        ("03:30", datetime(2026, 5, 1, 3, 30), datetime(2026, 5, 2, 3, 30)),
        ("00:00", datetime(2026, 12, 31, 23, 59), datetime(2027, 1, 1, 0, 0)),
    ],
)
def test_the_hour_of_the_night(at: str, now: datetime, due: datetime) -> None:
    assert due_after(at, now) == due


@pytest.mark.parametrize("at", ["3h", "24:00", "noon", "03:30:00"])
def test_an_hour_that_is_none_is_refused(at: str) -> None:
    with pytest.raises(ConfigError, match=r"night\.at"):
        due_after(at, datetime(2026, 5, 1))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "home")
    yield opened
    opened.close()


def idle_config(tmp_path: Path) -> Config:
    return settings_of(tmp_path, tmp_path, {"night.idle_seconds": 0.05})


def test_idle_time_asks_for_one_night_after_something_was_said(store: Store, tmp_path: Path) -> None:
    flights = Flights(2)
    watch = NightWatch(idle_config(tmp_path), store, flights)
    store.nights.claim(store.nights.queue({}, asked_by="test"), pid=os.getpid())  # so that nothing is started
    time.sleep(0.06)
    watch.tick()
    assert len(store.nights.list()) == 1  # nothing was said yet
    flights.seat().leave()
    watch.tick()
    assert len(store.nights.list()) == 1  # said just now
    time.sleep(0.06)
    watch.tick()
    watch.tick()
    assert [night.asked_by for night in store.nights.list()] == ["idle", "test"]
    flights.close()


def test_the_hour_asks_for_one_night_a_day(store: Store, tmp_path: Path) -> None:
    times = [datetime(2026, 5, 1, 3, 0), *(datetime(2026, 5, day, hour, 31) for day in (1, 2) for hour in (2, 3, 4))]
    clock = iter(times)
    flights = Flights(2)
    config = settings_of(tmp_path, tmp_path, {"night.at": "03:30"})
    watch = NightWatch(config, store, flights, clock=lambda: next(clock))
    store.nights.claim(store.nights.queue({}, asked_by="test"), pid=os.getpid())  # so that nothing is started
    counts = []
    for _ in times[1:]:
        watch.tick()
        counts.append(sum(night.asked_by == "schedule" for night in store.nights.list()))
    assert counts == [0, 1, 1, 1, 2, 2]
    flights.close()


def test_a_request_under_way_is_not_idle_time(store: Store, tmp_path: Path) -> None:
    flights = Flights(2)
    watch = NightWatch(idle_config(tmp_path), store, flights)
    store.nights.claim(store.nights.queue({}, asked_by="test"), pid=os.getpid())
    seat = flights.seat()
    time.sleep(0.06)
    watch.tick()
    assert len(store.nights.list()) == 1
    seat.leave()
    flights.close()


def test_a_night_that_keeps_dying_ends_as_failed_with_the_way_to_its_log(store: Store, tmp_path: Path) -> None:
    flights = Flights(2)
    watch = NightWatch(settings_of(tmp_path, tmp_path, {}), store, flights)
    night_id = store.nights.queue({"seed": "no number", "made_up": 1}, asked_by="test")
    deadline = time.monotonic() + 60
    while store.nights.get(night_id).finished_at is None:
        watch.tick()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ended = store.nights.get(night_id)
    assert ended.status is NightStatus.FAILED
    log = Path(ended.result["reason"].rpartition("see ")[2]).read_text()
    assert log.count("night.seed") == 2  # it was started twice
    flights.close()


def test_a_running_night_that_is_cancelled_is_interrupted(store: Store, tmp_path: Path) -> None:
    flights = Flights(2)
    watch = NightWatch(settings_of(tmp_path, tmp_path, {}), store, flights)
    night_id = store.nights.queue({}, asked_by="test")
    with subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"asleep\n"
        store.nights.claim(night_id, pid=process.pid)
        assert watch.cancel(night_id).cancel_requested
        deadline = time.monotonic() + 20
        while store.nights.get(night_id).finished_at is None:
            watch.tick()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert process.wait(10) == 7  # it was asked, and could write down where it stood
    assert store.nights.get(night_id).status is NightStatus.CANCELLED
    flights.close()


SLEEPER = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # as `tenure sleep --night` does
print("asleep", flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(7)
"""
