"""Words to tokens and back: chat templates, plain text, stop tokens, and text that streams out token by token.

Control tokens are written by the template only: text of users, tools and memories that spells one (`<|im_end|>`) is
encoded as ordinary text. Knows neither weights nor requests; called by the engine, the runtime, gates and the night.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jinja2
from jinja2 import meta
from tokenizers import Tokenizer, pre_tokenizers
from transformers import PreTrainedTokenizerBase

from tenure.errors import InputError
from tenure.model import tools as tool_text
from tenure.types import Message

# For base models without a template of their own: a transcript, as they saw many in pretraining. A base model doesn't
# end its turn with a token, so `ChatFormat.stop_texts` ends it where the next speaker would begin.
FALLBACK_TEMPLATE = (
    "{{ bos_token or '' }}"
    "{% for message in messages %}"
    "{{ {'user': 'User: ', 'assistant': 'Assistant: '}.get(message['role'], '') }}"
    "{{ message['content'] | trim }}{{ '\n\n' if message['role'] == 'system' else '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
FALLBACK_STOPS = ("\nUser:", "\nAssistant:")

# Tokens that end a turn in one family of models or another; a tokenizer names only one of its own as `eos`.
TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>", "<|endoftext|>", "<|end_of_text|>")


PREFIX_LETTERS = 6


class ChatFormat:
    """How one model's conversations are written as tokens.

    `stop_tokens` end a reply; `stop_texts` are further stop strings that only base models without a chat template need.
    `template` is the template text really used, `beginning` the tokens that plain text starts with (Gemma's <bos>).
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, stop_tokens: Iterable[int] = ()) -> None:
        self.tokenizer = tokenizer
        own: Any = tokenizer.chat_template
        named = own if isinstance(own, dict) else {"default": own or FALLBACK_TEMPLATE}
        self.template = str(named.get("default") or next(iter(named.values())))
        self.tool_template = str(named.get("tool_use", self.template))
        self.stop_texts: tuple[str, ...] = () if own else FALLBACK_STOPS
        self.knows_tools = "tools" in _variables(self.tool_template)
        self.knows_system = self._keeps_system()
        self.stop_tokens = frozenset(stop_tokens) | _turn_ends(tokenizer)
        first = tokenizer("")["input_ids"][:1]
        self.beginning: tuple[int, ...] = tuple(first) if first == [tokenizer.bos_token_id] else ()
        self._backend: Tokenizer = tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()
        controls = _control_tokens(tokenizer, self.template + self.tool_template)
        tokenizer.chat_control_tokens = sorted(controls)
        # A few prefixes find them all faster than the thousands of control tokens that some models have.
        self._suspicious = re.compile("|".join(sorted({re.escape(c[:PREFIX_LETTERS]) for c in controls})) or "(?!)")
        kinds = _decoders(tokenizer)
        self.byte_table = _byte_table(tokenizer, kinds)
        self.drops_first_space = any(kind.get("type") == "Strip" and kind.get("start") for kind in kinds)

    def encode(
        self, messages: Sequence[Message], *, tools: Sequence[Mapping[str, Any]] = (), reply: bool = True
    ) -> list[int]:
        """Tokens of a conversation; `reply` adds the header under which the model answers.

        Templates that know tools get them as they are; for others they are written into the system message.
        Raises InputError when there is no message or the template refuses the conversation.
        """
        if not messages:
            raise InputError("the conversation has no messages; send at least one")
        native = self.knows_tools
        spoken = [replace(m, role="system") if m.role == "developer" else m for m in messages]
        if not native:
            spoken = tool_text.with_tools_as_text(spoken, tools)
        if not self.knows_system:
            spoken = _with_system_in_user(spoken)
        return self._apply(spoken, tools if native else (), reply)

    def _apply(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], reply: bool) -> list[int]:
        spoken = [_as_dict(message) for message in messages]
        offers = [dict(tool) for tool in tools] or None
        template = self.tool_template if tools else self.template
        try:
            return self._written(spoken, template, tools=offers, add_generation_prompt=reply)
        except (jinja2.TemplateError, TypeError) as error:
            roles = [message.role for message in messages]
            raise InputError(f"the model's chat template refuses a conversation of roles {roles}: {error}") from error

    def _written(self, spoken: Sequence[Mapping[str, Any]], template: str, **options: Any) -> list[int]:
        """Render and encode; only what looks like holding a control token takes transformers' slow way around it."""
        strict = any(map(self._suspicious.search, _strings([spoken, options])))
        try:
            written: Any = self.tokenizer.apply_chat_template(
                spoken,
                chat_template=template,
                tokenize=strict,
                return_dict=False,
                sanitize_control_tokens=strict,
                **options,
            )
        except ValueError as error:
            raise InputError(f"the text holds a control token that can't be written as text: {error}") from error
        return list(written) if strict else self._encode(written)

    def _encode(self, text: str) -> list[int]:
        return list(self._backend.encode(text, add_special_tokens=False).ids)

    def _keeps_system(self) -> bool:
        mark = "keep-this-instruction"
        try:
            text = self.tokenizer.apply_chat_template(
                [{"role": "system", "content": mark}, {"role": "user", "content": "x"}],
                chat_template=self.template,
                tokenize=False,
            )
        except jinja2.TemplateError:
            return False
        return mark in text

    def encode_text(self, text: str, *, begin: bool = False) -> list[int]:
        """Tokens of plain text without any control token in it; `begin` puts `beginning` first."""
        if self._suspicious.search(text):
            tokens = self._written([{"role": "user", "content": text}], "{{ messages[0]['content'] }}")
        else:
            tokens = self._encode(text)
        return [*self.beginning, *tokens] if begin else tokens

    def decode(self, tokens: Iterable[int]) -> str:
        """Text of tokens, control tokens left out; bytes that are no UTF-8 become U+FFFD."""
        stream = TextStream(self)
        return "".join([*map(stream.push, tokens), stream.flush()])

    def decode_together(self, tokens: Sequence[int]) -> str:
        """Text of tokens by the tokenizer's own decoder, which knows nothing of streams."""
        text: str = self._backend.decode(list(tokens), skip_special_tokens=True)
        return text

    def parse_tool_calls(self, text: str, tools: Sequence[Mapping[str, Any]]) -> tuple[str, tuple[dict[str, Any], ...]]:
        """(content left, OpenAI tool calls) of a reply to a conversation that offered `tools`; see `tools.py`."""
        return tool_text.parse_tool_calls(text, tool_text.tool_names(tools))


