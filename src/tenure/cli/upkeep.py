"""Verbs about the house itself: status, verify, backup, restore, keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tenure.cli.output import bars, show
from tenure.cli.session import JsonFlag, Session, told_plainly
from tenure.config import describe_settings
from tenure.errors import InputError, TamperedObject
from tenure.store.digests import plain
from tenure.types import Role


def status(
    context: typer.Context,
    settings: Annotated[bool, typer.Option("--settings", help="List every setting with its default.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """What is served, how much is kept, and whether a night is running."""
    session: Session = context.obj
    if settings:
        rows = [{"setting": name, "default": default, "meaning": doc} for name, default, doc in describe_settings()]
        show(rows, as_json=as_json, title="settings")
        return
    with told_plainly(), session.runtime_without_model() as runtime:
        show(runtime.status(), as_json=as_json, title="status")


def verify(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Check the ledger's hash chain entry by entry, and the bytes of every artefact."""
    session: Session = context.obj
    with told_plainly(), session.store() as store, bars() as progress:
        chain = store.ledger.verify(lambda done, total: progress("entries", done, total))
        broken = store.objects.broken(lambda done, total: progress("artefacts", done, total))
        show({**plain(chain), "broken_artefacts": broken}, as_json=as_json, title="verified")
        if broken:
            raise TamperedObject(f"{len(broken)} artefacts aren't what their names say; restore a backup")


def backup(
    context: typer.Context,
    target: Annotated[Path, typer.Argument(help="The archive to write.")],
    as_json: JsonFlag = False,
) -> None:
    """Write a consistent copy of the store while it goes on working."""
    from tenure.store.backup import backup as copy

    session: Session = context.obj
    with told_plainly(), session.store() as store:
        show(copy(store, target), as_json=as_json, title=f"backup {target}")


def restore(
    context: typer.Context,
    archive: Annotated[Path, typer.Argument(help="An archive that `tenure backup` wrote.")],
    tombstones: Annotated[
        Path | None, typer.Option(help="tombstones.jsonl of the old home, when restoring on another machine.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Restore a backup into the store's home; what was deleted since stays deleted."""
    from tenure.store.backup import restore as take

    session: Session = context.obj
    with told_plainly():
        show(take(archive, session.config.home, tombstones=tombstones), as_json=as_json, title=f"restored {archive}")


def keys(
    context: typer.Context,
    action: Annotated[str, typer.Argument(help="create, list or revoke.")] = "list",
    principal: Annotated[str, typer.Option(help="TENANT/PRINCIPAL of a new key.")] = "",
    roles: Annotated[str, typer.Option(help="Comma-separated: chat, feedback, admin.")] = "chat,feedback",
    key: Annotated[str, typer.Option(help="Id of the key to revoke.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """API keys: the token is shown once and kept only as a hash."""
    session: Session = context.obj
    with told_plainly(), session.store() as store:
        if action == "create":
            tenant, slash, name = principal.partition("/")
            if not (tenant and slash and name):
                raise InputError(f"--principal {principal!r} is not TENANT/PRINCIPAL")
            token = store.keys.create(tenant, name, frozenset(Role(role.strip()) for role in roles.split(",")))
            show({"token": token}, as_json=as_json, title="new key, shown once")
        elif action == "revoke":
            store.keys.revoke(key)
            show({"revoked": key}, as_json=as_json)
        elif action == "list":
            show(list(store.keys.list()), as_json=as_json, title="keys")
        else:
            raise InputError(f"keys {action!r}: the action is create, list or revoke")


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(status)
    app.command()(verify)
    app.command()(backup)
    app.command()(restore)
    app.command()(keys)
