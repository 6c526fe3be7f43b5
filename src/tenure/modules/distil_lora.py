"""The learner `distil-lora`: a small LoRA module a statement, taught by the frozen base with the source in its context.

The student sees the question alone. Its target is the checked reply, as cross entropy and as the teacher's distribution
over that reply (context distillation; Snell, Klein, Zhong 2022). It can't read the directions in which ordinary inputs
lie (`neutral.common_directions`), so what it learned stays with what it learned it from. A module of its own for each
statement has nothing to confuse it with: which statement a question is about is the router's to say, what the statement
says is the module's. Called by the night through `weights.learners`.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from tenure.model.language_model import LanguageModel
from tenure.model.lowrank import Placement, decoder_layers
from tenure.model.progress import Progress
from tenure.model.training import Schedule
from tenure.modules.learner import check_directory, questions_of
from tenure.modules.lora import Lesson, Pool, plain_settings, replay_of, reply_tokens, train_adapter
from tenure.modules.neutral import common_directions, neutral_sequences
from tenure.modules.objectives import Example, distributions
from tenure.types import Candidate, Episode, Message

NAME = "distil-lora"
WORD = re.compile(r"\w+")
ECHO_DROPOUT = 0.08  # even names go missing now and then: people ask about them in other words


@dataclass(frozen=True, slots=True)
class DistilLora:
    """Knobs: `hard` and `soft` weigh cross entropy and distillation on replies.

    A step takes `num_questions` examples. `spared` of the energy of ordinary inputs is out of the module's reach (0: it
    reads everything). `num_kept` entries of each distribution of the base are remembered. Each question is also studied
    with words left out (`word_dropout`, see `shortened`), so that its form matters less than what it names. The lowest
    `lower_share` of the layers stay as they are: what passes through them is computed only once. With `beta` the
    divergence from the base on neutral texts counts too: `num_neutral` a step of the `num_texts` that are drawn for a
    module, each cut at `neutral_tokens`.
    """

    by_statement: ClassVar[bool] = True

    placement: Placement = field(default_factory=lambda: Placement(rank=4, alpha=8.0))
    lower_share: float = 0.5
    schedule: Schedule = field(default_factory=lambda: Schedule(num_steps=14, learning_rate=5e-3))
    hard: float = 1.0
    soft: float = 0.3
    beta: float = 0.0
    spared: float = 0.7
    num_questions: int = 4
    num_neutral: int = 1
    num_texts: int = 4
    num_kept: int = 64
    neutral_tokens: int = 40
    word_dropout: float = 0.3
    tree_tokens: int = 512

    def prepare(self, model: LanguageModel) -> None:
        """Find the directions of ordinary inputs, a matter of seconds."""
        if self.spared:
            common_directions(model, self._placed(model), self.spared)

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
        """See `Learner.learn`. The artefact is a PEFT LoRA directory, place "module"."""
        started = time.monotonic()
        check_directory(directory)
        questions = questions_of(episodes)
        settings = plain_settings(self)
        placement = self._placed(model)
        lesson = Lesson(
            pools=(
                Pool(self._question_examples(model, self._studied(questions, seed)), self.num_questions),
                Pool(self._neutral_examples(model, questions, seed), self.num_neutral),
            ),
            placement=placement,
            schedule=self.schedule,
            tree_tokens=self.tree_tokens,
            spared=common_directions(model, placement, self.spared) if self.spared else None,
        )
        return train_adapter(
            model,
            lesson,
            learner=NAME,
            settings=settings,
            place="module",
            episodes=questions,
            seed=seed,
            deadline=started + budget_seconds,
            started=started,
            directory=directory,
            progress=progress,
            replay=replay_of(replay, NAME, settings, seed),
        )

    def _placed(self, model: LanguageModel) -> Placement:
        """The placement, from the first layer above the untouched ones."""
        first = round(self.lower_share * len(decoder_layers(model.network)))
        return replace(self.placement, first_layer=max(self.placement.first_layer, first))

    def _studied(self, questions: Sequence[Episode], seed: int) -> tuple[Episode, ...]:
        rng = random.Random(f"shortened {seed}")
        short = [shortened(episode, self.word_dropout, rng) for episode in questions] if self.word_dropout else []
        return (*questions, *(episode for episode in short if episode is not None))

    def _question_examples(self, model: LanguageModel, questions: Sequence[Episode]) -> tuple[Example, ...]:
        examples = []
        for episode in questions:
            tokens, start = reply_tokens(model, episode.messages, episode.target)
            weight = episode.trust / self.num_questions
            examples.append(Example(episode.id, tokens, start, hard=self.hard, soft=self.soft, weight=weight))
        if not self.soft:
            return tuple(examples)
        # One question stands for all of a statement's: a teacher that has the statement before it says it back whatever
        # is asked, and reading every question with its source took a third of a night.
        first = {(e.context, e.target): e for e in reversed(questions)}
        taught = [reply_tokens(model, teacher_messages(e), e.target) for e in first.values()]
        wanted = dict(zip(first, distributions(model.network, taught, num_kept=self._num_kept(model)), strict=True))
        return tuple(
            replace(example, wanted=wanted[e.context, e.target]) for example, e in zip(examples, questions, strict=True)
        )

    def _neutral_examples(self, model: LanguageModel, questions: Sequence[Episode], seed: int) -> tuple[Example, ...]:
        """Some of the neutral texts, others for every module, with the base's own distributions on them."""
        if not self.beta or not self.num_neutral:
            return ()
        found = neutral_sequences(model, max_tokens=self.neutral_tokens)
        rng = random.Random(f"neutral {seed} {questions[0].id}")
        chosen = {name: found[name] for name in rng.sample(list(found), min(self.num_texts, len(found)))}
        wanted = distributions(model.network, list(chosen.values()), num_kept=self._num_kept(model))
        weight = self.beta / self.num_neutral
        return tuple(
            Example(name, tokens, start, hard=0.0, soft=1.0, weight=weight, wanted=w)
            for (name, (tokens, start)), w in zip(chosen.items(), wanted, strict=True)
        )

    def _num_kept(self, model: LanguageModel) -> int:
        return min(self.num_kept, int(model.network.get_output_embeddings().weight.shape[0]))


def teacher_messages(episode: Episode) -> tuple[Message, ...]:
    """The student's prompt with the source put before the last message of the user, as only the teacher sees it."""
    messages = list(episode.messages)
    if not episode.context:
        return tuple(messages)
    last = max(i for i, message in enumerate(messages) if message.role == "user")
    messages[last] = replace(messages[last], content=f"{episode.context}\n\n{messages[last].content}")
    return tuple(messages)


def shortened(episode: Episode, share: float, rng: random.Random) -> Episode | None:
    """The question with words left out: each with chance `share`, but those that the target holds nearly never.

    None when the draw leaves nothing out or nothing over. Its id is the episode's with `#short` behind it.
    """
    told = set(WORD.findall(episode.target.lower()))
    words = episode.messages[-1].content.split()
    kept = [
        word for word in words if rng.random() >= (ECHO_DROPOUT if told & set(WORD.findall(word.lower())) else share)
    ]
    if not kept or len(kept) == len(words):
        return None
    last = replace(episode.messages[-1], content=" ".join(kept))
    return replace(episode, id=f"{episode.id}#short", messages=(*episode.messages[:-1], last))
