"""Names made from content: canonical JSON, and the digests of files, directories, versions and effective weights.

Called by everything that stores or compares artefacts; knows no database.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any

from tenure.types import AttachmentUse, Version


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces; dataclasses, enums, tuples and sets are written as plain JSON."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf8")


def plain(value: Any) -> Any:
    """A value as plain JSON: dataclasses as objects in the order of their fields, enums and paths as texts."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (frozenset, set)):
        return sorted(plain(v) for v in value)
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, PurePath) else value


def digest_bytes(data: bytes) -> str:
    """Lower-case hex sha256."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """Lower-case hex sha256 of a file, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_directory(directory: Path) -> str:
    """sha256 over the canonical listing {relative path: file sha256} of a directory, links refused.

    Raises ValueError when the directory holds a link.
    """
    listing = {}
    for path in sorted(directory.rglob("*")):
        if path.is_symlink():
            raise ValueError(f"{path} is a link; artefacts hold plain files only")
        if path.is_file():
            listing[path.relative_to(directory).as_posix()] = digest_file(path)
    return digest_bytes(canonical_json(listing))


def version_digest(version: Version) -> str:
    """The name of a version: sha256 of its canonical manifest."""
    return digest_bytes(canonical_json(version))


def weight_set_digest(version: Version) -> str:
    """The name of the parameters alone (base, precision and deltas in order): rows that share it share a batch."""
    return digest_bytes(
        canonical_json({"base": version.base, "precision": version.precision, "deltas": version.deltas})
    )


def effective_digest(version: Version, uses: Iterable[AttachmentUse]) -> str:
    """What really answered: weight set, tokenizer, chat template, and the attachments in use with their scales."""
    parts = {
        "weights": weight_set_digest(version),
        "tokenizer": version.tokenizer,
        "chat_template": version.chat_template,
        "attachments": sorted((use.digest, use.scale) for use in uses),
    }
    return digest_bytes(canonical_json(parts))
