"""GET /healthz and /metrics: alive, with which version, how busy, and everything that Prometheus wants."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from tenure.serve import replies
from tenure.serve.access import AdminAsker
from tenure.serve.door import door_of
from tenure.serve.responses import READ
from tenure.types import Alias

router = APIRouter(tags=["health"])


@router.get("/healthz", response_model=replies.HealthReply)
def healthz(request: Request) -> replies.HealthReply:
    """Liveness; open to everybody who can reach the port."""
    door = door_of(request)
    return replies.HealthReply(
        version=door.runtime.store.registry.aliases().get(Alias.CHAMPION, ""),
        running=door.flights.num_open,
        capacity=door.flights.capacity,
        mode="engine" if door.upstream is None else "proxy",
    )


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **READ})
def metrics(request: Request, _: AdminAsker) -> Response:
    """Prometheus' text format. With keys on it takes an admin key: Prometheus sends it as `authorization`."""
    return Response(door_of(request).meters.exposition(), media_type=CONTENT_TYPE_LATEST)
