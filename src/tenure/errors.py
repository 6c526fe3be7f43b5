"""The one error tree. A message says what happened, the value, and the next step.

TenureError
├── ConfigError            a setting is unknown or has a value that can't be used
├── InputError             what the caller sent can't be used            (HTTP 400)
│   ├── ContextTooLong     prompt and max_tokens don't fit the window    (HTTP 400)
│   └── NotFound           an id that nobody knows, or not this asker    (HTTP 404)
├── AccessError            no key, wrong key (401) or a role it lacks    (HTTP 401, 403)
├── BusyError              the queue is full; try again                  (HTTP 429)
├── ModelError             a model can't be had or used
│   ├── DownloadError      no network, wrong hash, disk full
│   └── BrokenModel        files missing, unreadable, unsupported architecture
├── StoreError             the store can't do it
│   ├── ChainBroken        the ledger's hash chain doesn't verify
│   ├── TamperedObject     bytes don't match their digest
│   └── IdempotencyClash   the same idempotency key with another content (HTTP 409)
├── GateError              an exam can't be held
│   └── Refused            promotion without a passing verdict on that digest (HTTP 409)
├── LearnError             a learner can't use its episodes or its artefact
│   └── OutOfTime          its seconds ended before its first step
└── UpstreamError          the proxied endpoint failed                   (HTTP 502)
"""

from __future__ import annotations


class TenureError(Exception):
    """Root of every error that Tenure raises on purpose. `status` is the HTTP status a door answers with."""

    status = 500
    code = "internal_error"


class ConfigError(TenureError):
    """A setting is unknown or has a value that can't be used."""

    code = "config_error"


class InputError(TenureError):
    """What the caller sent can't be used."""

    status = 400
    code = "invalid_request"


class ContextTooLong(InputError):
    """Prompt and max_tokens don't fit the model's window."""

    code = "context_length_exceeded"


class NotFound(InputError):
    """An id that nobody knows, or that this asker may not see."""

    status = 404
    code = "not_found"


class AccessError(TenureError):
    """No key, an unknown key (status 401), or a role that the key lacks (status 403)."""

    code = "access_denied"

    def __init__(self, message: str, *, status: int = 401) -> None:
        super().__init__(message)
        self.status = status


class BusyError(TenureError):
    """The queue is full."""

    status = 429
    code = "busy"


class ModelError(TenureError):
    """A model can't be had or used."""

    code = "model_error"


class DownloadError(ModelError):
    """No network, wrong hash, or disk full."""

    code = "download_error"


class BrokenModel(ModelError):
    """Files missing or unreadable, or an unsupported architecture."""

    code = "broken_model"


class StoreError(TenureError):
    """The store can't do it."""

    code = "store_error"


class ChainBroken(StoreError):
    """The ledger's hash chain doesn't verify."""

    code = "chain_broken"


class TamperedObject(StoreError):
    """Stored bytes don't match their digest."""

    code = "tampered_object"


class IdempotencyClash(StoreError):
    """The same idempotency key came with another content."""

    status = 409
    code = "idempotency_clash"


class GateError(TenureError):
    """An exam can't be held."""

    code = "gate_error"


class Refused(GateError):
    """Promotion without a passing verdict that names that digest."""

    status = 409
    code = "refused"


class LearnError(TenureError):
    """A learner can't use its episodes or its artefact."""

    code = "learn_error"


class OutOfTime(LearnError):
    """The seconds that a learner was given ended before its first step."""

    code = "out_of_time"


class Cancelled(TenureError):
    """Somebody cancelled the night."""

    code = "cancelled"


class UpstreamError(TenureError):
    """The proxied endpoint failed."""

    status = 502
    code = "upstream_error"
