"""Asking a runtime as its users do, in batches: what was answered, by what, and how much of it is right.

Called by the demo and the loop benchmark. Nothing asked here is ever learned from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tenure.gates.marking import is_right
from tenure.model.requests import Sampling
from tenure.runtime import ChatCall, Runtime
from tenure.types import Message, QuestionItem, Scope

BATCH = 16
ANSWER_TOKENS = 40


@dataclass(frozen=True, slots=True)
class Said:
    """One reply: its text, and the effective digest of what gave it."""

    text: str
    effective: str
    memory_ids: tuple[str, ...]


def ask(
    runtime: Runtime,
    prompts: Sequence[tuple[Message, ...]],
    scope: Scope,
    *,
    model: str = "champion",
    memory: bool = False,
    max_tokens: int = ANSWER_TOKENS,
) -> list[Said]:
    """Greedy replies, sixteen prompts at a time; each prompt is a session of its own."""
    said = []
    for start in range(0, len(prompts), BATCH):
        replies = [
            runtime.chat(
                ChatCall(
                    messages=messages,
                    scope=scope,
                    sampling=Sampling(max_tokens=max_tokens),
                    model=model,
                    session=f"exam-{start + i}",
                    memory=memory,
                    learnable=False,
                )
            )
            for i, messages in enumerate(prompts[start : start + BATCH])
        ]
        said += [Said(r.result().message.content, r.effective, r.memory_ids) for r in replies]
    return said


def marks(items: Sequence[QuestionItem], said: Sequence[Said]) -> list[bool]:
    """Which answers are right."""
    return [is_right(s.text, item.accepted, item.rejected) for item, s in zip(items, said, strict=True)]


def share(values: Sequence[bool]) -> float:
    """The mean of a list of truths; 0 for none."""
    return sum(values) / len(values) if values else 0.0


def tell(runtime: Runtime, texts: Sequence[str], scope: Scope, *, max_tokens: int = 12) -> list[str]:
    """Say each text in a chat of its own, to be kept and learned from; returns the ids of the replies."""
    ids = []
    for number, text in enumerate(texts):
        call = ChatCall(
            (Message("user", text),), scope, sampling=Sampling(max_tokens=max_tokens), session=f"told-{number}"
        )
        reply = runtime.chat(call)
        reply.result()
        ids.append(reply.id)
    return ids
