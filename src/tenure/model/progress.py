"""How long work tells how far it is. Rendered by the terminal; called by downloads, conversion, exams and nights."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called with what is being done and how much of it is done; `total` is None while unknown."""

    def __call__(self, description: str, completed: int, total: int | None, /) -> None: ...


def silent(description: str, completed: int, total: int | None, /) -> None:
    """Progress that nobody watches."""
