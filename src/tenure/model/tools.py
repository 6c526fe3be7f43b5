"""Tools as text: how offers, calls and results are written for a model, and how its calls are read back.

The convention is Hermes' (also Qwen's): offers are JSON lines inside <tools>, a call is a JSON object inside
<tool_call>, a result is text inside <tool_response>. Knows no tokenizer; called by `chat.py`.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tenure.types import Message

OFFER = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{offers}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""

TAGGED = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)
FENCED = re.compile(r"```(?:json|tool_call|tool_code)?[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)


def tool_names(tools: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Names of the offered functions (OpenAI's `{"type": "function", "function": {"name": ...}}`, or bare)."""
    return frozenset(str(tool.get("function", tool).get("name", "")) for tool in tools) - {""}


def with_tools_as_text(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> list[Message]:
    """The same conversation for a template that knows no tools.

    Offers go to the end of the system message (one is made when there is none), calls become <tool_call> text of the
    assistant, and results of consecutive tool messages become one user message of <tool_response> blocks.
    """
    written: list[Message] = []
    after_tool = False
    for message in messages:
        if message.role == "tool":
            block = f"<tool_response>\n{message.content}\n</tool_response>"
            if after_tool:
                written[-1] = Message("user", f"{written[-1].content}\n{block}")
            else:
                written.append(Message("user", block))
        elif message.tool_calls:
            calls = [f"<tool_call>\n{_call_as_json(call)}\n</tool_call>" for call in message.tool_calls]
            written.append(Message(message.role, "\n".join([*filter(None, [message.content]), *calls])))
        else:
            written.append(message)
        after_tool = message.role == "tool"
    return _with_offers(written, tools) if tools else written


def _with_offers(messages: list[Message], tools: Sequence[Mapping[str, Any]]) -> list[Message]:
    offers = OFFER.format(offers="\n".join(json.dumps(dict(tool), ensure_ascii=False) for tool in tools))
    if messages and messages[0].role == "system":
        return [Message("system", f"{messages[0].content}\n\n{offers}"), *messages[1:]]
    return [Message("system", f"You are a helpful assistant.\n\n{offers}"), *messages]


def _call_as_json(call: Mapping[str, Any]) -> str:
    function = call.get("function", call)
    return json.dumps({"name": function.get("name"), "arguments": call_arguments(function)}, ensure_ascii=False)


def call_arguments(function: Mapping[str, Any]) -> Any:
    """Arguments of a wire call as an object where they are valid JSON, else the string as it came."""
    arguments = function.get("arguments", {})
    if not isinstance(arguments, str):
        return arguments
    try:
        return _strict_json(arguments)
    except (ValueError, RecursionError):
        return arguments


def parse_tool_calls(text: str, names: Collection[str]) -> tuple[str, tuple[dict[str, Any], ...]]:
    """(content left, calls in OpenAI's shape) of a reply.

    Read are <tool_call> blocks (the last may lack its end), fenced JSON, and a reply that is nothing but JSON: an
    object or array of objects with `name` and `arguments` (or `parameters`). A block with malformed JSON, or with a
    name that was not offered, stays content as it is.
    """
    if not names:
        return text, ()
    whole = _calls_in(text.strip(), names)
    if whole:
        return "", whole
    calls: list[dict[str, Any]] = []

    def take(match: re.Match[str]) -> str:
        found = _calls_in(match.group(1), names)
        calls.extend(found)
        return "" if found else match.group(0)

    left = TAGGED.sub(take, text)
    if not calls:
        left = FENCED.sub(take, text)
    return (left.strip(), tuple(calls)) if calls else (text, ())


def _calls_in(text: str, names: Collection[str]) -> tuple[dict[str, Any], ...]:
    """The calls that `text` consists of; nothing unless every part of it is a call of an offered name."""
    try:
        value = _strict_json(text)
    except (ValueError, RecursionError):
        return ()
    calls = [_wire_call(item, names) for item in (value if isinstance(value, list) else [value])]
    return tuple(call for call in calls if call) if all(calls) else ()


def _wire_call(value: Any, names: Collection[str]) -> dict[str, Any] | None:
    name = value.get("name") if isinstance(value, dict) else None
    if not isinstance(name, str) or name not in names:
        return None
    arguments = call_arguments({"arguments": value.get("arguments", value.get("parameters"))})
    if not isinstance(arguments, dict):
        return None
    function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
    return {"id": f"call_{secrets.token_hex(12)}", "type": "function", "function": function}


def _strict_json(text: str) -> Any:
    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)
