"""Versions, verdicts and what is kept beside them, as bytes and back.

Knows no database. Called by the registry; `verdict_payload` also by whoever attests a verdict.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tenure.store.digests import canonical_json
from tenure.types import Alias, Audience, Check, DeltaRef, ModuleKind, ModuleRef, Outcome, Verdict, Version


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """A version as the registry lists it. `parent` is "" for a base; `lineage` are the source ids it learned from."""

    digest: str
    version: Version
    created_at: float
    revoked: bool
    parent: str
    lineage: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a version comes from: its parent, the turns and feedback behind it, and each artefact's Candidate data."""

    digest: str
    parent: str
    source_ids: tuple[str, ...]
    candidates: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Attestation:
    """A signed statement about a digest; its signature was checked when it was read."""

    id: str
    digest: str
    kind: str
    created_at: float
    payload: Mapping[str, Any]
    signature: str


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One move of an alias. `action`: found, challenge, promote, rollback or revoke; `digest` None: nowhere."""

    number: int
    alias: Alias
    digest: str | None
    previous: str | None
    action: str
    reason: str
    moved_at: float


def encode_version(version: Version) -> bytes:
    """The canonical manifest, whose sha256 is the version's digest."""
    return canonical_json(version)


def decode_version(manifest: bytes) -> Version:
    """The version of a manifest."""
    fields = json.loads(manifest)
    fields["deltas"] = tuple(DeltaRef(**delta) for delta in fields["deltas"])
    fields["modules"] = tuple(_module(module) for module in fields["modules"])
    return Version(**fields)


def _module(fields: dict[str, Any]) -> ModuleRef:
    return ModuleRef(**{**fields, "kind": ModuleKind(fields["kind"]), "audience": Audience(fields["audience"])})


def artefacts(version: Version) -> tuple[str, ...]:
    """The digests of every object that a version needs (the base model itself is not one)."""
    digests = [delta.digest for delta in version.deltas] + [module.digest for module in version.modules]
    return tuple(dict.fromkeys([*digests, *([version.router] if version.router else [])]))


def verdict_payload(verdict: Verdict) -> dict[str, Any]:
    """A verdict as the payload of an attestation of kind "verdict"."""
    payload: dict[str, Any] = json.loads(canonical_json(verdict))
    return payload


def verdict_of(payload: Mapping[str, Any]) -> Verdict:
    """The verdict that a payload says; further keys of the payload are ignored."""
    checks = tuple(Check(**{**check, "outcome": Outcome(check["outcome"])}) for check in payload["checks"])
    return Verdict(
        version=payload["version"],
        champion=payload["champion"],
        anchor=payload["anchor"],
        outcome=Outcome(payload["outcome"]),
        checks=checks,
        reasons=tuple(payload["reasons"]),
        alpha=payload["alpha"],
    )
