"""/v1/fine_tuning/jobs: a night is a job. What it learns from is the ledger, so there is no file to upload.

OpenAI's words for the state stand outside, the night's own (promoted, proposed, refused, nothing ...) under `tenure`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request

from tenure.errors import InputError
from tenure.serve import replies, wire
from tenure.serve.access import AdminAsker
from tenure.serve.asked import Unfit
from tenure.serve.door import door_of, own_model
from tenure.serve.responses import ERRORS, READ
from tenure.store.nights import Night, NightEvent, NightStatus
from tenure.weights.learners import LEARNERS

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["nights"], dependencies=[Depends(own_model)])

Limit = Annotated[int, Query(ge=1, le=100)]
After = Annotated[str | None, Query(max_length=64)]
JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
STATUS: Mapping[NightStatus, JobStatus] = {
    NightStatus.QUEUED: "queued",
    NightStatus.RUNNING: "running",
    NightStatus.PROMOTED: "succeeded",
    NightStatus.PROPOSED: "succeeded",
    NightStatus.NOTHING: "succeeded",
    NightStatus.REFUSED: "failed",
    NightStatus.FAILED: "failed",
    NightStatus.CANCELLED: "cancelled",
}
LEVELS: Mapping[str, Literal["info", "warn", "error"]] = {"info": "info", "warn": "warn", "error": "error"}


def job_of(night: Night, tenant: str) -> replies.NightReply:
    """A night as a fine-tuning job."""
    error = None
    status = STATUS[night.status]
    if status == "failed":
        error = replies.NightError(code=night.status.value, message=str(night.result.get("reason", "no reason kept")))
    if night.status is NightStatus.RUNNING and not night.alive:
        status = "failed"
        text = f"its process ended before the night did; `tenure sleep --night {night.id}` goes on where it stopped"
        error = replies.NightError(code="interrupted", message=text)
    version = str(night.result.get("version") or "")
    good = night.status in (NightStatus.PROMOTED, NightStatus.PROPOSED)
    return replies.NightReply(
        id=night.id,
        created_at=int(night.created_at),
        finished_at=None if night.finished_at is None else int(night.finished_at),
        model="base",
        fine_tuned_model=version if good and version else None,
        organization_id=tenant,
        status=status,
        seed=int(night.settings.get("seed", 0)),
        error=error,
        tenure=replies.NightDetail(status=night.status.value, settings=dict(night.settings), result=dict(night.result)),
    )


def changes_of(body: wire.NightBody) -> dict[str, Any]:
    """What the asker wants otherwise than [night] says. Raises Unfit."""
    if body.training_file != "ledger":
        raise Unfit("training_file", f"is {body.training_file!a}; a night learns from the ledger, so say 'ledger'")
    if body.model not in ("champion", "base"):
        raise Unfit("model", f"is {body.model!a}; a night builds on the champion, so say 'champion'")
    if body.learner is not None and body.learner not in LEARNERS:
        raise Unfit("learner", f"is {body.learner!a}; the learners are {', '.join(LEARNERS)}")
    return {name: getattr(body, name) for name in ("learner", "budget_seconds", "seed", "propose")}


@router.post("", response_model=replies.NightReply, responses=ERRORS)
def start(request: Request, body: wire.NightBody, principal: AdminAsker) -> replies.NightReply:
    """Ask for a night. It runs in a process of its own, one at a time."""
    night = door_of(request).watch.ask(changes_of(body), asked_by=principal.id)
    return job_of(night, principal.tenant)


@router.get("", response_model=replies.NightList, responses=READ)
def jobs(request: Request, principal: AdminAsker, limit: Limit = 20, after: After = None) -> replies.NightList:
    """Nights, the newest first."""
    nights = door_of(request).runtime.store.nights.list(limit=limit + 1, after=after)
    data = [job_of(night, principal.tenant) for night in nights[:limit]]
    return replies.NightList(data=data, has_more=len(nights) > limit)


@router.get("/{job_id}", response_model=replies.NightReply, responses=READ)
def job(request: Request, job_id: str, principal: AdminAsker) -> replies.NightReply:
    """One night."""
    return job_of(door_of(request).runtime.store.nights.get(job_id), principal.tenant)


@router.get("/{job_id}/events", response_model=replies.NightEventList, responses=READ)
def events(
    request: Request, job_id: str, _: AdminAsker, limit: Limit = 20, after: After = None
) -> replies.NightEventList:
    """What a night said, the newest line first."""
    said = list(reversed(door_of(request).runtime.store.nights.events(job_id)))
    page, has_more = _page(said, [event.id for event in said], limit, after)
    return replies.NightEventList(data=[_event(event) for event in page], has_more=has_more)


@router.get("/{job_id}/checkpoints", response_model=replies.CheckpointList, responses=READ)
def checkpoints(
    request: Request, job_id: str, _: AdminAsker, limit: Limit = 10, after: After = None
) -> replies.CheckpointList:
    """The stages that a night has finished, the newest first."""
    nights = door_of(request).runtime.store.nights
    night = nights.get(job_id)
    found = [_checkpoint(night, i, stage, done) for i, (stage, done) in enumerate(nights.checkpoints(job_id).items())]
    found.reverse()
    page, has_more = _page(found, [checkpoint.id for checkpoint in found], limit, after)
    return replies.CheckpointList(data=page, has_more=has_more)


@router.post("/{job_id}/cancel", response_model=replies.NightReply, responses=ERRORS)
def cancel(request: Request, job_id: str, principal: AdminAsker) -> replies.NightReply:
    """Take a night off the queue or stop it; the champion stays as it is. A night that is over stays so."""
    return job_of(door_of(request).watch.cancel(job_id), principal.tenant)


def _page(items: Sequence[Any], ids: Sequence[str], limit: int, after: str | None) -> tuple[list[Any], bool]:
    if after is not None and after not in ids:
        raise InputError(f"after names {after!a}, which is not in this list; name the last id of the page before")
    first = 0 if after is None else ids.index(after) + 1
    return list(items[first : first + limit]), len(items) > first + limit


def _event(event: NightEvent) -> replies.NightEventReply:
    return replies.NightEventReply(
        id=event.id,
        created_at=int(event.created_at),
        level=LEVELS.get(event.level, "info"),
        message=event.message,
        data=dict(event.data),
    )


def _checkpoint(night: Night, number: int, stage: str, done: Mapping[str, Any]) -> replies.CheckpointReply:
    numbers = {k: float(v) for k, v in done.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    return replies.CheckpointReply(
        id=f"{night.id}-{stage}",
        created_at=int(night.started_at or night.created_at),
        fine_tuned_model_checkpoint=str(done.get("version", "")),
        fine_tuning_job_id=night.id,
        step_number=number,
        metrics=numbers,
        tenure={"stage": stage, **done},
    )
