"""Training one LoRA adapter on examples, from the frozen base to a finished directory.

Knows where adapters go, how examples are cut into steps and how a run is recorded; not what makes a good example.
Called by the learners whose artefact is low-rank.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from tenure.errors import LearnError
from tenure.model.language_model import LanguageModel
from tenure.model.lowrank import Placement, adapted
from tenure.model.progress import Progress, silent
from tenure.model.training import Batch, Replay, Run, Schedule, train
from tenure.modules.objectives import Example, FrozenBelow, accumulate
from tenure.types import Candidate, Episode, Message

REMEMBER_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Pool:
    """Examples of which every step takes `num_per_step`, each once before any comes again."""

    examples: tuple[Example, ...]
    num_per_step: int


@dataclass(frozen=True, slots=True)
class Lesson:
    """Everything one adapter is trained on and how. `spared`: directions of inputs that it must not read."""

    pools: tuple[Pool, ...]
    placement: Placement
    schedule: Schedule
    tree_tokens: int = 512
    spared: Mapping[str, Tensor] | None = None

    def examples(self) -> dict[str, Example]:
        """All examples by id."""
        return {example.id: example for pool in self.pools for example in pool.examples}


def batches_of(pools: Sequence[Pool], seed: int) -> Iterator[Batch]:
    """An endless order of steps, by seed."""
    rng = random.Random(seed)
    streams = [_stream([e.id for e in pool.examples], rng) for pool in pools if pool.examples]
    sizes = [min(pool.num_per_step, len(pool.examples)) for pool in pools if pool.examples]
    while True:
        yield tuple(next(stream) for stream, size in zip(streams, sizes, strict=True) for _ in range(size))


def _stream(ids: Sequence[str], rng: random.Random) -> Iterator[str]:
    while True:
        yield from rng.sample(ids, len(ids))


def replay_of(candidate: Candidate | None, learner: str, settings: Mapping[str, Any], seed: int) -> Replay | None:
    """The recorded steps of a candidate. Raises LearnError when it was made by other settings, which can't repeat."""
    if candidate is None:
        return None
    recorded = dict(candidate.settings)
    planned = recorded.pop("planned_steps", None)
    if candidate.learner != learner or candidate.seed != seed or recorded != dict(settings) or planned is None:
        raise LearnError(
            f"the candidate to replay was made by {candidate.learner} with {recorded} and seed {candidate.seed}; "
            f"this is {learner} with {dict(settings)} and seed {seed}; use the same"
        )
    return Replay(candidate.batch_order, int(planned))


def plain_settings(learner: Any) -> dict[str, Any]:
    """A learner's knobs as plain JSON values, nested dataclasses included."""
    plain: dict[str, Any] = _as_lists(dataclasses.asdict(learner))
    return plain


def _as_lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_lists(part) for key, part in value.items()}
    return [_as_lists(part) for part in value] if isinstance(value, (tuple, list)) else value


def train_adapter(
    model: LanguageModel,
    lesson: Lesson,
    *,
    learner: str,
    settings: Mapping[str, Any],
    place: str,
    episodes: Sequence[Episode],
    seed: int,
    deadline: float,
    started: float,
    directory: Path,
    progress: Progress | None,
    replay: Replay | None,
) -> Candidate:
    """Train, write the directory, and return its candidate. `deadline`, `started`: times of the monotonic clock."""
    examples = lesson.examples()
    if replay is not None:
        unknown = {i for batch in replay.batch_order for i in batch} - set(examples)
        if unknown:
            raise LearnError(f"the steps to replay name {sorted(unknown)[0]}, which is not among the episodes given")
    told = progress or silent
    with adapted(model.network, lesson.placement, seed=seed, spared=lesson.spared) as adapter:
        body = FrozenBelow(model.network, lesson.placement.first_layer)
        body.remember([e.tokens for e in examples.values()], max_tokens=REMEMBER_TOKENS)
        run: Run = train(
            adapter.parameters(),
            lambda batch: accumulate(model.network, body, [examples[i] for i in batch], max_tokens=lesson.tree_tokens),
            batches_of(lesson.pools, seed),
            lesson.schedule,
            budget_seconds=deadline - time.monotonic(),
            replay=replay,
            told=lambda step, planned, loss: told(f"learning (loss {loss:.2f})", step, planned),
        )
        adapter.save(directory, base_name=model.name)
    return Candidate(
        directory=str(directory),
        learner=learner,
        settings={**settings, "planned_steps": run.replay.planned_steps},
        seed=seed,
        num_steps=run.num_steps,
        batch_order=run.replay.batch_order,
        episode_ids=tuple(sorted(e.id for e in episodes)),
        losses=run.losses,
        seconds=time.monotonic() - started,
        place=place,
    )


def reply_tokens(model: LanguageModel, messages: Sequence[Message], reply: str) -> tuple[tuple[int, ...], int]:
    """(prompt and reply as one token sequence that ends its turn, where the reply starts).

    Raises LearnError when they don't fit the model's window.
    """
    prompt = model.chat.encode(messages)
    tokens = (*prompt, *model.chat.encode_text(reply), model.chat.tokenizer.eos_token_id)
    if len(tokens) > model.max_context_tokens:
        raise LearnError(f"an episode of {len(tokens)} tokens exceeds the window of {model.max_context_tokens}; cut it")
    return tokens, len(prompt)
