"""A server's night hears when it is asked to stop, even if its server was started behind a shell's "&"."""

from __future__ import annotations

import signal
from pathlib import Path

from typer.testing import CliRunner

from tenure.bench.tiny import write_tiny_model
from tenure.cli import app


def test_the_night_of_a_server_hears_an_interrupt(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model")
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        options = ["--home", str(tmp_path / "home"), "--model", str(model), "--set", "model.precision=fp32"]
        done = CliRunner().invoke(app, [*options, "sleep", "--night", "night_of_nobody"])
        assert done.exit_code != 0
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
