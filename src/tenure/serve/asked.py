"""From what was asked (`wire.py`) to what the runtime is called with: the one place where a request is understood.

Refuses, with the field's name, what is well-formed but can't be served. Knows no HTTP route; called by `chat.py`,
`completions.py` and `proxy.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request
from jsonschema.exceptions import SchemaError
from jsonschema.validators import Draft202012Validator, validator_for

from tenure.config import ServerConfig
from tenure.conversation import ChatCall
from tenure.errors import InputError
from tenure.model.requests import Sampling
from tenure.serve import wire
from tenure.types import Message, Principal, Scope

MAX_HEADER = 256
BLANKS = r"(\n[ ]{0,8}| )?"  # a line break with an indent, or one blank: how models like to write JSON
SESSION_HEADER = "x-session-id"


class Unfit(InputError):
    """A field that can't be served; `param` names it."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(f"{param}: {message}")
        self.param = param


def scope_of(principal: Principal, user: str | None) -> Scope:
    """Whose experience this is. The client's `user` only divides the principal's own scope."""
    return Scope(principal.tenant, principal.name, user or "")


def header(request: Request, name: str) -> str | None:
    """A header's value, None when absent or empty. Raises Unfit when it is too long or not printable."""
    value = request.headers.get(name, "").strip()
    if not value:
        return None
    if len(value) > MAX_HEADER or not (value.isascii() and value.isprintable()):
        raise Unfit(name, f"must be at most {MAX_HEADER} printable ASCII characters")
    return value


def memory_wanted(request: Request, body: wire.Generation) -> bool:
    """Whether ledger and memory text may enter the prompt: off when the body or the header says so."""
    said = (request.headers.get("x-tenure-memory") or "on").strip().lower()
    if said not in {"on", "off"}:
        raise Unfit("X-Tenure-Memory", f"is {said!a}; it is on or off")
    return said == "on" and body.memory is not False


def messages_of(body: wire.ChatBody) -> tuple[Message, ...]:
    """The conversation as the house writes it."""
    return tuple(_message(message, f"messages.{i}") for i, message in enumerate(body.messages))


def _message(message: wire.ChatMessage, where: str) -> Message:
    role = {"developer": "system", "function": "tool"}.get(message.role, message.role)
    calls = tuple(dict(wire.plain(call)) for call in message.tool_calls or ())
    content = _text(message.content, f"{where}.content")
    if not content and not calls and role in {"user", "system"}:
        raise Unfit(f"{where}.content", f"a {message.role} message must say something; leave it out or give text")
    return Message(role, content, message.name, calls, message.tool_call_id)


