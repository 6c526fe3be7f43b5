"""A verdict for eyes and for signatures: a table for terminals, and a plain document that reads back as it was.

Knows no store and no signature: the registry signs what `verdict_document` gives. Called by the command line, the night
and the registry's reader.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_type_hints

from rich.table import Table
from rich.text import Text

from tenure.errors import GateError
from tenure.types import Check, Outcome, Verdict

STYLES = {Outcome.PASSED: "green", Outcome.FAILED: "bold red", Outcome.INSUFFICIENT: "yellow"}


def verdict_table(verdict: Verdict) -> Table:
    """One line a check; below it the reasons of all that didn't pass, and the alpha that this night spent."""
    title = Text.assemble(
        f"{verdict.version[:12]} against champion {verdict.champion[:12]} and anchor {verdict.anchor[:12]}: ",
        (verdict.outcome.value, STYLES[verdict.outcome]),
    )
    table = Table(title=title, caption=_caption(verdict), caption_justify="left")
    for column in ("suite", "check"):
        table.add_column(column, overflow="fold")
    for column in ("items", "value", "bounds", "asked", "fixed", "broken", "power"):
        table.add_column(column, justify="right")
    table.add_column("outcome")
    for check in verdict.checks:
        table.add_row(*_cells(check), Text(_outcome_told(check), style=STYLES[check.outcome]))
    return table


def _cells(check: Check) -> tuple[str, ...]:
    paired = check.num_fixed or check.num_broken or check.delta is not None
    return (
        check.suite,
        check.name,
        f"{check.num_items:,}",
        _number(check.value),
        f"{_number(check.lower)} .. {_number(check.upper)}" if (check.lower, check.upper) != (None, None) else "",
        _number(check.threshold),
        str(check.num_fixed) if paired else "",
        str(check.num_broken) if paired else "",
        f"{check.power:.2f}" if check.power is not None else "",
    )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value == round(value) and abs(value) >= 1 else f"{value:.4f}"


def _outcome_told(check: Check) -> str:
    if check.outcome is Outcome.INSUFFICIENT and not check.required:
        return f"{check.outcome.value}, reported only"
    return check.outcome.value


def _caption(verdict: Verdict) -> str:
    told = [reason for reason in verdict.reasons if not reason.startswith(f"{Outcome.PASSED.value}:")]
    return "\n".join([*told, f"one-sided alpha of this night: {verdict.alpha:.4g}"])


def verdict_document(verdict: Verdict) -> dict[str, Any]:
    """Plain JSON values, every field by its name; `verdict_from_document` gives an equal verdict back."""
    document = {f.name: getattr(verdict, f.name) for f in dataclasses.fields(verdict)}
    document["outcome"] = verdict.outcome.value
    document["reasons"] = list(verdict.reasons)
    document["checks"] = [
        {**{f.name: getattr(check, f.name) for f in dataclasses.fields(check)}, "outcome": check.outcome.value}
        for check in verdict.checks
    ]
    return document


def verdict_from_document(document: Mapping[str, Any]) -> Verdict:
    """Read a document back. Raises GateError for missing or unknown fields and values of the wrong kind."""
    fields = _fields(Verdict, document)
    if not isinstance(fields["checks"], list) or not isinstance(fields["reasons"], list):
        raise GateError("a verdict's checks and reasons must be lists; judge the version again with `tenure gate`")
    checks = tuple(Check(**_fields(Check, check)) for check in fields.pop("checks"))
    return Verdict(**{**fields, "checks": checks, "reasons": tuple(str(reason) for reason in fields["reasons"])})


def _fields(kind: type[Verdict] | type[Check], document: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    given = dict(document) if isinstance(document, Mapping) else {}
    if set(given) != set(hints):
        odd = ", ".join(sorted(set(given) ^ set(hints)))
        raise GateError(f"a {kind.__name__.lower()} lacks or has unknown fields: {odd}; judge the version again")
    for name, wanted in hints.items():
        if wanted is Outcome:
            try:
                given[name] = Outcome(given[name])
            except ValueError as error:
                raise GateError(f"outcome {given[name]!r} is none of {[o.value for o in Outcome]}") from error
        elif wanted in (str, int, bool, float) and not _is(given[name], wanted):
            raise GateError(f"{kind.__name__.lower()}.{name} = {given[name]!r} is not a {wanted.__name__}")
        elif wanted == float | None and given[name] is not None and not _is(given[name], float):
            raise GateError(f"{kind.__name__.lower()}.{name} = {given[name]!r} is neither a number nor absent")
    return given


def _is(value: Any, wanted: type) -> bool:
    if wanted is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is wanted
