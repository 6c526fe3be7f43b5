"""How memories are written into a prompt: as the context of the question, after two worked examples of using one.

The form was measured on SmolLM2-135M (LOG.md, "how to hand over a note"): a bare note in front of the question is
ignored by a third of the replies, in the system message by half; with two examples nine in ten use it. The examples are
constant text, so the engine's prefix cache computes them once. A base with the skill of reading is shown none. Called
by `recall`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tenure.context.lead_ins import without_lead_in
from tenure.types import Memory, Message

_EXAMPLES = (
    ("Our printer on the third floor is called Bertha.", "Which floor is Bertha on?", "Bertha is on the third floor."),
    (
        "The van's spare key hangs behind the blue door.",
        "I want to drive the van. Where do I get a key?",
        "The spare key of the van hangs behind the blue door.",
    ),
)


def _asked(context: str, question: str) -> str:
    return f"Context: {context}\n\nQuestion: {question}\nAnswer briefly, using the context."


EXAMPLE_MESSAGES = tuple(
    message
    for context, question, answer in _EXAMPLES
    for message in (Message("user", _asked(context, question)), Message("assistant", answer))
)


def written_in(
    messages: Sequence[Message], memories: Sequence[Memory], *, examples: bool = True
) -> tuple[Message, ...]:
    """The messages with the memories as the context of the last user message; unchanged when there are none."""
    if not memories:
        return tuple(messages)
    last = max(i for i, m in enumerate(messages) if m.role == "user")
    start = next((i for i, m in enumerate(messages) if m.role not in ("system", "developer")), 0)
    context = " ".join(without_lead_in(memory.text) for memory in memories)
    asked = replace(messages[last], content=_asked(context, messages[last].content))
    shown = EXAMPLE_MESSAGES if examples else ()
    return (*messages[:start], *shown, *messages[start:last], asked, *messages[last + 1 :])
