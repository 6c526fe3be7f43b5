"""Replies that must satisfy a JSON schema: which tokens may come next (llguidance).

Knows no model; called when a request is submitted and at each of its tokens.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

import llguidance.hf
import llguidance.torch
import torch
from llguidance import LLMatcher
from torch import Tensor

from tenure.errors import InputError
from tenure.model.chat import ChatFormat


class Grammars:
    """Makes constraints for one tokenizer; its table is built at the first use (about a second)."""

    def __init__(self, chat: ChatFormat, vocab_size: int) -> None:
        self._chat = chat
        self._vocab_size = vocab_size
        self._tokenizer: Any = None
        self._lock = threading.Lock()

    def constraint(self, schema: Mapping[str, Any]) -> Constraint:
        """A fresh constraint. Raises InputError for a schema that can't be used."""
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer = llguidance.hf.from_tokenizer(
                    self._chat.tokenizer, n_vocab=self._vocab_size, eos_token=sorted(self._chat.stop_tokens) or None
                )
        try:
            grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema))
        except (ValueError, TypeError) as error:
            raise InputError(f"the JSON schema can't be read: {error}; send a JSON Schema object") from error
        problem = LLMatcher.validate_grammar(grammar, self._tokenizer)
        if problem and not problem.startswith("WARNING"):
            raise InputError(f"the JSON schema can't be used: {problem}; leave out what isn't supported")
        return Constraint(LLMatcher(self._tokenizer, grammar, log_level=0), self._vocab_size)


class Constraint:
    """Where one reply stands in its grammar."""

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        self._matcher = matcher
        self._bits_1W = llguidance.torch.allocate_token_bitmask(1, vocab_size)
        self._vocab_size = vocab_size

    def allow(self, logits_V: Tensor) -> Tensor:
        """The logits with minus infinity at every token that may not come next.

        Raises InputError when the grammar gave up (it became too complex).
        """
        if self._matcher.is_error():
            raise InputError(f"the JSON schema can't be followed: {self._matcher.get_error()}; simplify it")
        llguidance.torch.fill_next_token_bitmask(self._matcher, self._bits_1W, 0)
        bits = (self._bits_1W[0][:, None] >> torch.arange(32, dtype=torch.int32)) & 1
        allowed_V = bits.reshape(-1)[: self._vocab_size].bool()
        return logits_V.masked_fill(~allowed_V, float("-inf"))

    def take(self, token: int) -> None:
        """The reply goes on with `token`."""
        self._matcher.consume_token(token)

    @property
    def complete(self) -> bool:
        """Whether nothing may follow."""
        return bool(self._matcher.is_stopped())
