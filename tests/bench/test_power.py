"""A cut of the power takes what was not synced, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tenure.bench import power

SCRIPT = """
import os, sys
from pathlib import Path
home = Path(sys.argv[1])
with (home / "synced").open("wb") as file:
    file.write(b"kept")
    file.flush()
    os.fsync(file.fileno())
    file.write(b" and this is not")
(home / "unsynced").write_bytes(b"gone")
with (home / "new").open("wb") as file:
    file.write(b"renamed")
    file.flush()
    os.fsync(file.fileno())
os.rename(home / "new", home / "renamed")
if sys.argv[2] == "folder too":
    folder = os.open(home, os.O_RDONLY)
    os.fsync(folder)
os._exit(9)
"""


@pytest.mark.skipif(shutil.which("cc") is None and shutil.which("gcc") is None, reason="no C compiler")
@pytest.mark.parametrize(("synced", "name"), [("folder too", "renamed"), ("files alone", "new")])
def test_only_what_was_synced_survives(tmp_path: Path, synced: str, name: str) -> None:
    home, shadow = tmp_path / "home", tmp_path / "shadow"
    home.mkdir()
    (home / "earlier").write_bytes(b"from before")
    power.begin(home, shadow)
    environment = power.preloaded(power.library(tmp_path), home, shadow)
    subprocess.run([sys.executable, "-c", SCRIPT, str(home), synced], env=environment)
    power.restore(home, shadow)
    kept = {path.name: path.read_bytes() for path in home.iterdir()}
    assert kept.pop("earlier") == b"from before"
    assert kept.pop("synced") == b"kept"
    assert kept.pop(name) == b"renamed"
    # Syncing the folder made the name of the unsynced file durable, but not its content.
    assert kept == ({"unsynced": b""} if synced == "folder too" else {})
