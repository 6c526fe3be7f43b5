"""What every route has at hand: the settings, the runtime, the flights, the meters, the upstream and the night watch.

Built once by `app.py`; routes reach it through the request. Knows none of the routes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import Request

from tenure.config import Config
from tenure.errors import InputError
from tenure.runtime import Runtime
from tenure.serve.flights import Flights
from tenure.serve.metrics import Meters

if TYPE_CHECKING:
    from tenure.serve.nightwatch import NightWatch
    from tenure.serve.upstream import Upstream


@dataclass(frozen=True, slots=True)
class Door:
    """One server's parts. In proxy mode `upstream` is there, and the runtime has a store but no model."""

    config: Config
    runtime: Runtime
    flights: Flights
    meters: Meters
    watch: NightWatch
    upstream: Upstream | None


def door_of(request: Request) -> Door:
    """The door through which this request came."""
    door = request.app.state.door
    assert isinstance(door, Door)
    return door


def own_model(request: Request) -> None:
    """A dependency for routes that need a model of one's own. Raises InputError in proxy mode."""
    if door_of(request).upstream is not None:
        raise InputError(
            "this server stands before another endpoint (server.upstream) and has no model of its own; "
            "ask a server that runs one"
        )
