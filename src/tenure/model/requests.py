"""What one asks of the engine and what one gets: requests, events and results.

Computes nothing; made by the runtime, gates and benchmarks, read by the engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tenure.types import AttachmentUse

FinishReason = Literal["stop", "length", "cancelled", "error"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen. Temperature 0 is greedy; `seed` None draws one.

    `stop` strings end the reply and are left out of it. `logprobs` n reports the chosen token's log-probability and the
    n likeliest ones (0: the chosen one alone; None: nothing), of the model's own distribution before temperature.
    `schema` is a JSON schema that the reply must satisfy.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A prompt to be continued. `weights` names a weight set of the engine; empty is the base."""

    tokens: tuple[int, ...]
    sampling: Sampling = Sampling()
    weights: str = ""
    attachments: tuple[AttachmentUse, ...] = ()
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One more token. `text` is the new text that may be shown, possibly empty; `top` holds (token, log-probability).

    When a reply ends, its last event carries the text that was held back; if that end was a stop token, `token` is it.
    """

    token: int
    text: str
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished reply. `tokens` leaves out the stop token; `logprobs` and `top` have one entry a token if asked for.

    `num_cached_tokens` of the prompt's tokens came from the prefix cache. `error` says what went wrong when
    `finish_reason` is "error".
    """

    tokens: tuple[int, ...]
    text: str
    finish_reason: FinishReason
    num_prompt_tokens: int
    num_cached_tokens: int = 0
    logprobs: tuple[float, ...] = ()
    top: tuple[tuple[tuple[int, float], ...], ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Continuations of one prompt whose likelihoods are wanted; the prompt is computed once for all of them."""

    tokens: tuple[int, ...]
    continuations: tuple[tuple[int, ...], ...]
    weights: str = ""
    attachments: tuple[AttachmentUse, ...] = ()


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """Sum of log-probabilities (nats) of each continuation's tokens after the prompt, in the request's order."""

    log_likelihoods: tuple[float, ...]
