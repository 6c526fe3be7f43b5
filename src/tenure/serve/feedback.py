"""POST /v1/feedback: what somebody says about a reply or a session, at once or days later.

Idempotent by the Idempotency-Key header; a worded correction is usable in the very next request.
"""

from __future__ import annotations

import time
import uuid

from fastapi import APIRouter, Request

from tenure.runtime import Runtime
from tenure.serve import replies, wire
from tenure.serve.access import FeedbackAsker
from tenure.serve.asked import Unfit, idempotency_key, scope_of
from tenure.serve.door import door_of
from tenure.serve.responses import ERRORS
from tenure.types import Feedback, FeedbackKind, Principal, Scope

router = APIRouter(tags=["feedback"])
WORDED = (FeedbackKind.CORRECTION, FeedbackKind.COMMENT, FeedbackKind.DEMONSTRATION)


def feedback_of(runtime: Runtime, body: wire.FeedbackBody, principal: Principal) -> Feedback:
    """The feedback as the ledger keeps it. Raises Unfit when it says nothing or names nothing."""
    kind = FeedbackKind(body.kind)
    if body.response_id is None and body.session is None:
        raise Unfit("response_id", "is missing; name the id of a reply, or a session")
    if kind is FeedbackKind.SCORE and body.score is None:
        raise Unfit("score", "is missing; kind score needs a number from -1 to 1")
    if kind in WORDED and not (body.text or "").strip():
        raise Unfit("text", f"is missing; kind {kind.value} needs words")
    if kind is FeedbackKind.OUTCOME and body.score is None and not body.text:
        raise Unfit("score", "is missing; an outcome has a score, a text, or both")
    return Feedback(
        id=f"feedback_{uuid.uuid4().hex}",
        scope=_scope(runtime, body, principal),
        kind=kind,
        created_at=time.time(),
        turn_id=body.response_id or "",
        session=body.session or "",
        score=body.score,
        text=body.text or "",
        source=body.source or "user",
    )


def _scope(runtime: Runtime, body: wire.FeedbackBody, principal: Principal) -> Scope:
    """The scope of the turn that is spoken of, so that a correction is remembered where it was needed."""
    own = scope_of(principal, body.user)
    if body.response_id is None or body.user is not None:
        return own
    there = runtime.store.ledger.turn(body.response_id).scope
    return there if (there.tenant, there.principal) == (own.tenant, own.principal) else own


@router.post("/v1/feedback", response_model=replies.FeedbackReply, responses=ERRORS)
def feedback(request: Request, body: wire.FeedbackBody, principal: FeedbackAsker) -> replies.FeedbackReply:
    """Attach a score, correction, comment, demonstration or outcome to a reply or a session."""
    runtime = door_of(request).runtime
    key = idempotency_key(request)
    given = feedback_of(runtime, body, principal)
    return replies.FeedbackReply(id=runtime.feedback(given, idempotency_key=key))
