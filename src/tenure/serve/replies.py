"""What the door answers, in OpenAI's form, with Tenure's own part under `tenure`.

Shapes only: `chat.py`, `completions.py` and the other routes fill them.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Reply(BaseModel):
    """A JSON object that the door sends."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), frozen=True)


class ErrorDetail(Reply):
    """What went wrong: a sentence with the next step, a class of error, the field, and a code to test for."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(Reply):
    """Every error has this body."""

    error: ErrorDetail


class Provenance(Reply):
    """What really answered and what it used."""

    effective: str
    session: str
    memory_ids: list[str]
    modules: list[str]


class CalledFunction(Reply):
    """A function that the model called, its arguments as a JSON string."""

    name: str
    arguments: str


class ToolCall(Reply):
    """A tool call."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class ChatMessage(Reply):
    """The assistant's message."""

    role: Literal["assistant"]
    content: str | None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None


class TopLogprob(Reply):
    """A token that could have come, with its natural-log probability."""

    token: str
    bytes: list[int] | None
    logprob: float


class TokenLogprob(TopLogprob):
    """The token that came, and the most likely ones in its place."""

    top_logprobs: list[TopLogprob]


class Logprobs(Reply):
    """Log-probabilities of the reply's tokens."""

    content: list[TokenLogprob] | None
    refusal: None = None


class ChatChoice(Reply):
    """The one choice."""

    index: int
    message: ChatMessage
    logprobs: Logprobs | None
    finish_reason: str


class CachedTokens(Reply):
    """Prompt tokens that came from the prefix cache."""

    cached_tokens: int


class Usage(Reply):
    """Tokens of prompt (as the model saw it, memory included) and reply."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class ChatReply(Reply):
    """A chat completion. `id` is the turn's id: feedback can name it days later."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage
    tenure: Provenance


class OldLogprobs(Reply):
    """Log-probabilities in the form of plain completions."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class TextChoice(Reply):
    """The one choice of a plain completion."""

    index: int
    text: str
    logprobs: OldLogprobs | None
    finish_reason: str


class TextReply(Reply):
    """A plain completion."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: Usage
    tenure: Provenance


class ModelDetail(Reply):
    """What a model id stands for."""

    digest: str
    aliases: list[str]
    parent: str


class ModelReply(Reply):
    """A model that the asker may use."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "tenure"
    tenure: ModelDetail


class ModelList(Reply):
    """All models that the asker may use."""

    object: Literal["list"] = "list"
    data: list[ModelReply]


class FeedbackReply(Reply):
    """The feedback is durable."""

    id: str
    object: Literal["feedback"] = "feedback"


class NightDetail(Reply):
    """The night's own words: its status among promoted, proposed, refused, nothing ..., its settings and its result."""

    status: str
    settings: dict[str, Any]
    result: dict[str, Any]


class NightError(Reply):
    """Why a job failed."""

    code: str
    message: str
    param: str | None = None


class NightReply(Reply):
    """A night as a fine-tuning job."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    model: str
    fine_tuned_model: str | None
    organization_id: str
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    training_file: str = "ledger"
    validation_file: str | None = None
    result_files: list[str] = Field(default_factory=list)
    trained_tokens: int | None = None
    seed: int
    error: NightError | None
    tenure: NightDetail


class NightList(Reply):
    """Nights, the newest first."""

    object: Literal["list"] = "list"
    data: list[NightReply]
    has_more: bool


class NightEventReply(Reply):
    """One line of a night's log."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"] = "message"
    data: Any = None


class NightEventList(Reply):
    """A night's log, the newest line first."""

    object: Literal["list"] = "list"
    data: list[NightEventReply]
    has_more: bool


class CheckpointReply(Reply):
    """A stage that a night can be resumed after."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: dict[str, float]
    tenure: dict[str, Any]


class CheckpointList(Reply):
    """A night's finished stages."""

    object: Literal["list"] = "list"
    data: list[CheckpointReply]
    has_more: bool


class HealthReply(Reply):
    """Alive, and with what."""

    status: Literal["ok"] = "ok"
    version: str
    running: int
    capacity: int
    mode: Literal["engine", "proxy"]


class VersionReply(Reply):
    """A version in the registry."""

    digest: str
    created_at: float
    revoked: bool
    parent: str
    aliases: list[str]
    manifest: dict[str, Any]


class VersionDetail(Reply):
    """A version with the data behind it and what is attested about it."""

    object: Literal["version"] = "version"
    version: VersionReply
    lineage: dict[str, Any]
    attestations: list[dict[str, Any]]


class VersionList(Reply):
    """All versions."""

    object: Literal["list"] = "list"
    data: list[VersionReply]


class AliasReply(Reply):
    """Where the aliases point."""

    champion: str | None
    challenger: str | None
    anchor: str | None


class AliasMoveList(Reply):
    """Every move of an alias, oldest first."""

    object: Literal["list"] = "list"
    data: list[dict[str, Any]]


class KeyReply(Reply):
    """An API key, never its token."""

    id: str
    tenant: str
    principal: str
    roles: list[str]
    created_at: float
    revoked: bool


class NewKeyReply(Reply):
    """A fresh key. The token is shown this once."""

    token: str
    tenant: str
    principal: str
    roles: list[str]


class KeyList(Reply):
    """All keys."""

    object: Literal["list"] = "list"
    data: list[KeyReply]


class DeletedReply(Reply):
    """It is gone."""

    id: str
    deleted: Literal[True] = True


class Explanation(Reply):
    """Why a reply said what it said."""

    object: Literal["explanation"] = "explanation"
    data: dict[str, Any]
