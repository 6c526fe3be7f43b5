"""The main job, end to end, over the real door: told once, asleep, awake and knowing, reversible.

`run_demo` reads as the story. The server is a process of its own, each night is another one, and everything is asked
over HTTP with API keys. Every step prints its number; nothing is scripted, so a step may fall short and says so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tenure.bench.asking import share
from tenure.bench.demo_page import Night, Step, write_page
from tenure.bench.load import load_on
from tenure.bench.servers import ServerProcess, serving, tenure_command
from tenure.bench.worlds.firm import firm
from tenure.bench.worlds.world import World
from tenure.config import Config, environment_with, write_settings
from tenure.errors import TenureError
from tenure.gates.attested import attested_verdict
from tenure.gates.marking import is_right
from tenure.model.catalog import resolve
from tenure.model.progress import Progress
from tenure.store.library import Store
from tenure.types import Message, QuestionItem, Role, SilenceItem, Verdict

QUICK_FACTS, QUICK_SECONDS = 8, 200.0
FULL_FACTS, FULL_SECONDS = 24, 500.0


@dataclass(slots=True)
class Stage:
    """What the story happens on: the server, who speaks, and what was shown so far."""

    home: Path
    settings: Path
    server: ServerProcess
    colleague: str
    visitor: str
    admin: str
    console: Console
    steps: list[Step]

    def say(self, title: str, number: str, note: str = "") -> None:
        """One step with its number."""
        self.steps.append(Step(title, number, note))
        self.console.print(f"[bold]{len(self.steps):>2}. {title}[/bold]  [green]{number}[/green]  [dim]{note}[/dim]")

    def chat(
        self,
        key: str,
        messages: Sequence[Message],
        *,
        memory: bool,
        store: bool,
        max_tokens: int = 40,
        model: str = "champion",
    ) -> str:
        """One reply. Raises TenureError when the door refuses."""
        body = {
            "model": model,
            "messages": [{"role": m.role, "content": m.content} for m in messages],
            "max_tokens": max_tokens,
            "temperature": 0,
            "memory": memory,
            "store": store,
        }
        reply = self.server.client.post("/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"})
        if reply.status_code != 200:
            raise TenureError(f"the door answered {reply.status_code}: {reply.text[:300]}")
        return str(reply.json()["choices"][0]["message"]["content"])

    def ask(self, items: Sequence[QuestionItem], *, memory: bool, key: str = "") -> list[tuple[bool, str]]:
        """(right, answer) of each question, eight at a time, each in a session of its own."""
        with ThreadPoolExecutor(8) as pool:
            answers = list(
                pool.map(lambda q: self.chat(key or self.colleague, q.messages, memory=memory, store=False), items)
            )
        return [(is_right(text, q.accepted, q.rejected), text) for q, text in zip(items, answers, strict=True)]

    def admin_call(self, path: str, body: dict[str, Any]) -> None:
        """POST to the admin door."""
        headers = {"Authorization": f"Bearer {self.admin}"}
        self.server.client.post(f"/v1/admin/{path}", json=body, headers=headers).raise_for_status()


def run_demo(
    config: Config, *, quick: bool, report: Path, as_json: bool = False, progress: Progress | None = None
) -> None:
    """Tell the story. Writes `report` and, with `as_json`, prints the steps as one JSON object."""
    began = time.monotonic()
    console = Console(stderr=as_json)
    world = firm(QUICK_FACTS if quick else FULL_FACTS)
    budget = QUICK_SECONDS if quick else FULL_SECONDS
    home = Path("~/.tenure-demo").expanduser()
    shutil.rmtree(home, ignore_errors=True)
    resolve(config.model.name, config.cache, progress=progress)
    with Store.open(home) as store:
        colleague, visitor, admin = (store.keys.create("tolvane", who, roles) for who, roles in _people().items())
    settings = write_settings(replace(config, server=replace(config.server, keys=True)), home / "demo.toml")
    with serving(home, settings=settings) as server:
        stage = Stage(home, settings, server, colleague, visitor, admin, console, [])
        firsts = [fact.questions[0] for fact in world.facts]
        questions = list(world.questions)

        before = stage.ask(questions, memory=False)
        stage.say(
            f"Asked {len(questions)} questions about {len(world.facts)} facts", _percent(before), "it knows nothing"
        )
        tell(stage, world)
        told = stage.ask(firsts, memory=True)
        stage.say("Asked again in new chats, memory on", _percent(told), "usable from the next request on")
        strange = stage.ask(firsts, memory=True, key=stage.visitor)
        stage.say("A visitor asks the same", _percent(strange), "another principal: nothing leaks")

        naive = spend_night(stage, "naive-sft", budget)
        stage.say("A night with naive-sft", naive.status, naive.reason.partition(";")[0])
        ours = spend_night(stage, "distil-lora", budget)
        stage.say("A night with distil-lora", ours.status, ours.reason.partition(";")[0])
        if ours.status == "proposed":
            promote_under_load(stage, ours.version)
            after = stage.ask(questions, memory=False)
            stage.say("Asked with memory off", _percent(after), "phrasings that it never saw")
            show_harm(stage, ours.verdict, world)
            roll_back(stage, questions, before)
        write_page(report, stage.steps, [naive, ours], seconds=time.monotonic() - began)
        _finish(stage, report, time.monotonic() - began, as_json)


def _people() -> dict[str, list[Role]]:
    return {"colleague": [Role.CHAT, Role.FEEDBACK], "visitor": [Role.CHAT], "admin": [Role.ADMIN]}


def tell(stage: Stage, world: World) -> None:
    """A colleague tells the facts in ordinary chat, and puts one right afterwards."""
    corrected = 0
    for fact in world.facts:
        for text in fact.told:
            stage.chat(stage.colleague, [Message("user", text)], memory=True, store=True, max_tokens=16)
    for fact in world.facts:
        if fact.correction:
            stage.chat(stage.colleague, [Message("user", fact.correction)], memory=True, store=True, max_tokens=16)
            corrected += 1
    stage.say("A colleague tells them in chat", f"{len(world.facts)} told", f"{corrected} put right later")


def spend_night(stage: Stage, learner: str, budget_seconds: float) -> Night:
    """A night in a process of its own, over the store that the server goes on using; it stops before promotion."""
    options = ("--learner", learner, "--budget", str(budget_seconds), "--propose", "--json")
    command = [*tenure_command(stage.home), "sleep", *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment_with(stage.settings))
    if done.returncode not in (0, 3):
        raise TenureError(f"the night with {learner} failed: {done.stderr[-2000:]}")
    summary = json.loads(done.stdout.strip().splitlines()[-1])
    verdict: Verdict | None = None
    losses: tuple[float, ...] = ()
    if summary["version"]:
        with Store.open(stage.home) as store:
            verdict = attested_verdict(store.registry, summary["version"])
            parts = store.registry.lineage(summary["version"]).candidates.values()
            losses = mean_curve([part["candidate"]["losses"] for part in parts])
    return Night(learner, summary["status"], summary["reason"], summary["version"], summary["seconds"], verdict, losses)


def mean_curve(runs: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """The mean loss of all runs at each step, over those that came so far."""
    steps = range(max(map(len, runs), default=0))
    still = [[run[step] for run in runs if step < len(run)] for step in steps]
    return tuple(sum(losses) / len(losses) for losses in still)


def promote_under_load(stage: Stage, version: str) -> None:
    """Move the champion while clients ask; nobody notices."""
    with load_on(str(stage.server.client.base_url), key=stage.visitor) as load:
        time.sleep(4.0)
        began = time.monotonic()
        stage.admin_call("promote", {"digest": version})
        seconds = time.monotonic() - began
        time.sleep(6.0)
    note = f"swapped in {seconds:.2f} s under {load.num_requests} requests, {len(load.fingerprints)} versions answered"
    stage.say("Promoted under load", f"{len(load.failed)} failed", note)


def show_harm(stage: Stage, verdict: Verdict | None, world: World) -> None:
    """General ability by the gate's own measure, and the near-miss prompts asked before and after."""
    for check in verdict.checks if verdict else ():
        if check.suite == "general":
            bound = f"lower bound {check.lower:+.3f}, n = {check.num_items}" if check.lower is not None else ""
            stage.say(f"General ability, {check.name}", f"{check.value:+.3f}", bound)
    with Store.open(stage.home) as store:
        base = next(record.digest for record in store.registry.versions() if not record.version.modules)

    def differs(item: SilenceItem) -> bool:
        here, there = (
            stage.chat(stage.colleague, item.messages, memory=False, store=False, model=model)
            for model in ("champion", base)
        )
        return here != there

    with ThreadPoolExecutor(8) as pool:
        changed = sum(pool.map(differs, world.near_misses))
    stage.say(
        "Near-miss prompts answered differently", f"{changed} of {len(world.near_misses)}", "it stays silent there"
    )


