"""What every verb shares: the settings it was given, the runtime or store opened with them, and errors said once.

Called by the verbs only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenure.cli.output import LOG, bars
from tenure.config import Config, load_config
from tenure.errors import ConfigError, InputError, TenureError
from tenure.types import Role, Scope

if TYPE_CHECKING:
    from tenure.runtime import Runtime
    from tenure.store.library import Store

ADMIN = frozenset(Role)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
ScopeFlag = Annotated[str, typer.Option("--as", help="Whose experience: TENANT/PRINCIPAL or TENANT/PRINCIPAL/USER.")]
DEFAULT_SCOPE = "local/local"


@dataclass(frozen=True, slots=True)
class Session:
    """The settings of one invocation."""

    config: Config

    @contextmanager
    def runtime(self, *, worker: bool = False) -> Iterator[Runtime]:
        """A runtime with its model loaded, closed at the end."""
        from tenure.runtime import Runtime

        with bars() as progress:
            runtime = Runtime.open(self.config, worker=worker, progress=progress)
        try:
            yield runtime
        finally:
            runtime.close()

    @contextmanager
    def runtime_without_model(self) -> Iterator[Runtime]:
        """A runtime for verbs that only read or move what is stored: nothing to load, nothing to wait for."""
        from tenure.runtime import Runtime

        runtime = Runtime.open(self.config, model=False)
        try:
            yield runtime
        finally:
            runtime.close()

    @contextmanager
    def store(self) -> Iterator[Store]:
        """The store alone, without a model."""
        from tenure.store.library import Store

        store = Store.open(self.config.home)
        try:
            yield store
        finally:
            store.close()


def session_from(config: str | None, assignments: list[str], home: str | None, model: str | None) -> Session:
    """Settings from the global options. Raises ConfigError for an assignment that isn't SECTION.KEY=VALUE."""
    flags: dict[str, Any] = {"store.home": home, "model.name": model}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment!r} is not SECTION.KEY=VALUE, for example --set server.port=9000")
        flags[name] = value
    return Session(load_config(config, flags=flags))


def scope_of(text: str) -> Scope:
    """A scope from TENANT/PRINCIPAL[/USER]. Raises InputError for any other form."""
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise InputError(f"--as {text!r} is not TENANT/PRINCIPAL or TENANT/PRINCIPAL/USER")
    return Scope(*parts)


@contextmanager
def told_plainly() -> Iterator[None]:
    """Errors of ours become one line on stderr and exit code 1 (3 when a gate or a person said no)."""
    try:
        yield
    except TenureError as error:
        LOG.print(f"{error.code}: {error}", highlight=False, markup=False)  # a message may hold brackets of its own
        raise typer.Exit(3 if error.code == "refused" else 1) from None
