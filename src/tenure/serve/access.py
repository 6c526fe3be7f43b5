"""Who is asking: API keys, roles, and the rule that keys may be off on loopback only.

The principal comes from the key, never from the body. Called by every route through `asker`; knows nothing of what the
routes do.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials
from starlette.concurrency import run_in_threadpool

from tenure.config import ServerConfig
from tenure.errors import AccessError, ConfigError
from tenure.serve.door import door_of
from tenure.types import Principal, Role

LOCAL = Principal("local", "local", frozenset(Role))
BEARER = HTTPBearer(
    auto_error=False, scheme_name="key", description="An API key: `tenure keys create` or /v1/admin/keys."
)


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only be reached from this machine."""
    name = host.strip("[]").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_access(server: ServerConfig) -> None:
    """Refuse to listen without keys where others can reach it. Raises ConfigError."""
    if not server.keys and not is_loopback(server.host):
        raise ConfigError(
            f"server.host = {server.host!r} can be reached from other machines and server.keys is off; "
            "switch server.keys on and create a key, or listen on 127.0.0.1"
        )


def _check_local(request: Request) -> None:
    """Without keys, a request must name this machine and come from no other place's web page.

    A page elsewhere could rebind its name to 127.0.0.1 (the Host header tells) or post to localhost (Origin tells).
    """
    said_hosts = ["//" + request.headers.get("host", ""), *request.headers.getlist("origin")]
    for said in said_hosts:
        if not is_loopback(_host_of(said)):
            raise AccessError(
                f"keys are off, so only requests from and to localhost are answered, not {said!a}; switch keys on",
                status=403,
            )


def _host_of(url: str) -> str:
    """The host of a URL, "" when there is none to be found."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


async def _principal(request: Request, token: str | None) -> Principal:
    door = door_of(request)
    if not door.config.server.keys:
        _check_local(request)
        return LOCAL
    if not token:
        raise AccessError("no API key was sent; send it as `Authorization: Bearer KEY`", status=401)
    return await run_in_threadpool(door.runtime.store.keys.authenticate, token)


def asker(role: Role) -> Callable[..., Awaitable[Principal]]:
    """A dependency that gives the asking principal, who must have `role` (an admin may do everything).

    Raises AccessError: 401 without a valid key, 403 when the key lacks the role.
    """

    async def dependency(
        request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)]
    ) -> Principal:
        principal = await _principal(request, credentials.credentials if credentials else None)
        if role not in principal.roles and Role.ADMIN not in principal.roles:
            held = ", ".join(sorted(principal.roles)) or "none"
            raise AccessError(
                f"this key has the roles {held}, not {role.value}; use a key that has {role.value}", status=403
            )
        return principal

    return dependency


ChatAsker = Annotated[Principal, Depends(asker(Role.CHAT))]
FeedbackAsker = Annotated[Principal, Depends(asker(Role.FEEDBACK))]
AdminAsker = Annotated[Principal, Depends(asker(Role.ADMIN))]
