"""Context: the seam between a request and what is remembered. First cut: verbatim statements found by BM25.

`notice` says what of a turn to keep; `recall` chooses memories for a request and writes them into its messages.
Neither calls a model. The runtime calls both; the store only keeps and searches.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tenure.config import ContextConfig
from tenure.context.notes import written_in
from tenure.context.notice import is_correction, likeness, replaces, statements
from tenure.context.terms import content_terms, coverage, telling
from tenure.store.memories import Memories
from tenure.types import Feedback, Memory, MemoryKind, Message, Scope, Turn

CountTokens = Callable[[Sequence[Message]], int]
NUM_CANDIDATES = 24
NEAR_BEST = 0.8  # share of the best score that a further memory must reach
SHORT_QUESTION_TERMS = 3


@dataclass(frozen=True, slots=True)
class Noticed:
    """New memories, and (old id, new id) of those that a new one supersedes."""

    memories: tuple[Memory, ...]
    superseded: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Recall:
    """The memories chosen for a request, and its messages with them written in."""

    memories: tuple[Memory, ...]
    messages: tuple[Message, ...]


class Context:
    """Layer 1 over one store."""

    def __init__(self, memories: Memories, settings: ContextConfig) -> None:
        self._memories = memories
        self._settings = settings

    def notice(self, turn: Turn) -> Noticed:
        """What a turn's last user message tells, and which earlier memories of the same scope it replaces."""
        if not turn.learnable:
            return Noticed((), ())
        said = next((m.content for m in reversed(turn.messages) if m.role == "user"), "")
        return self._keep(statements(said), turn.id, turn.scope, turn.created_at)

    def notice_feedback(self, feedback: Feedback) -> Noticed:
        """A worded correction or demonstration is remembered like a statement."""
        texts = statements(feedback.text) or ((feedback.text,) if feedback.text.strip() else ())
        return self._keep(texts, feedback.id, feedback.scope, feedback.created_at)

    def _keep(self, texts: Sequence[str], source_id: str, scope: Scope, at: float) -> Noticed:
        kept, superseded = [], []
        for text in texts:
            memory = Memory(
                id=f"mem_{uuid.uuid4().hex}",
                scope=scope,
                kind=MemoryKind.FACT,
                text=text,
                source_ids=(source_id,),
                recorded_at=at,
                valid_from=at,
            )
            kept.append(memory)
            superseded += [(old.id, memory.id) for old in self._replaced(text, scope)]
        return Noticed(tuple(kept), tuple(superseded))

    def _replaced(self, text: str, scope: Scope) -> list[Memory]:
        """The memories that a new statement replaces; an announced correction takes the one that it is likest to."""
        found = self._memories.search(text, scope, limit=NUM_CANDIDATES)
        if not found or not is_correction(text):
            return [old for old in found if replaces(text, old.text)]
        likest = max(found, key=lambda old: (likeness(text, old.text), old.recorded_at))
        return [likest] if likeness(text, likest.text) > 0 else []

    def recall(
        self,
        scope: Scope,
        messages: Sequence[Message],
        *,
        count_tokens: CountTokens,
        room_tokens: int,
        examples: bool = True,
    ) -> Recall:
        """Choose memories for the last user message and write them in front of it.

        `examples`: show how such notes are used; a model that was taught to read them doesn't need it.

        `count_tokens` says how many tokens messages take in the model's own format; `room_tokens` is what the window
        leaves for prompt and memories together. Where there is no room for the worked examples they are left out, where
        there is none for a memory it is.
        """
        query = _query(messages)
        wanted = content_terms(query)
        chosen: list[Memory] = []
        for memory in self._ranked(wanted, query, scope):
            if len(chosen) == self._settings.max_memories:
                break
            # The best one stands nearest to the question.
            if self._fits([memory, *chosen], messages, count_tokens, room_tokens):
                chosen.insert(0, memory)
        shown = examples and count_tokens(written_in(messages, chosen)) <= room_tokens
        return Recall(tuple(chosen), written_in(messages, chosen, examples=shown))

    def _fits(
        self, chosen: Sequence[Memory], messages: Sequence[Message], count_tokens: CountTokens, room_tokens: int
    ) -> bool:
        bare, noted = count_tokens(messages), count_tokens(written_in(messages, chosen, examples=False))
        return noted <= room_tokens and noted - bare <= self._settings.max_tokens

    def _ranked(self, wanted: dict[str, float], query: str, scope: Scope) -> list[Memory]:
        found = self._memories.search(query, scope, limit=NUM_CANDIDATES) if wanted else ()
        texts = {memory.id: content_terms(memory.text) for memory in found}
        near = [m for m in found if coverage(wanted, texts[m.id]) >= self._settings.min_score]
        weights = telling(wanted, list(texts.values()))
        scored = [replace(m, score=coverage(weights, texts[m.id])) for m in near]
        floor = NEAR_BEST * max((m.score for m in scored), default=0.0)
        return sorted((m for m in scored if m.score >= floor), key=lambda m: (-m.score, -m.recorded_at))


def _query(messages: Sequence[Message]) -> str:
    """The last user message; with the one before it when it says too little on its own ("And its code?")."""
    said = [m.content for m in messages if m.role == "user"]
    if len(said) > 1 and len(content_terms(said[-1])) < SHORT_QUESTION_TERMS:
        return f"{said[-2]} {said[-1]}"
    return said[-1] if said else ""