def roll_back(stage: Stage, questions: Sequence[QuestionItem], before: Sequence[tuple[bool, str]]) -> None:
    """Back to the version before, and ask once more."""
    began = time.monotonic()
    stage.admin_call("rollback", {})
    seconds = time.monotonic() - began
    again = stage.ask(questions, memory=False)
    note = f"in {seconds:.2f} s; {share([a[1] == b[1] for a, b in zip(again, before, strict=True)]):.0%} of answers as before"
    stage.say("Rolled back, asked with memory off", _percent(again), note)


def _percent(results: Sequence[tuple[bool, str]]) -> str:
    right = sum(mark for mark, _ in results)
    return f"{right} of {len(results)} right ({right / len(results):.0%})"


def _finish(stage: Stage, report: Path, seconds: float, as_json: bool) -> None:
    table = Table(title=f"Tenure in {seconds / 60:.1f} minutes", title_justify="left")
    for name in ("", "step", "result", ""):
        table.add_column(name)
    for number, step in enumerate(stage.steps, start=1):
        table.add_row(str(number), step.title, step.number, step.note)
    stage.console.print(table)
    stage.console.print(f"curves and verdicts: {report.resolve()}")
    stage.console.print(f"next: tenure --home {stage.home} versions | show DIGEST | sleep | chat | serve")
    if as_json:
        print(json.dumps([[s.title, s.number, s.note] for s in stage.steps]))