def _text(content: str | Sequence[wire.ContentPart] | None, where: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for i, part in enumerate(content):
        text = part.text if part.type == "text" else part.refusal if part.type == "refusal" else None
        if text is None:
            raise Unfit(f"{where}.{i}", f"a part of type {part.type!a} can't be read: send parts of type 'text' only")
        texts.append(text)
    return "\n".join(texts)


def check_supported(body: wire.Generation) -> None:
    """Refuse what would otherwise be ignored in silence. Raises Unfit."""
    if (body.n or 1) > 1:
        raise Unfit("n", f"is {body.n}; a reply is one turn that feedback can name, so send the request {body.n} times")
    for name in ("frequency_penalty", "presence_penalty"):
        if getattr(body, name):
            raise Unfit(name, "isn't supported; leave it out or send 0")
    if body.logit_bias:
        raise Unfit("logit_bias", "isn't supported; leave it out")
    if body.stream_options and not body.stream:
        raise Unfit("stream_options", "is only understood together with stream: true")


def sampling_of(body: wire.Generation, server: ServerConfig, *, logprobs: int | None, schema: Any = None) -> Sampling:
    """How to sample. Greedy unless a temperature is named; `top_p` 0 means greedy as well."""
    named = body.max_tokens
    if isinstance(body, wire.ChatBody):
        named = body.max_completion_tokens or named
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    greedy = body.top_p == 0
    return Sampling(
        max_tokens=named or server.max_tokens,
        temperature=0.0 if greedy else body.temperature or 0.0,
        top_p=1.0 if greedy or body.top_p is None else body.top_p,
        seed=body.seed,
        stop=stop,
        logprobs=logprobs,
        schema=schema,
    )


def chat_call(request: Request, body: wire.ChatBody, principal: Principal, server: ServerConfig) -> ChatCall:
    """POST /v1/chat/completions as a call of the runtime. Raises InputError for what can't be served."""
    check_supported(body)
    if body.functions:
        raise Unfit("functions", "is the old form; send the same functions as tools")
    if body.top_logprobs is not None and not body.logprobs:
        raise Unfit("top_logprobs", "needs logprobs: true")
    tools, forced = tools_of(body)
    asked = schema_of(body.response_format)
    if asked is not None and forced is not None:
        raise Unfit("response_format", "can't be kept together with a forced tool call; use one of the two")
    schema = bounded(forced if forced is not None else asked)
    return ChatCall(
        messages=messages_of(body),
        scope=scope_of(principal, body.user),
        roles=principal.roles,
        sampling=sampling_of(body, server, logprobs=(body.top_logprobs or 0) if body.logprobs else None, schema=schema),
        model=body.model,
        session=header(request, SESSION_HEADER),
        memory=memory_wanted(request, body),
        learnable=body.store is not False,
        metadata=body.metadata or {},
        tools=tools,
        idempotency_key=idempotency_key(request),
    )


def completion_call(
    request: Request, body: wire.CompletionBody, principal: Principal, server: ServerConfig
) -> ChatCall:
    """POST /v1/completions as a call of the runtime. Raises InputError for what can't be served."""
    check_supported(body)
    if body.echo or body.suffix or (body.best_of or 1) > 1:
        raise Unfit("echo, suffix, best_of", "aren't supported; leave them out")
    prompt = prompt_of(body)
    return ChatCall(
        messages=(Message("user", prompt),),
        scope=scope_of(principal, body.user),
        roles=principal.roles,
        sampling=sampling_of(body, server, logprobs=body.logprobs),
        model=body.model,
        session=header(request, SESSION_HEADER),
        memory=memory_wanted(request, body),
        learnable=body.store is True,  # a raw prompt is nobody telling something, unless the asker says so,
        metadata=body.metadata or {},
        idempotency_key=idempotency_key(request),
        raw_prompt=prompt,
    )


def prompt_of(body: wire.CompletionBody) -> str:
    """The text to continue. Raises Unfit for none, several, or token ids."""
    prompt = body.prompt[0] if isinstance(body.prompt, list) and len(body.prompt) == 1 else body.prompt
    if not isinstance(prompt, str) or not prompt:
        raise Unfit("prompt", "must be one text that isn't empty; send several prompts or token ids one by one as text")
    return prompt


def idempotency_key(request: Request) -> str:
    """The client's Idempotency-Key, "" when absent."""
    return header(request, "idempotency-key") or ""


def schema_of(form: wire.ResponseFormat | None) -> Mapping[str, Any] | None:
    """The JSON schema that the reply must satisfy, None for free text. Raises Unfit for a schema that is none."""
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return {"type": "object"}
    if form.json_schema is None:
        raise Unfit("response_format.json_schema", "is missing; type json_schema needs it")
    schema = form.json_schema.schema_
    return {"type": "object"} if schema is None else check_schema(schema, "response_format.json_schema.schema")


def bounded(schema: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The schema with short white space (llguidance's extension): a small model may else write blanks without end."""
    if schema is None:
        return None
    return {**schema, "x-guidance": {"whitespace_pattern": BLANKS}}


def check_schema(schema: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """The schema itself if it is a valid JSON schema. Raises Unfit."""
    try:
        validator_for(schema, default=Draft202012Validator).check_schema(dict(schema))
    except SchemaError as error:
        raise Unfit(where, f"is not a valid JSON schema: {error.message[:200]}") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise Unfit(where, "is not a valid JSON schema") from error
    return schema


def tools_of(body: wire.ChatBody) -> tuple[tuple[Mapping[str, Any], ...], Mapping[str, Any] | None]:
    """(offered tools, schema that forces a call or None).

    `none` offers nothing; `required` and a named function constrain the reply to be a call, which the model's tool
    parser then reads back.
    """
    tools = list(body.tools or ())
    choice = body.tool_choice
    forced = isinstance(choice, wire.ToolChoice) or choice == "required"
    if not tools:
        if forced:
            raise Unfit("tool_choice", "forces a tool, but no tools are offered")
        return (), None
    if choice == "none":
        return (), None
    for i, tool in enumerate(tools):
        check_schema(tool.function.parameters or {}, f"tools.{i}.function.parameters")
    offered = tuple(wire.plain(tool) for tool in tools)
    if isinstance(choice, wire.ToolChoice):
        tools = [tool for tool in tools if tool.function.name == choice.function.name]
        if not tools:
            raise Unfit("tool_choice", f"names {choice.function.name!a}, which is not among the tools")
    return offered, call_schema(tools) if forced else None


def call_schema(tools: Sequence[wire.Tool]) -> Mapping[str, Any]:
    """A schema that only a call of one of `tools` satisfies: {"name": ..., "arguments": ...}.

    Definitions move to the root, where the references in the parameters look for them.
    """
    definitions: dict[str, Any] = {}
    calls = []
    for tool in tools:
        parameters = dict(tool.function.parameters or {"type": "object"})
        for keyword in ("$defs", "definitions"):
            for name, schema in parameters.pop(keyword, {}).items():
                kept = definitions.setdefault(keyword, {}).setdefault(name, schema)
                if json.dumps(kept, sort_keys=True) != json.dumps(schema, sort_keys=True):
                    raise Unfit("tools", f"two tools define {keyword}/{name} differently; give them different names")
        parameters.setdefault("type", "object")
        properties = {"name": {"const": tool.function.name}, "arguments": parameters}
        calls.append(
            {
                "type": "object",
                "properties": properties,
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        )
    return {**(calls[0] if len(calls) == 1 else {"anyOf": calls}), **definitions}
