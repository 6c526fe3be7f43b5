"""The learner `naive-sft`: fine-tune on the replies and hope for the best.

The foil: no teacher, no divergence from the base, no near-misses. Its low-rank delta is merged into the weights for
every request, so what it breaks is broken everywhere; the gate has to notice.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from tenure.model.language_model import LanguageModel
from tenure.model.lowrank import Placement
from tenure.model.progress import Progress
from tenure.model.training import Schedule
from tenure.modules.learner import check_directory, questions_of
from tenure.modules.lora import Lesson, Pool, plain_settings, replay_of, reply_tokens, train_adapter
from tenure.modules.objectives import Example
from tenure.types import Candidate, Episode

NAME = "naive-sft"


@dataclass(frozen=True, slots=True)
class NaiveSft:
    """Knobs: where the delta goes, how long and fast, and how many questions a step takes.

    Of each statement `num_phrasings` questions are studied, drawn by seed (0: all): more of them, and the steps that a
    night has time for wouldn't come round to any often enough to learn it.
    """

    by_statement: ClassVar[bool] = False

    placement: Placement = field(default_factory=lambda: Placement(rank=16, alpha=32.0))
    schedule: Schedule = field(default_factory=lambda: Schedule(num_steps=80, learning_rate=5e-4))
    num_questions: int = 12
    num_phrasings: int = 4
    tree_tokens: int = 512

    def prepare(self, model: LanguageModel) -> None:
        """Nothing is needed."""

    def learn(
        self,
        model: LanguageModel,
        episodes: Sequence[Episode],
        *,
        budget_seconds: float,
        seed: int,
        directory: Path,
        progress: Progress | None = None,
        replay: Candidate | None = None,
    ) -> Candidate:
        """See `Learner.learn`. The artefact is a low-rank delta in PEFT layout, place "delta"."""
        started = time.monotonic()
        check_directory(directory)
        questions = self._studied(questions_of(episodes), seed)
        steps = replay_of(replay, NAME, plain_settings(self), seed)
        examples = []
        for episode in questions:
            tokens, start = reply_tokens(model, episode.messages, episode.target)
            examples.append(Example(episode.id, tokens, start, weight=episode.trust / self.num_questions))
        return train_adapter(
            model,
            Lesson((Pool(tuple(examples), self.num_questions),), self.placement, self.schedule, self.tree_tokens),
            learner=NAME,
            settings=plain_settings(self),
            place="delta",
            episodes=questions,
            seed=seed,
            deadline=started + budget_seconds,
            started=started,
            directory=directory,
            progress=progress,
            replay=steps,
        )

    def _studied(self, questions: Sequence[Episode], seed: int) -> tuple[Episode, ...]:
        by_statement: dict[tuple[str, ...], list[Episode]] = {}
        for episode in questions:
            by_statement.setdefault(episode.source_ids, []).append(episode)
        rng = random.Random(f"phrasings {seed}")
        num = self.num_phrasings or len(questions)
        return tuple(e for asked in by_statement.values() for e in rng.sample(asked, min(num, len(asked))))
