"""Verbs about the night and the main job: sleep, demo, bench."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from tenure.cli.output import OUT, bars, show
from tenure.cli.session import JsonFlag, Session, told_plainly
from tenure.errors import InputError


def sleep(
    context: typer.Context,
    learner: Annotated[str | None, typer.Option(help="naive-sft or distil-lora (night.learner).")] = None,
    budget_seconds: Annotated[float | None, typer.Option("--budget", help="Seconds that the night may take.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the night.")] = None,
    propose: Annotated[bool | None, typer.Option(help="Stop before promotion and wait for a person.")] = None,
    night: Annotated[str | None, typer.Option(help="Id of a queued or interrupted night.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Spend a night: curate, synthesize, learn, gate, promote. Exit 3 when the gate refused."""
    from tenure.gates.presentation import verdict_table
    from tenure.sleep.cycle import NightSettings

    if night is not None:  # a server asks its night to stop by SIGINT, which what a shell runs behind "&" ignores
        signal.signal(signal.SIGINT, signal.default_int_handler)
    session: Session = context.obj
    with told_plainly(), session.runtime() as runtime:
        given = {"learner": learner, "budget_seconds": budget_seconds, "seed": seed, "propose": propose}
        stored = runtime.store.nights.get(night).settings if night else {}
        settings = NightSettings.of(session.config, **{**stored, **{k: v for k, v in given.items() if v is not None}})
        with bars() as progress:
            result = runtime.sleep(settings, night_id=night, progress=progress)
        if result.verdict is not None and not as_json:
            OUT.print(verdict_table(result.verdict))
        show(result.summary(), as_json=as_json, title=f"night {result.night_id}")
        if result.status == "refused":
            raise typer.Exit(3)


def demo(
    context: typer.Context,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer facts: five minutes, twelve on slow cores.")] = False,
    report: Annotated[Path, typer.Option(help="Where the page with the curves goes.")] = Path("report.html"),
    as_json: JsonFlag = False,
) -> None:
    """The main job, end to end: told once, asleep, awake and knowing, reversible."""
    from tenure.bench.demo import run_demo

    session: Session = context.obj
    with told_plainly(), bars() as progress:
        run_demo(session.config, quick=quick, report=report, as_json=as_json, progress=progress)


def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="loop, engine, ledger, crash, retrieval or rehearsal.")],
    seeds: Annotated[str, typer.Option(help="Seeds, for example 0-9 or 0,3,5, where the benchmark has any.")] = "",
    as_json: JsonFlag = True,
) -> None:
    """Run a benchmark; its last line is one JSON object, also written to bench/results/NAME.json."""
    from tenure.bench.catalog import BENCHMARKS

    session: Session = context.obj
    with told_plainly(), bars() as progress:
        if name not in BENCHMARKS:
            raise InputError(f"no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
        BENCHMARKS[name](session.config, seeds=seeds, progress=progress)


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(sleep)
    app.command()(demo)
    app.command()(bench)
