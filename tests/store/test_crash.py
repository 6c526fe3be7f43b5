"""A process killed while it writes loses nothing that it acknowledged."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from tenure.store.library import Store

WRITER = """
    import os, sys, threading
    from pathlib import Path
    from tenure.store.library import Store
    from tenure.types import Memory, MemoryKind, Message, Scope, Turn

    home, run = Path(sys.argv[1]), sys.argv[2]
    store = Store.open(home)

    def write(name):
        for number in range(1_000_000):
            id = f"{run}-{name}-{number}"
            scope = Scope("acme" if number % 2 else "other", name)
            turn = Turn(id, scope, "s", 1.0, (Message("user", id * 40),), Message("assistant", "yes"))
            store.record(turn, [Memory(f"m{id}", scope, MemoryKind.TURN, id, (id,), 1.0, 1.0)], idempotency_key=id)
            os.write(1, f"{id}\\n".encode())

    for name in ("a", "b", "c"):
        threading.Thread(target=write, args=(name,)).start()
"""


def test_no_acknowledged_turn_is_lost(tmp_path: Path) -> None:
    home, chance = tmp_path / "home", random.Random(11)
    acknowledged: list[str] = []
    for run in range(6):
        out = tmp_path / f"out{run}"
        command = [sys.executable, "-c", textwrap.dedent(WRITER), str(home), f"run{run}"]
        with out.open("wb") as file, subprocess.Popen(command, stdout=file) as writer:
            deadline = time.monotonic() + 30
            while out.stat().st_size == 0 and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(chance.uniform(0, 0.4))
            os.kill(writer.pid, signal.SIGKILL)
        text = out.read_text()
        acknowledged += text[: text.rfind("\n") + 1].split()
        with Store.open(home) as store:
            assert store.ledger.verify().num_entries >= len(acknowledged)
            kept = {turn.id for _, turn in store.ledger.turns()}
            assert set(acknowledged) <= kept
            # A turn and what is remembered of it are kept together or not at all.
            assert all(len(store.memories.of_source(id)) == 1 for id in kept)
            assert len(store.memories.of_scope(store.ledger.turn(acknowledged[-1]).scope)) > 0
    assert len(acknowledged) > 50
