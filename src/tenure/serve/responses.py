"""What the OpenAPI schema says about answers: the errors that a route may give, and streams beside JSON.

Data only; used in the routes' decorators.
"""

from __future__ import annotations

from typing import Any

from tenure.serve.replies import ErrorReply

Responses = dict[int | str, dict[str, Any]]

MEANINGS = {
    400: "The request can't be used; `param` names the field.",
    401: "No API key, or one that nobody knows.",
    403: "The key lacks the role that this route needs.",
    404: "Nobody knows that id, or this asker may not see it.",
    409: "It contradicts what is there: a key used twice, or a version without a passing verdict.",
    413: "The body is larger than server.max_body_bytes.",
    429: "Every place in batch and queue is taken; Retry-After says when to come again.",
    500: "The server failed.",
    503: "The server is stopping; ask again.",
    502: "The upstream endpoint failed (proxy mode).",
}


def errors(*statuses: int) -> Responses:
    """The `responses` of a route that may answer with these statuses."""
    return {status: {"model": ErrorReply, "description": MEANINGS[status]} for status in statuses}


READ = errors(400, 401, 403, 404)
ERRORS = errors(400, 401, 403, 404, 409, 413, 429)


def streamed(name: str) -> Responses:
    """The `responses` of a generating route: JSON, or a stream of `name` objects as server-sent events."""
    description = f"The whole reply; with `stream`, events that carry `{name}` objects and end with [DONE]."
    stream = {"text/event-stream": {"schema": {"type": "string"}}}
    return {200: {"description": description, "content": stream}, **ERRORS, **errors(500, 502, 503)}
