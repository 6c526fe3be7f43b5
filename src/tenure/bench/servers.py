"""A real server in a process of its own, for the demo and the benchmarks: start, wait until it answers, stop or kill.

Called by the demo, the loop and the crash benchmark. Talks to it over HTTP on loopback only.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from tenure.config import environment_with
from tenure.errors import TenureError

START_SECONDS = 180.0


class ServerProcess:
    """`tenure serve` on a free loopback port over a home."""

    def __init__(
        self, home: Path, *, options: Sequence[str] = (), settings: Path | None = None, log: Path | None = None
    ) -> None:
        """`options` are global options of the command line, such as ("--set", "model.precision=fp32"); `settings` a
        file that takes the place of the environment's."""
        self.home = home
        self.port = free_port()
        self.log = log or home / "server.log"
        home.mkdir(parents=True, exist_ok=True)
        command = [*tenure_command(home, options), "serve", "--port", str(self.port)]
        with self.log.open("ab") as file:
            environment = environment_with(settings) if settings else None
            self.process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=300.0)

    def wait(self) -> None:
        """Return when it answers. Raises TenureError with the end of its log when it ends first or takes too long."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.client.get("/healthz").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise TenureError(f"the server did not start; its log {self.log} ends: {self.log.read_text()[-2000:]}")

    def stop(self) -> None:
        """Ask it to end, and wait."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()


@contextmanager
def serving(home: Path, *, options: Sequence[str] = (), settings: Path | None = None) -> Iterator[ServerProcess]:
    """A server that answers, for as long as the block runs."""
    server = ServerProcess(home, options=options, settings=settings)
    try:
        server.wait()
        yield server
    finally:
        server.stop()


def tenure_command(home: Path, options: Sequence[str] = ()) -> list[str]:
    """The command line of this very installation over a home."""
    return [sys.executable, "-m", "tenure", "--home", str(home), *options]


def free_port() -> int:
    """A port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def lower_priority() -> None:
    """Give way to the server: what a night's process does to itself."""
    os.nice(10)
