"""Errors as OpenAI's clients expect them: one body shape, the right status, a code to test for.

Every exception that reaches the edge passes here. Knows the error tree and HTTP; called by `app.py` and, for errors in
the middle of a stream, by `sse.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from tenure.errors import AccessError, BusyError, NotFound, TenureError, UpstreamError
from tenure.serve.replies import ErrorDetail, ErrorReply

log = logging.getLogger("tenure.serve")

RETRY_AFTER_SECONDS = 1
TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}


class UnknownModel(NotFound):
    """A model id that nobody knows, or that this asker may not use."""

    code = "model_not_found"


class TooLarge(TenureError):
    """A request body over the limit."""

    status = 413
    code = "request_too_large"


class Stopping(TenureError):
    """The server is on its way down."""

    status = 503
    code = "stopping"


class UpstreamRefusal(UpstreamError):
    """The proxied endpoint refused what the asker sent; its status, code and field are passed on."""

    def __init__(self, message: str, *, status: int, code: str | None, param: str | None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code or "upstream_refused"
        self.param = param


def error_body(status: int, message: str, *, code: str | None, param: str | None = None) -> dict[str, Any]:
    """The JSON body of an error."""
    detail = ErrorDetail(message=message, type=TYPES.get(status, "server_error"), param=param, code=code)
    return ErrorReply(error=detail).model_dump()


def refusal_of(error: BaseException) -> tuple[int, dict[str, Any], dict[str, str]]:
    """(status, body, headers) for an exception. What isn't in the error tree is logged and told as a plain 500."""
    if not isinstance(error, TenureError):
        log.error("a request failed in a way that nobody foresaw", exc_info=error)
        text = "the server failed in a way that nobody foresaw; its log has the details"
        return 500, error_body(500, text, code="internal_error"), {}
    status = error.status
    if status >= 500:
        log.error("a request failed: %s", error, exc_info=error)
    headers: dict[str, str] = {}
    if isinstance(error, BusyError) or status in (429, 503):
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if isinstance(error, AccessError) and status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    param = "model" if isinstance(error, UnknownModel) else getattr(error, "param", None)
    return status, error_body(status, str(error), code=_code_of(error), param=param), headers


def _code_of(error: TenureError) -> str:
    if isinstance(error, AccessError):
        return "invalid_api_key" if error.status == 401 else "access_denied"
    return error.code


def json_response(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A JSON response."""
    return JSONResponse(dict(body), status_code=status, headers=dict(headers or {}))


def install_refusals(app: FastAPI) -> None:
    """Make every error of `app` leave in OpenAI's shape."""

    async def tenure(_: Request, error: Exception) -> JSONResponse:
        return json_response(*refusal_of(error))

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        message, param = describe(error.errors())
        return json_response(400, error_body(400, message, code="invalid_request", param=param))

    async def http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return json_response(error.status_code, _http_body(request, error), error.headers)

    app.add_exception_handler(TenureError, tenure)
    app.add_exception_handler(Exception, tenure)  # what nobody foresaw has the same shape
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)


def _http_body(request: Request, error: HTTPException) -> dict[str, Any]:
    where = f"{request.method} {request.url.path}"
    if error.status_code == 404:
        return error_body(404, f"{where} leads nowhere; /openapi.json lists the routes", code="not_found")
    if error.status_code == 405:
        return error_body(405, f"{where}: this route has other methods; see /openapi.json", code="method_not_allowed")
    return error_body(error.status_code, f"{where}: {error.detail}", code="invalid_request")


def describe(errors: Sequence[Any]) -> tuple[str, str | None]:
    """(message, field) of the first of pydantic's errors. The value itself is left out unless it is short and plain."""
    first = errors[0]
    where = [str(part) for part in first.get("loc", ())]
    if first.get("type") == "json_invalid":
        reason = first.get("ctx", {}).get("error", "it doesn't parse")
        position = where[-1] if where else "?"
        return f"the body is not valid JSON: {reason} at character {position}", None
    path = ".".join(where[1:]) or None
    value = first.get("input")
    shown = f" (it was {value!a})" if isinstance(value, (int, float)) or _short(value) else ""
    if path is None and where[:1] == ["body"]:
        return f"the body must be a JSON object sent as application/json: {_sentence(first)}", None
    return f"{path or 'the request'}: {_sentence(first)}{shown}", path


def _short(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 64


def _sentence(error: Mapping[str, Any]) -> str:
    text = str(error.get("msg", "it can't be used")).encode("ascii", "backslashreplace").decode("ascii")
    return text[0].lower() + text[1:]