class TextStream:
    """Text of a reply, token by token; holds back a character until all its bytes are there.

    The pieces of `push` and the last `flush` joined equal `ChatFormat.decode` of the same tokens.
    """

    def __init__(self, chat: ChatFormat) -> None:
        self._chat = chat
        self._bytes = codecs.getincrementaldecoder("utf8")("replace")
        self._at_start = chat.drops_first_space
        self._before: list[int] = []

    def push(self, token: int) -> str:
        """The new text that `token` completes; often one word, sometimes nothing."""
        table = self._chat.byte_table
        if table is None:
            return self._push_by_decoding(token)
        text = self._bytes.decode(table[token]) if token < len(table) else ""
        if self._at_start and text:
            self._at_start = False
            return text.removeprefix(" ")
        return text

    def _push_by_decoding(self, token: int) -> str:
        """For tokenizers whose tokens have no bytes of their own: what a token reads as depends on the one before."""
        told = self._chat.decode_together(self._before)
        text = self._chat.decode_together([*self._before, token])
        self._before = [token]
        return text.removeprefix(told)

    def flush(self) -> str:
        """What is still held back: U+FFFD for a character that never became whole."""
        return self._bytes.decode(b"", final=True)


def _variables(template: str) -> set[str]:
    environment = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"])
    try:
        return meta.find_undeclared_variables(environment.parse(template))
    except jinja2.TemplateSyntaxError:  # a tag that only transformers knows, such as {% generation %}
        return {"tools"} if "tools" in template else set()


def _control_tokens(tokenizer: PreTrainedTokenizerBase, template: str) -> set[str]:
    """The special tokens, and the added ones in brackets that the template writes (Gemma adds mere newlines too)."""
    added = tokenizer.added_tokens_decoder.values()
    return {t.content for t in added if t.special or (t.content[:1] in "<[" and t.content in template)}


def _strings(value: Any) -> Iterator[str]:
    """Every string in nested lists and mappings, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _strings(inner)


def _turn_ends(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    special = {token.content: i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    ends = {special[name] for name in TURN_ENDS if name in special}
    return frozenset(ends if tokenizer.eos_token_id is None else ends | {tokenizer.eos_token_id})


def _with_system_in_user(messages: Sequence[Message]) -> list[Message]:
    """System messages joined and put before the first user message, for templates that have no place for them."""
    system = "\n\n".join(m.content for m in messages if m.role == "system")
    spoken = [m for m in messages if m.role != "system"]
    if not system:
        return spoken
    if spoken and spoken[0].role == "user":
        return [Message("user", f"{system}\n\n{spoken[0].content}", name=spoken[0].name), *spoken[1:]]
    return [Message("user", system), *spoken]


def _as_dict(message: Message) -> dict[str, Any]:
    spoken: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.name:
        spoken["name"] = message.name
    if message.tool_call_id:
        spoken["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        spoken["tool_calls"] = [_call_for_template(call) for call in message.tool_calls]
    return spoken


def _call_for_template(call: Mapping[str, Any]) -> dict[str, Any]:
    """Templates want arguments as an object; the wire carries them as a string."""
    function = call.get("function", call)
    return {**call, "function": {**function, "arguments": tool_text.call_arguments(function)}}


def _decoders(tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """The steps of the tokenizer's decoder, as its file describes them."""
    decoder = tokenizer.backend_tokenizer.decoder
    described = json.loads(decoder.__getstate__()) if decoder is not None else {}
    return list(described.get("decoders", [described]))


def _byte_table(tokenizer: PreTrainedTokenizerBase, kinds: Sequence[Mapping[str, Any]]) -> tuple[bytes, ...] | None:
    """The bytes of every token (special tokens: none), or None for a kind of tokenizer where tokens have none.

    Byte-level tokenizers write bytes in GPT-2's letters; those with byte fallback write words with U+2581 for a space,
    and <0xNN> for single bytes.
    """
    names = {kind.get("type") for kind in kinds}
    if "ByteLevel" in names:
        byte_of = _byte_alphabet()
    elif "ByteFallback" in names:
        byte_of = {f"<0x{byte:02X}>": byte for byte in range(256)}
    else:
        return None
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    words = tokenizer.get_vocab()
    table = [b""] * (max(words.values()) + 1)
    for word, i in words.items():
        if i not in special:
            table[i] = _bytes_of(word, byte_of, by_letter="ByteLevel" in names)
    return tuple(table)


def _bytes_of(word: str, byte_of: Mapping[str, int], *, by_letter: bool) -> bytes:
    if not by_letter:
        return bytes([byte_of[word]]) if word in byte_of else word.replace("\u2581", " ").encode("utf8")
    known = all(letter in byte_of for letter in word)
    return bytes(byte_of[letter] for letter in word) if known else word.encode("utf8")


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's letters for bytes: printable Latin-1 stands for itself, the rest follows from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    shifted = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(shifted)}
    assert set(byte_of) == set(pre_tokenizers.ByteLevel.alphabet())
    return byte_of
