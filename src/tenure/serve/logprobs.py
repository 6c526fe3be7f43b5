"""Log-probabilities of a reply's tokens in the two forms that OpenAI's clients know.

Knows the tokenizer only through `ChatFormat`; called by `chat.py` and `completions.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from tenure.model.chat import ChatFormat
from tenure.model.requests import TokenEvent
from tenure.serve.replies import Logprobs, OldLogprobs, TokenLogprob, TopLogprob

LEAST = -9999.0  # OpenAI's number for a token that can't come; JSON has no minus infinity


def spell(chat: ChatFormat, token: int) -> tuple[str, list[int] | None]:
    """(text, bytes) of one token; special tokens show as their name."""
    table = chat.byte_table
    if table is not None and token < len(table) and table[token]:
        return table[token].decode("utf8", "replace"), list(table[token])
    text = chat.decode([token]) or str(chat.tokenizer.convert_ids_to_tokens(token))
    return text, list(text.encode("utf8"))


def spoken(chat: ChatFormat, events: Sequence[TokenEvent]) -> list[TokenEvent]:
    """The events that are part of the text: without the stop token, and without a stored reply's one event."""
    return [event for event in events if event.token >= 0 and event.token not in chat.stop_tokens]


def _top(chat: ChatFormat, token: int, logprob: float | None) -> TopLogprob:
    text, raw = spell(chat, token)
    return TopLogprob(token=text, bytes=raw, logprob=max(LEAST, logprob if logprob is not None else LEAST))


def chat_logprobs(chat: ChatFormat, events: Sequence[TokenEvent]) -> Logprobs:
    """`choices[0].logprobs` of a chat completion."""
    content = []
    for event in spoken(chat, events):
        said = _top(chat, event.token, event.logprob)
        others = [_top(chat, token, logprob) for token, logprob in event.top]
        content.append(TokenLogprob(token=said.token, bytes=said.bytes, logprob=said.logprob, top_logprobs=others))
    return Logprobs(content=content)


def old_logprobs(chat: ChatFormat, events: Sequence[TokenEvent], *, offset: int) -> OldLogprobs:
    """`choices[0].logprobs` of a plain completion. `offset`: characters of the prompt and of what came before."""
    tokens, logprobs, tops, offsets = [], [], [], []
    for event in spoken(chat, events):
        said = _top(chat, event.token, event.logprob)
        tokens.append(said.token)
        logprobs.append(said.logprob)
        tops.append({top.token: top.logprob for top in (_top(chat, t, p) for t, p in event.top)})
        offsets.append(offset)
        offset += len(said.token)
    return OldLogprobs(tokens=tokens, token_logprobs=list(logprobs), top_logprobs=tops, text_offset=offsets)
