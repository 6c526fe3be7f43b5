"""Cutting the power: build the preloaded library, run a command under it, and rebuild what the disk would have kept.

Called by the crash benchmark. Needs a C compiler; without one `library` says so.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tenure.errors import TenureError

SOURCE = Path(__file__).with_name("power_cut.c")


def library(folder: Path) -> Path:
    """Compile the library into `folder`. Raises TenureError when there is no C compiler or it fails."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise TenureError("no C compiler (cc, gcc): the power-cut part needs one; install it or skip that part")
    built = folder / "power_cut.so"
    done = subprocess.run(
        [compiler, "-O2", "-shared", "-fPIC", "-o", str(built), str(SOURCE), "-ldl"], capture_output=True, text=True
    )
    if done.returncode:
        raise TenureError(f"{compiler} could not build {SOURCE}: {done.stderr[-500:]}")
    return built


def preloaded(built: Path, home: Path, shadow: Path) -> dict[str, str]:
    """The environment in which a command's unsynced writes to `home` can be taken back."""
    return {"LD_PRELOAD": str(built), "POWER_CUT_HOME": str(home.resolve()), "POWER_CUT_SHADOW": str(shadow.resolve())}


def begin(home: Path, shadow: Path) -> None:
    """Start afresh: what is in `home` now counts as synced."""
    shutil.rmtree(shadow, ignore_errors=True)
    shadow.mkdir(parents=True)
    lines = []
    for path in sorted(home.rglob("*")):
        inode, name = path.stat().st_ino, path.relative_to(home).as_posix()
        lines.append(f"{'S' if path.is_dir() else 'F'}\t{inode}\t{name}\n")
        if path.is_file():
            shutil.copyfile(path, shadow / str(inode))
    (shadow / "log").write_text("".join(lines), "utf8")


def restore(home: Path, shadow: Path) -> None:
    """Make `home` what the disk would hold: synced contents under durable names, everything else gone."""
    names: dict[str, str] = {}
    folders = {""}
    for line in (shadow / "log").read_text("utf8", errors="replace").split("\n")[:-1]:
        mark, inode, name = line.split("\t", 2)
        if mark == "F":
            names[name] = inode
        elif mark == "D":
            folders.add(name)
            for known in [n for n in names if n.rpartition("/")[0] == name]:
                del names[known]
        elif mark == "E":
            names[name] = inode
        elif mark == "S":
            folders.add(name)
    shutil.rmtree(home)
    for folder in sorted(folders):
        (home / folder).mkdir(parents=True, exist_ok=True)
    for name, inode in names.items():
        content = shadow / inode
        if name.endswith("-shm"):
            continue  # shared memory, rebuilt by SQLite
        target = home / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.read_bytes() if content.exists() else b"")
