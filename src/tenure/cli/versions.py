"""Verbs about versions: versions, show, diff, gate, promote, rollback, revoke."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenure.cli.output import OUT, bars, show
from tenure.cli.session import JsonFlag, Session, told_plainly
from tenure.types import Outcome, Version

if TYPE_CHECKING:
    from tenure.store.library import Store

DigestArgument = Annotated[str, typer.Argument(help="A version's digest, or at least its first eight digits.")]


def versions(context: typer.Context, as_json: JsonFlag = False) -> None:
    """List the versions, oldest first, with the aliases that point at them."""
    session: Session = context.obj
    with told_plainly(), session.store() as store:
        names: dict[str, list[str]] = {}
        for alias, digest in store.registry.aliases().items():
            names.setdefault(digest, []).append(alias.value)
        rows = [
            {
                "version": record.digest if as_json else record.digest[:12],
                "aliases": ", ".join(names.get(record.digest, [])),
                "modules": len(record.version.modules),
                "deltas": len(record.version.deltas),
                "created_at": record.created_at,
                "revoked": record.revoked,
            }
            for record in store.registry.versions()
        ]
        show(rows, as_json=as_json, title="versions")


def show_version(context: typer.Context, version: DigestArgument, as_json: JsonFlag = False) -> None:
    """One version: its manifest, lineage and verdicts."""
    session: Session = context.obj
    with told_plainly(), session.store() as store:
        digest = store.registry.resolve(version)
        attestations = [{"kind": a.kind, "payload": a.payload} for a in store.registry.attestations(digest)]
        document = {
            "digest": digest,
            "manifest": store.registry.version(digest),
            "lineage": store.registry.lineage(digest),
            "attestations": attestations,
        }
        show(document, as_json=as_json, title=f"version {digest[:12]}")


def diff(context: typer.Context, old: DigestArgument, new: DigestArgument, as_json: JsonFlag = False) -> None:
    """What a version has that another has not: manifest fields, modules, and the turns that those learned from."""
    session: Session = context.obj
    with told_plainly(), session.store() as store:
        registry = store.registry
        first, second = registry.version(old), registry.version(new)
        changes: dict[str, Any] = {
            name: {"old": getattr(first, name), "new": getattr(second, name)}
            for name in ("base", "tokenizer", "chat_template", "precision", "router")
            if getattr(first, name) != getattr(second, name)
        }
        changes["modules added"] = [m for m in second.modules if m not in first.modules]
        changes["modules removed"] = [m for m in first.modules if m not in second.modules]
        changes["deltas added"] = [d for d in second.deltas if d not in first.deltas]
        changes["deltas removed"] = [d for d in first.deltas if d not in second.deltas]
        known, now = _learned_by(store, first), _learned_by(store, second)
        changes["turns learned"], changes["turns no longer learned"] = sorted(now - known), sorted(known - now)
        show(changes, as_json=as_json, title=f"{old} -> {new}")


def _learned_by(store: Store, version: Version) -> set[str]:
    """The turns that what a version holds learned from."""
    from tenure.store.explanation import sources_of

    digests = [*(m.digest for m in version.modules), *(d.digest for d in version.deltas)]
    return {source for digest in digests for source in sources_of(store, digest)}


def gate(context: typer.Context, version: DigestArgument, as_json: JsonFlag = False) -> None:
    """Examine a version against champion and anchor; the verdict is signed and kept. Exit 3 unless it passed."""
    from tenure.gates.presentation import verdict_document, verdict_table

    session: Session = context.obj
    with told_plainly(), session.runtime() as runtime:
        with bars() as progress:
            verdict = runtime.gate(version, progress=progress)
        if as_json:
            show(verdict_document(verdict), as_json=True)
        else:
            OUT.print(verdict_table(verdict))
        if verdict.outcome is not Outcome.PASSED:
            raise typer.Exit(3)


def promote(context: typer.Context, version: DigestArgument, as_json: JsonFlag = False) -> None:
    """Make a version champion; refused unless its signed verdict passed and names it."""
    session: Session = context.obj
    with told_plainly(), session.runtime_without_model() as runtime:
        show({"champion": runtime.promote(version)}, as_json=as_json)


def rollback(context: typer.Context, as_json: JsonFlag = False) -> None:
    """Back to the champion before this one; a running server follows at once."""
    session: Session = context.obj
    with told_plainly(), session.runtime_without_model() as runtime:
        show({"champion": runtime.rollback()}, as_json=as_json)


def revoke(
    context: typer.Context,
    version: DigestArgument,
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
    as_json: JsonFlag = False,
) -> None:
    """Take a version out of service for good; a judged earlier one takes its place."""
    session: Session = context.obj
    with told_plainly(), session.runtime_without_model() as runtime:
        show({"champion": runtime.revoke(version, reason=reason)}, as_json=as_json)


def register(app: typer.Typer) -> None:
    """Add the verbs of this file."""
    app.command()(versions)
    app.command("show")(show_version)
    app.command()(diff)
    app.command()(gate)
    app.command()(promote)
    app.command()(rollback)
    app.command()(revoke)
