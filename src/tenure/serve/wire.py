"""What clients send, in OpenAI's form: strict about types, tolerant of fields that nobody here knows.

Knows pydantic and nothing of the runtime; every route declares its body with one of these classes, so that the OpenAPI
schema says what is true. What is well-formed but can't be served (images, n > 1) is refused in `asked.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

MAX_DEPTH = 64
INT64 = 2**63

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._@-]{1,64}$")]
Label = Annotated[str, StringConstraints(min_length=1, max_length=256)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]
Metadata = Annotated[dict[Annotated[str, StringConstraints(max_length=64)], MetadataValue], Field(max_length=16)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=256)]


def check_json(value: Any) -> None:
    """Refuse JSON that is too deep to walk or holds text that isn't Unicode (a lone half of a surrogate pair).

    Raises ValueError, which pydantic turns into a validation error.
    """
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += item.keys()
                below += item.values()
            elif isinstance(item, list):
                below += item
            elif isinstance(item, str) and not item.isascii():
                item.encode("utf8")  # UnicodeEncodeError is a ValueError
        if not below:
            return
        level = below
    raise ValueError(f"nested deeper than {MAX_DEPTH} levels")


class Wire(BaseModel):
    """A JSON object as it comes over the wire."""

    model_config = ConfigDict(strict=True, extra="ignore", protected_namespaces=())


class Body(Wire):
    """A whole request body."""

    @model_validator(mode="before")
    @classmethod
    def _sound(cls, value: Any) -> Any:
        check_json(value)
        return value


class ContentPart(Wire):
    """One part of a message's content. Only text can be read; other kinds are refused by name."""

    type: str
    text: str | None = None
    refusal: str | None = None


class CalledFunction(Wire):
    """A function that the model called, its arguments as a JSON string."""

    name: str
    arguments: str = "{}"


class ToolCall(Wire):
    """A tool call of an assistant message."""

    id: str = ""
    type: Literal["function"] = "function"
    function: CalledFunction


class ChatMessage(Wire):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class Function(Wire):
    """A function that the model may call; `parameters` is a JSON schema."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Wire):
    """A tool offered to the model."""

    type: Literal["function"]
    function: Function


class ChosenFunction(Wire):
    """The name inside a forced tool choice."""

    name: str


class ToolChoice(Wire):
    """`tool_choice` that forces one function."""

    type: Literal["function"]
    function: ChosenFunction


class JsonSchema(Wire):
    """The named schema of `response_format`."""

    name: str = "reply"
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class ResponseFormat(Wire):
    """How the reply must look."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(Wire):
    """Options of a stream."""

    include_usage: bool | None = None


class Generation(Body):
    """What chat and plain completions have in common."""

    model: str = "champion"
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    seed: Annotated[int, Field(ge=-INT64, lt=INT64)] | None = None
    max_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    logit_bias: dict[str, float] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, StringConstraints(max_length=256)] | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    memory: bool | None = None


class ChatBody(Generation):
    """POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    functions: list[Any] | None = None


class CompletionBody(Generation):
    """POST /v1/completions. A prompt is text or a list with one text; token ids are refused by name."""

    prompt: str | list[str] | list[int] | list[list[int]]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: Annotated[int, Field(ge=1, le=20)] | None = None


class FeedbackBody(Body):
    """POST /v1/feedback. Names a reply by `response_id`, or a `session`."""

    kind: Literal["score", "correction", "comment", "demonstration", "outcome"]
    response_id: Label | None = None
    session: Label | None = None
    score: Annotated[float, Field(ge=-1, le=1)] | None = None
    text: str | None = None
    user: Annotated[str, StringConstraints(max_length=256)] | None = None
    source: Annotated[str, StringConstraints(max_length=64)] | None = None


class NightBody(Body):
    """POST /v1/fine_tuning/jobs: start a night. What it learns from is the ledger, so `training_file` says "ledger"."""

    model: str = "champion"
    training_file: str = "ledger"
    seed: Annotated[int, Field(ge=0, lt=2**31)] | None = None
    learner: Label | None = None
    budget_seconds: Annotated[float, Field(gt=0, le=604800)] | None = None
    propose: bool | None = None


class DigestBody(Body):
    """A version named by its digest (or eight and more digits of it)."""

    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8,64}$")]


class RevokeBody(DigestBody):
    """POST /v1/admin/revoke."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=2000)]


class KeyBody(Body):
    """POST /v1/admin/keys."""

    tenant: Name
    principal: Name
    roles: Annotated[list[Literal["chat", "feedback", "admin"]], Field(min_length=1, max_length=3)] = [
        "chat",
        "feedback",
    ]


def plain(value: Wire) -> Mapping[str, Any]:
    """The object as JSON, without the fields that the client left out."""
    return value.model_dump(exclude_none=True, by_alias=True)
