"""GET /v1/models: the aliases and versions that the asker may use."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from tenure.runtime import ModelCard
from tenure.serve import replies
from tenure.serve.access import ChatAsker
from tenure.serve.asked import scope_of
from tenure.serve.door import Door, door_of
from tenure.serve.refusals import UnknownModel, json_response
from tenure.serve.responses import READ, errors
from tenure.types import Principal

router = APIRouter(tags=["models"])
SHORTEST_PREFIX = 8


def models_of(door: Door, principal: Principal) -> list[replies.ModelReply]:
    """Aliases first, then versions by digest, the newest first."""
    cards = door.runtime.models(scope_of(principal, None), principal.roles)
    named = [_model(card, name) for card in cards for name in card.names]
    return [*named, *(_model(card, card.digest) for card in cards)]


def _model(card: ModelCard, name: str) -> replies.ModelReply:
    detail = replies.ModelDetail(digest=card.digest, aliases=list(card.names), parent=card.parent)
    return replies.ModelReply(id=name, created=int(card.created_at), tenure=detail)


@router.get("/v1/models", response_model=replies.ModelList, responses={**READ, **errors(502)})
async def list_models(request: Request, principal: ChatAsker) -> Response:
    """All models that the asker may use."""
    door = door_of(request)
    if door.upstream is not None:
        return await door.upstream.models()
    found = await run_in_threadpool(models_of, door, principal)
    return json_response(200, replies.ModelList(data=found).model_dump())


@router.get("/v1/models/{model}", response_model=replies.ModelReply, responses={**READ, **errors(502)})
async def retrieve_model(request: Request, model: str, principal: ChatAsker) -> Response:
    """One model by alias, digest, or eight and more digits of one."""
    door = door_of(request)
    if door.upstream is not None:
        return await door.upstream.models(model)
    for found in await run_in_threadpool(models_of, door, principal):
        if found.id == model or (len(model) >= SHORTEST_PREFIX and found.id.startswith(model)):
            return json_response(200, found.model_dump())
    raise UnknownModel(f"no model {model!a}; GET /v1/models lists the ones you may use")
