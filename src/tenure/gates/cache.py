"""Answers that need not be computed twice, by what answered (effective digest), at which precision, and the question.

Lives here: the protocol and its two kinds. Knows no item, suite or marking: values are a greedy text, log-likelihoods,
or a drift, as plain JSON. Called by `examination`. What is kept may quote people; `forget` drops what one set of
weights said.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tenure.errors import GateError

Value = str | float | list[float]
_SAFE = re.compile(r"[0-9A-Za-z_.-]{1,128}")


class ResultCache(Protocol):
    """Values by (effective digest, precision, digest of the question)."""

    def of(self, effective: str, precision: str) -> Mapping[str, Value]:
        """Everything known of these weights, by question."""
        ...

    def keep(self, effective: str, precision: str, values: Mapping[str, Value]) -> None: ...

    def forget(self, effective: str) -> None: ...


class MemoryCache:
    """For one exam, or for a process."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], dict[str, Value]] = {}

    def of(self, effective: str, precision: str) -> Mapping[str, Value]:
        return self._known.get((effective, precision), {})

    def keep(self, effective: str, precision: str, values: Mapping[str, Value]) -> None:
        self._known.setdefault((effective, precision), {}).update(values)

    def forget(self, effective: str) -> None:
        self._known = {key: values for key, values in self._known.items() if key[0] != effective}


class DirectoryCache:
    """One JSON-lines file per weights and precision, only ever appended to: a killed exam loses one line at most.

    Several processes may append at once (lines are written whole); a torn or foreign line counts as not known.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._known: dict[tuple[str, str], dict[str, Value]] = {}

    def of(self, effective: str, precision: str) -> Mapping[str, Value]:
        key = (effective, precision)
        if key not in self._known:
            self._known[key] = self._read(self._path(*key))
        return self._known[key]

    def keep(self, effective: str, precision: str, values: Mapping[str, Value]) -> None:
        known = dict(self.of(effective, precision))
        path = self._path(effective, precision)
        lines = "".join(f"{json.dumps([question, value])}\n" for question, value in values.items())
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with path.open("ab+", buffering=0) as file:  # one write, so that lines of several processes don't mix
                if file.tell() and (file.seek(-1, os.SEEK_END), file.read())[1] != b"\n":
                    lines = "\n" + lines  # the last writer was killed within a line
                file.write(lines.encode("utf8"))
        except OSError as error:
            raise GateError(f"can't keep exam results in {path}: {error}; free space or pass another folder") from error
        self._known[effective, precision] = {**known, **values}

    def forget(self, effective: str) -> None:
        for path in self._directory.glob(f"{_checked(effective)}@*.jsonl"):
            path.unlink(missing_ok=True)
        self._known = {key: values for key, values in self._known.items() if key[0] != effective}

    def _path(self, effective: str, precision: str) -> Path:
        return self._directory / f"{_checked(effective)}@{_checked(precision)}.jsonl"

    @staticmethod
    def _read(path: Path) -> dict[str, Value]:
        known: dict[str, Value] = {}
        if not path.exists():
            return known
        for line in path.read_text("utf8", errors="replace").split("\n"):
            try:
                question, value = json.loads(line)
            except (ValueError, TypeError):
                continue
            if isinstance(question, str) and isinstance(value, (str, float, list)):
                known[question] = value
        return known


def _checked(name: str) -> str:
    if not _SAFE.fullmatch(name):
        raise GateError(f"{name!r} can't name a cache file; an Answerer gives digests and precisions of plain letters")
    return name
