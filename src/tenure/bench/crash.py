"""bench-crash: three hundred kills of serve, sleep, promote and of writers whose power is cut; what was lost.

Every kill is SIGKILL at a random instant. After each one the home is opened again: every acknowledged turn must be
there, every chain must verify, and the champion must be the base or a version whose signed verdict passed. The model is
the tiny random one: what is measured here is the store and the order of its writes, not answers.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tenure.bench import power
from tenure.bench.record import write_result
from tenure.bench.servers import ServerProcess, tenure_command
from tenure.bench.tiny import write_tiny_model
from tenure.config import Config
from tenure.errors import ChainBroken, Refused, TenureError
from tenure.gates.attested import attested_verdict
from tenure.model.progress import Progress, silent
from tenure.sleep.journal import Journal
from tenure.store.library import Store
from tenure.types import Alias, Episode, Message, Outcome, Scope

NUM_KILLS: Mapping[str, int] = {"serve": 60, "sleep": 60, "promote": 90, "power": 90}
NUM_TRIES = 4
SCOPE = Scope("local", "local")
# Gates that the tiny model can pass, so that promotion is among the instants that are hit.
OPEN_GATES = (
    *("--set", "gate.min_acquisition=0.01", "--set", "gate.delta=0.9", "--set", "gate.forced_delta=0.9"),
    *("--set", "gate.max_near_miss=1", "--set", "gate.max_drift=100", "--set", "gate.alpha=0.49"),
)


@dataclass(slots=True)
class Tally:
    """What was found after the kills."""

    acknowledged: dict[Path, set[str]] = field(default_factory=dict)
    lost_turns: int = 0
    ungated_served: int = 0
    chain_breaks: int = 0
    kills: dict[str, int] = field(default_factory=dict)
    stages: dict[str, int] = field(default_factory=dict)  # in which a night was killed
    moves_seen: int = 0

    def acknowledge(self, home: Path, turn_id: str) -> None:
        """Note a turn that somebody was told is kept."""
        self.acknowledged.setdefault(home, set()).add(turn_id)

    def inspect(self, home: Path, kind: str = "") -> None:
        """Open the home as a restart would, and look; what was lost is counted once. `kind`: what was killed, if so."""
        if kind:
            self.kills[kind] = self.kills.get(kind, 0) + 1
        with Store.open(home) as store:
            kept = {turn.id for _, turn in store.ledger.turns()}
            told = self.acknowledged.get(home, set())
            self.lost_turns += len(told - kept)
            self.acknowledged[home] = told & kept
            try:
                store.ledger.verify()
            except ChainBroken:
                self.chain_breaks += 1
            self.ungated_served += not is_gated(store)
            self.moves_seen = max(self.moves_seen, len(store.registry.history()))


def is_gated(store: Store) -> bool:
    """Whether the champion is the anchor, or a version with a passed, signed verdict."""
    aliases = store.registry.aliases()
    champion = aliases.get(Alias.CHAMPION)
    if champion is None or champion == aliases[Alias.ANCHOR]:
        return champion is not None or not aliases
    try:
        return attested_verdict(store.registry, champion).outcome is Outcome.PASSED
    except Refused:
        return False


def run(config: Config, *, seeds: str = "0", progress: Progress | None = None) -> None:
    """All kills with one seed; `kills` names how many of each kind there really were."""
    seed = int(seeds)
    rng = random.Random(seed)
    began = time.monotonic()
    tally, tell = Tally(), progress or silent
    with tempfile.TemporaryDirectory(prefix="tenure-crash-") as folder:
        root = Path(folder)
        options = ("--model", str(write_tiny_model(root / "model")), "--set", "model.precision=fp32", *OPEN_GATES)
        home = root / "home"
        for number in range(NUM_KILLS["serve"]):
            kill_server(home, options, tally, rng)
            tell("serve", number + 1, NUM_KILLS["serve"])
        for _ in range(NUM_TRIES * NUM_KILLS["sleep"]):
            kill_night(home, options, tally, rng)
            tell("sleep", tally.kills.get("sleep", 0), NUM_KILLS["sleep"])
            if tally.kills.get("sleep", 0) == NUM_KILLS["sleep"]:
                break
        else:
            raise TenureError(f"{tally.kills.get('sleep', 0)} nights could be killed: the others ended too soon")
        finish_night(home, options)
        for number in range(NUM_KILLS["promote"]):
            kill_mover(home, tally, rng)
            tell("promote", number + 1, NUM_KILLS["promote"])
        for number in range(NUM_KILLS["power"]):
            cut_power(root, tally, rng)
            tell("power", number + 1, NUM_KILLS["power"])
    metrics: dict[str, Any] = {
        "lost_turns": tally.lost_turns,
        "ungated_served": tally.ungated_served,
        "chain_breaks": tally.chain_breaks,
        "kills": tally.kills,
        "num_kills": sum(tally.kills.values()),
        "nights_killed_in": tally.stages,
        "alias_moves": tally.moves_seen,
        "seconds": time.monotonic() - began,
    }
    write_result("crash", metrics, seeds=[seed])


# ---------------------------------------------------------------- serve


def kill_server(home: Path, options: Sequence[str], tally: Tally, rng: random.Random) -> None:
    """Clients talk to a server until it is killed; what it acknowledged must be there."""
    server = ServerProcess(home, options=options)
    try:
        if rng.random() < 0.8:  # else killed while it starts
            server.wait()
            talkers = [threading.Thread(target=talk, args=(server, tally, n), daemon=True) for n in range(4)]
            for talker in talkers:
                talker.start()
            time.sleep(rng.uniform(0.0, 1.5))
        else:
            time.sleep(rng.uniform(0.0, 3.0))
    finally:
        server.kill()
    tally.inspect(home, "serve")


def talk(server: ServerProcess, tally: Tally, number: int) -> None:
    """Say things until the server is gone; a reply that arrived was acknowledged."""
    with httpx.Client(base_url=str(server.client.base_url), timeout=30.0) as client:
        while True:
            body = {"model": "champion", "messages": [{"role": "user", "content": f"Shelf {number} holds nails."}]}
            try:
                reply = client.post("/v1/chat/completions", json={**body, "max_tokens": 2})
            except httpx.HTTPError:
                return
            if reply.status_code == 200:
                tally.acknowledge(server.home, reply.json()["id"])


# ---------------------------------------------------------------- sleep


def kill_night(home: Path, options: Sequence[str], tally: Tally, rng: random.Random) -> None:
    """A night is killed anywhere between its first import and its promotion; the next one goes on with it.

    One that ends before is looked at, too, and isn't counted. Its learner is one or the other: the tiny model learns
    by `naive-sft` only, and modules have more to lose.
    """
    night_id = cut_off_night(home) or studied_night(home, rng.choice(("naive-sft", "distil-lora")))
    process = spend_night(home, options, night_id)
    try:
        process.wait(rng.uniform(0.5, 25.0))
        tally.inspect(home)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        stage = stage_of(home, night_id)
        tally.stages[stage] = tally.stages.get(stage, 0) + 1
        tally.inspect(home, "sleep")


def stage_of(home: Path, night_id: str) -> str:
    """The stage that a night began last, and whether it had ended; "start" before the first."""
    with Store.open(home) as store:
        said = [event.message for event in store.nights.events(night_id) if ": " in event.message]
    stages = [text for text in said if text.partition(": ")[2].startswith(("started", "done in"))]
    name, _, state = stages[-1].partition(": ") if stages else ("start", "", "")
    return f"after {name}" if state.startswith("done") else name


def finish_night(home: Path, options: Sequence[str]) -> None:
    """Let nights end until one promoted its version: without one, the kills that follow would try nothing."""
    for _ in range(NUM_TRIES):
        spend_night(home, options, cut_off_night(home) or studied_night(home, "naive-sft")).wait()
        with Store.open(home) as store:
            aliases = store.registry.aliases()
            if aliases[Alias.CHAMPION] != aliases[Alias.ANCHOR]:
                return
    raise TenureError(f"none of {NUM_TRIES} nights was promoted, so no promotion could be killed; see OPEN_GATES")


def spend_night(home: Path, options: Sequence[str], night_id: str) -> subprocess.Popen[bytes]:
    """A night in a process of its own."""
    command = [*tenure_command(home, options), "sleep", "--budget", "30", "--json", "--night", night_id]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def cut_off_night(home: Path) -> str:
    """The night that a kill left behind, if any."""
    with Store.open(home) as store:
        running = store.nights.running()
        return running.id if running else ""


def studied_night(home: Path, learner: str) -> str:
    """A night as it stands after self-study, which the tiny model can't do: three questions, each also held out."""
    settings = {"learner": learner, "budget_seconds": 30.0, "seed": 0, "propose": False, "min_sources": 1}
    with Store.open(home) as store:
        night_id = store.nights.queue(settings, asked_by="crash")
        journal = Journal(store, night_id, budget_seconds=30.0)
        sources = [f"src{n}-{time.time_ns()}" for n in range(3)]
        journal.keep_episodes("synthesize", [_episode(n, s, h) for n, s in enumerate(sources) for h in (False, True)])
        return night_id


