"""`tenure serve` as a process: it says where it listens, and a signal lets replies under way finish."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
from house import settings_of
from test_chat_route import HELLO

from tenure.config import environment_with, write_settings
from tenure.store.library import Store

LONG = {"messages": HELLO, "stream": True, "temperature": 2, "seed": 3, "max_tokens": 120}


def test_a_signal_lets_a_stream_finish(roomy_model: Path, tmp_path: Path) -> None:
    config = settings_of(roomy_model, tmp_path, {})
    environment = environment_with(write_settings(config, tmp_path / "tenure.toml"))
    command = [sys.executable, "-m", "tenure", "serve"]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, stderr=log, stdout=log, env=environment) as process,
    ):
        try:
            url = _url(process, tmp_path / "log")
            with httpx.stream("POST", f"{url}/chat/completions", json=LONG, timeout=30, trust_env=False) as response:
                lines = (line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data:"))
                first = json.loads(next(lines))
                process.send_signal(signal.SIGTERM)
                *_, last, done = lines
            assert done == "[DONE]"
            assert json.loads(last)["choices"][0]["finish_reason"] in ("stop", "length")
            assert process.wait(30) == 0
        finally:
            process.kill()
    store = Store.open(config.home)
    assert store.ledger.turn(first["id"]).learnable
    store.close()


def _url(process: subprocess.Popen[bytes], log: Path) -> str:
    while process.poll() is None:
        found = re.search(r"serving on (\S+)", log.read_text())
        if found:
            return found.group(1)
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError(log.read_text())
