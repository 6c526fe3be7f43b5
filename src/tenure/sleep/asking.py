"""The skill of asking: an adapter that makes the base write the questions people ask about a statement.

Without it a small base writes one usable question in three, nearly all direct. It was taught once, on hand-written
facts (`modules.skills`); here it writes about what was told today, and the base checks that the statement makes each
question likelier. Called by `synthesis`.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from tenure.model.chat import ChatFormat
from tenure.model.requests import GenerationRequest, Sampling
from tenure.modules.skills import ASKING, asked_about, conversation_of
from tenure.sleep.checking import Judge, count, relevances
from tenure.types import AttachmentUse, Message

TRIES_PER_WAVE = 8  # for each statement
NUM_WAVES = 2
NUM_KEPT = 6  # more teach more only where time lets each be seen three times and more (LOG.md)
QUESTION_TOKENS = 56
MIN_GAIN = 0.15  # nats a token that the statement must add; far less than for rules: people ask around the words


def people_ask(
    engine: Judge,
    chat: ChatFormat,
    statements: Sequence[str],
    *,
    seed: int,
    deadline: float,
    rejected: dict[str, int],
) -> list[list[tuple[Message, ...]]]:
    """For each statement, conversations that end in a question about it, the likeliest by the statement first.

    At most `NUM_KEPT` each, from up to `NUM_WAVES` waves, as many as fit before the `deadline` (of the monotonic clock;
    one in any case). `engine` must hold the skill under `ASKING`.
    """
    found: list[dict[str, tuple[Message, ...]]] = [{} for _ in statements]
    num_tries = 0
    seconds = 0.0
    for wave in range(NUM_WAVES):
        begun = time.monotonic()
        if wave and begun + seconds > deadline:
            break
        requests = _requests(chat, statements, random.Random(f"asking {seed} {wave}"))
        for number, completion in enumerate(engine.generate(requests)):
            conversation = conversation_of(completion.text) if completion.finish_reason == "stop" else ()
            if conversation:
                found[number // TRIES_PER_WAVE].setdefault(completion.text.strip().lower(), conversation)
        num_tries += len(requests)
        seconds = time.monotonic() - begun
    written = [list(own.values()) for own in found]
    count(rejected, "not one question", num_tries - sum(map(len, written)))
    asked = [(s, [_text(c) for c in own]) for s, own in zip(statements, written, strict=True) if own]
    found_relevances = iter(relevances(engine, chat, asked))
    kept = []
    for own in written:
        rows = sorted(zip(own, next(found_relevances), strict=True), key=lambda row: -row[1].gain) if own else []
        kept.append([conversation for conversation, relevance in rows if relevance.gain >= MIN_GAIN][:NUM_KEPT])
    count(rejected, "not about the statement", sum(map(len, written)) - sum(map(len, kept)))
    return kept


def _requests(chat: ChatFormat, statements: Sequence[str], rng: random.Random) -> list[GenerationRequest]:
    requests = []
    for statement in statements:
        prompt = tuple(chat.encode_text(asked_about(statement), begin=True))
        for _ in range(TRIES_PER_WAVE):
            sampling = Sampling(QUESTION_TOKENS, temperature=0.8, top_p=0.95, seed=rng.randrange(2**31), stop=("\n",))
            requests.append(GenerationRequest(prompt, sampling, attachments=(AttachmentUse(ASKING),)))
    return requests


def _text(conversation: Sequence[Message]) -> str:
    return " ".join(message.content for message in conversation)