def _episode(number: int, source: str, held_out: bool) -> Episode:
    question = f"What does shelf {number} hold?"
    return Episode(
        id=f"{number}-{held_out}",
        messages=(Message("user", question),),
        context=f"Shelf {number} holds nails.",
        target="nails",
        source_ids=(source,),
        scope=SCOPE,
        held_out=held_out,
        answer="nails",
    )


# ---------------------------------------------------------------- promote

MOVER = """
import sys
from pathlib import Path
from tenure.errors import TenureError
from tenure.gates.attested import attested_verdict
from tenure.store.library import Store
from tenure.types import Alias
store = Store.open(Path(sys.argv[1]))
judged = [r.digest for r in store.registry.versions() if store.registry.attestations(r.digest, "verdict")]
print("ready", flush=True)
while True:
    for digest in judged:
        try:
            store.registry.promote(digest, attested_verdict(store.registry, digest))
        except TenureError:
            pass
        try:
            store.registry.rollback()
        except TenureError:
            pass
"""


def kill_mover(home: Path, tally: Tally, rng: random.Random) -> None:
    """A process that promotes and rolls back as fast as it can is killed."""
    process = subprocess.Popen([sys.executable, "-c", MOVER, str(home)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(rng.uniform(0.0, 0.5))
    process.kill()
    process.wait()
    tally.inspect(home, "promote")


# ---------------------------------------------------------------- power

WRITER = """
import sys, time, threading
from pathlib import Path
from tenure.store.library import Store
from tenure.types import Message, Scope, Turn
store = Store.open(Path(sys.argv[1]))
def write(who):
    for number in range(100000):
        said, reply = (Message("user", "x" * 200),), Message("assistant", "y")
        turn = Turn(f"{who}-{time.time_ns()}", Scope("t", who), "s", time.time(), said, reply)
        store.record(turn)
        sys.stdout.write(turn.id + "\\n")
        sys.stdout.flush()
for who in ("a", "b", "c"):
    threading.Thread(target=write, args=(who,), daemon=True).start()
time.sleep(1000)
"""


def cut_power(root: Path, tally: Tally, rng: random.Random) -> None:
    """Writers are killed and whatever was not synced is taken from the disk."""
    built = root / "power_cut.so"
    if not built.exists():
        power.library(root)
    home, shadow = root / "power-home", root / "power-shadow"
    home.mkdir(exist_ok=True)
    power.begin(home, shadow)
    environment = [f"{name}={value}" for name, value in power.preloaded(built, home, shadow).items()]
    command = ["env", *environment, sys.executable, "-c", WRITER, str(home)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    said: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda: said.extend(process.stdout or ()))
    reader.start()
    while not said and process.poll() is None:
        time.sleep(0.01)
    time.sleep(rng.uniform(0.0, 0.4))
    process.kill()
    process.wait()
    reader.join()
    power.restore(home, shadow)
    for line in said:
        if line.endswith("\n"):
            tally.acknowledge(home, line.strip())
    tally.inspect(home, "power")
    if not said:
        raise TenureError("the writer wrote nothing; see that it starts: python -c ... with LD_PRELOAD")
