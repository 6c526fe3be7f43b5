"""What a terminal shows: results on stdout (a table, or one JSON object with --json), logs and progress on stderr.

Knows no runtime. Called by every verb.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tenure.store.digests import plain

LOG = Console(stderr=True)
OUT = Console()


def show(value: Any, *, as_json: bool, title: str = "") -> None:
    """Print a dataclass, mapping or list of them: as one JSON document, or as a table for people."""
    document = json.loads(json.dumps(plain(value)))
    if as_json:
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    elif isinstance(document, list):
        OUT.print(_rows(document, title) if document else f"no {title}")
    else:
        OUT.print(_pairs(document, title))


def _rows(rows: Sequence[Mapping[str, Any]], title: str) -> Table:
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(name, value) for name, value in row.items()))
    return table


def _pairs(values: Mapping[str, Any], title: str) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column("", style="bold")
    table.add_column("", overflow="fold")
    for name, value in values.items():
        table.add_row(name.replace("_", " "), _cell(name, value))
    return table


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name.endswith("_at") and isinstance(value, (int, float)):
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(value))
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


class Bars:
    """Progress bars on stderr; called with (description, completed, total), total None while unknown."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, Any] = {}

    def __call__(self, description: str, completed: int, total: int | None, /) -> None:
        if description not in self._tasks:
            self._tasks[description] = self._progress.add_task(description, total=total)
        self._progress.update(self._tasks[description], completed=completed, total=total)


@contextmanager
def bars(*, quiet: bool = False) -> Iterator[Bars]:
    """Show progress while the block runs; nothing is drawn when quiet or when stderr isn't a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=LOG, disable=quiet or not LOG.is_terminal, transient=True) as progress:
        yield Bars(progress)
