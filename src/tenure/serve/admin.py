"""/v1/admin: versions, aliases, promotion and its undoing, keys, and why a reply said what it said.

Every route asks for the admin role; a chat key gets 403. Promotion goes through the registry's own conditions: there is
no way around a verdict here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends, Request

from tenure.errors import StoreError, TenureError
from tenure.runtime import Runtime
from tenure.serve import replies, wire
from tenure.serve.access import AdminAsker, asker
from tenure.serve.asked import scope_of
from tenure.serve.door import door_of, own_model
from tenure.serve.responses import ERRORS, READ
from tenure.store.digests import canonical_json
from tenure.store.keys import KeyRecord
from tenure.store.manifests import VersionRecord
from tenure.types import Alias, Role

router = APIRouter(prefix="/v1/admin", tags=["admin"], dependencies=[Depends(asker(Role.ADMIN))])
OWN_MODEL = [Depends(own_model)]


class Conflict(TenureError):
    """What is asked contradicts what is there."""

    status = 409
    code = "conflict"


def plain(value: Any) -> Any:
    """Dataclasses as JSON values."""
    return json.loads(canonical_json(value))


def aliases_of(runtime: Runtime) -> replies.AliasReply:
    """Where the aliases point."""
    found = runtime.store.registry.aliases()
    return replies.AliasReply(
        champion=found.get(Alias.CHAMPION), challenger=found.get(Alias.CHALLENGER), anchor=found.get(Alias.ANCHOR)
    )


def _version(runtime: Runtime, record: VersionRecord) -> replies.VersionReply:
    names = [alias.value for alias, digest in runtime.store.registry.aliases().items() if digest == record.digest]
    return replies.VersionReply(
        digest=record.digest,
        created_at=record.created_at,
        revoked=record.revoked,
        parent=record.parent,
        aliases=names,
        manifest=plain(record.version),
    )


@router.get("/versions", response_model=replies.VersionList, responses=READ)
def versions(request: Request) -> replies.VersionList:
    """All versions, the newest first, failed and revoked ones included."""
    runtime = door_of(request).runtime
    found = [_version(runtime, record) for record in reversed(runtime.store.registry.versions())]
    return replies.VersionList(data=found)


@router.get("/versions/{digest}", response_model=replies.VersionDetail, responses=READ)
def version(request: Request, digest: str) -> replies.VersionDetail:
    """One version with its lineage and what is attested about it."""
    runtime = door_of(request).runtime
    registry = runtime.store.registry
    full = registry.resolve(digest)
    record = next(record for record in registry.versions() if record.digest == full)
    return replies.VersionDetail(
        version=_version(runtime, record),
        lineage=plain(registry.lineage(full)),
        attestations=plain(registry.attestations(full)),
    )


@router.get("/aliases", response_model=replies.AliasReply, responses=READ)
def aliases(request: Request) -> replies.AliasReply:
    """Where the aliases point."""
    return aliases_of(door_of(request).runtime)


@router.get("/aliases/history", response_model=replies.AliasMoveList, responses=READ)
def history(request: Request) -> replies.AliasMoveList:
    """Every move of an alias, oldest first."""
    return replies.AliasMoveList(data=plain(door_of(request).runtime.store.registry.history()))


@router.post("/promote", response_model=replies.AliasReply, responses=ERRORS, dependencies=OWN_MODEL)
def promote(request: Request, body: wire.DigestBody) -> replies.AliasReply:
    """Make a version champion by its stored verdict; 409 when there is no passed one for it."""
    return _moved(door_of(request).runtime, lambda runtime: runtime.promote(body.digest))


@router.post("/rollback", response_model=replies.AliasReply, responses=ERRORS, dependencies=OWN_MODEL)
def rollback(request: Request) -> replies.AliasReply:
    """Back to the champion before this one; 409 when there is none."""
    return _moved(door_of(request).runtime, lambda runtime: runtime.rollback())


@router.post("/revoke", response_model=replies.AliasReply, responses=ERRORS, dependencies=OWN_MODEL)
def revoke(request: Request, body: wire.RevokeBody) -> replies.AliasReply:
    """Take a version out of service for good, at once."""
    return _moved(door_of(request).runtime, lambda runtime: runtime.revoke(body.digest, reason=body.reason))


def _moved(runtime: Runtime, move: Callable[[Runtime], str]) -> replies.AliasReply:
    try:
        move(runtime)
    except StoreError as error:  # the store is sound; it refuses the move (no earlier champion, a tampered artefact)
        raise Conflict(str(error)) from error
    return aliases_of(runtime)


@router.get("/keys", response_model=replies.KeyList, responses=READ)
def keys(request: Request) -> replies.KeyList:
    """All keys, oldest first, revoked ones included; never a token."""
    return replies.KeyList(data=[_key(record) for record in door_of(request).runtime.store.keys.list()])


@router.post("/keys", response_model=replies.NewKeyReply, responses=ERRORS)
def create_key(request: Request, body: wire.KeyBody) -> replies.NewKeyReply:
    """Make a key. Its token is shown this once."""
    roles = sorted({Role(role) for role in body.roles})
    token = door_of(request).runtime.store.keys.create(body.tenant, body.principal, roles)
    return replies.NewKeyReply(token=token, tenant=body.tenant, principal=body.principal, roles=[*roles])


@router.delete("/keys/{key_id}", response_model=replies.DeletedReply, responses=READ)
def revoke_key(request: Request, key_id: str) -> replies.DeletedReply:
    """End a key at once."""
    door_of(request).runtime.store.keys.revoke(key_id)
    return replies.DeletedReply(id=key_id)


def _key(record: KeyRecord) -> replies.KeyReply:
    return replies.KeyReply(
        id=record.id,
        tenant=record.principal.tenant,
        principal=record.principal.name,
        roles=sorted(record.principal.roles),
        created_at=record.created_at,
        revoked=record.revoked_at is not None,
    )


@router.get("/why/{response_id}", response_model=replies.Explanation, responses=READ)
def why(request: Request, response_id: str, principal: AdminAsker) -> replies.Explanation:
    """Version, memories, modules and the turns behind a reply."""
    found = door_of(request).runtime.why(response_id, scope_of(principal, None), principal.roles)
    return replies.Explanation(data=plain(found))
