"""The learner `distil-lora`: a LoRA module taught by the frozen base with the source in its context.

The student sees the question alone. Its target is the checked reply, as cross entropy and as the teacher's distribution
over that reply (context distillation; Snell, Klein, Zhong 2022); on near-miss and neutral prompts its target is
the base's own distribution, so that it stays silent where it knows nothing. Called by the night through
`weights.learners`.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path

from tenure.config import EngineConfig
from tenure.model.engine import Engine
from tenure.model.language_model import LanguageModel
from tenure.model.lowrank import Placement
from tenure.model.progress import Progress
from tenure.model.requests import GenerationRequest, Sampling
from tenure.model.training import Schedule
from tenure.modules.learner import check_directory, kept_of, questions_of
from tenure.modules.lora import Lesson, Pool, plain_settings, replay_of, reply_tokens, train_adapter
from tenure.modules.objectives import Example, distributions
from tenure.modules.skills import RECALLING, skill
from tenure.store.digests import digest_directory
from tenure.types import Candidate, Episode, Message

NAME = "distil-lora"
MIN_STEP = 8
QUESTIONS_PER_PLACE = 16  # a step has one place for so many questions
WORD = re.compile(r"\w+")
ECHO_DROPOUT = 0.08  # even names go missing now and then: people ask about them in other words


@dataclass(frozen=True, slots=True)
class DistilLora:
    """Knobs: `hard` and `soft` weigh cross entropy and distillation on replies, `beta` the divergence on kept prompts.

    A step takes `num_questions`, `num_near_misses` and `num_neutral` examples. `num_kept` entries of each
    distribution of the base are remembered; own answers of the base are cut at `answer_tokens`, neutral texts at
    `neutral_tokens`. Each question is also
    studied with words left out (`word_dropout`, see `shortened`), so that its form matters less than what it names.
    With `skilled` the module starts from the base's skill of recalling, where it has one: it needs fewer steps, and
    questions in unseen words get an answer at all.
    """

    placement: Placement = field(default_factory=Placement)
    schedule: Schedule = field(default_factory=lambda: Schedule(num_steps=130, learning_rate=1.5e-3))
    hard: float = 1.0
    soft: float = 0.3
    beta: float = 0.3
    num_questions: int = 20
    num_near_misses: int = 0
    num_neutral: int = 1
    num_kept: int = 64
    answer_tokens: int = 24
    neutral_tokens: int = 64
    word_dropout: float = 0.5
    tree_tokens: int = 512
    skilled: bool = True

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
        questions, kept = questions_of(episodes), kept_of(episodes)
        return self._sized(len(questions))._learn(
            model,
            questions,
            kept,
            deadline=started + budget_seconds,
            started=started,
            seed=seed,
            directory=directory,
            progress=progress,
            replay=replay,
        )

    def _sized(self, num_questions: int) -> DistilLora:
        """Few questions take smaller steps, so that a short night has enough of them."""
        wanted = max(MIN_STEP, num_questions // QUESTIONS_PER_PLACE)
        return replace(self, num_questions=min(self.num_questions, wanted))

    def _learn(
        self,
        model: LanguageModel,
        questions: Sequence[Episode],
        kept: Sequence[Episode],
        *,
        deadline: float,
        started: float,
        seed: int,
        directory: Path,
        progress: Progress | None,
        replay: Candidate | None,
    ) -> Candidate:
        start = skill(RECALLING, model) if self.skilled else None
        settings = {**plain_settings(self), "start": digest_directory(start) if start else ""}
        steps = replay_of(replay, NAME, settings, seed)
        lesson = Lesson(
            pools=(
                Pool(self._question_examples(model, self._studied(questions, seed)), self.num_questions),
                Pool(self._near_examples(model, kept), self.num_near_misses),
                Pool(self._kept_examples(model, self._neutral(model, seed)), self.num_neutral),
            ),
            placement=self.placement,
            schedule=self.schedule,
            tree_tokens=self.tree_tokens,
        )
        return train_adapter(
            model,
            lesson,
            learner=NAME,
            settings=settings,
            place="module",
            episodes=(*questions, *kept),
            seed=seed,
            deadline=deadline,
            started=started,
            directory=directory,
            progress=progress,
            replay=steps,
            start=start,
        )

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

    def _near_examples(self, model: LanguageModel, kept: Sequence[Episode]) -> tuple[Example, ...]:
        if not self.num_near_misses:
            return ()  # the base's own answers to them take their time
        return self._kept_examples(model, own_answers(model, kept, self.answer_tokens))

    def _kept_examples(
        self, model: LanguageModel, sequences: Mapping[str, tuple[tuple[int, ...], int]]
    ) -> tuple[Example, ...]:
        if not self.beta:
            return ()
        wanted = distributions(model.network, list(sequences.values()), num_kept=self._num_kept(model))
        weight = self.beta / max(1, self.num_near_misses + self.num_neutral)
        return tuple(
            Example(name, tokens, start, hard=0.0, soft=1.0, weight=weight, wanted=w)
            for (name, (tokens, start)), w in zip(sequences.items(), wanted, strict=True)
        )

    def _neutral(self, model: LanguageModel, seed: int) -> dict[str, tuple[tuple[int, ...], int]]:
        """As many of the neutral sequences as the steps can take: the base's distributions on them cost time."""
        found = neutral_sequences(model, max_tokens=self.neutral_tokens)
        wanted = min(len(found), self.schedule.num_steps * self.num_neutral)
        return {name: found[name] for name in random.Random(f"neutral {seed}").sample(list(found), wanted)}

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


def own_answers(
    model: LanguageModel, kept: Sequence[Episode], num_tokens: int
) -> dict[str, tuple[tuple[int, ...], int]]:
    """{episode id: (prompt and the base's own greedy answer, where the answer starts)}."""
    if not kept:
        return {}
    prompts = [tuple(model.chat.encode(e.messages)) for e in kept]
    engine = Engine(model, EngineConfig(max_batch=32))
    sampling = Sampling(max_tokens=num_tokens, temperature=0.0)
    completions = engine.generate([GenerationRequest(tokens=p, sampling=sampling) for p in prompts])
    answers = {}
    for episode, prompt, completion in zip(kept, prompts, completions, strict=True):
        ending = (model.chat.tokenizer.eos_token_id,) if completion.finish_reason == "stop" else ()
        if completion.tokens or ending:
            answers[episode.id] = ((*prompt, *completion.tokens, *ending), len(prompt))
    return answers


def neutral_sequences(model: LanguageModel, *, max_tokens: int = 96) -> dict[str, tuple[tuple[int, ...], int]]:
    """{id: (tokens, start)} of the package's own neutral prompts and texts (`neutral.jsonl`), cut at `max_tokens`.

    The texts are fixed; what the student must keep on them is the distribution of whatever base is given.
    """
    sequences = {}
    lines = resources.files("tenure.modules").joinpath("neutral.jsonl").read_text("utf8").splitlines()
    for entry in map(json.loads, lines):
        if "text" in entry:
            tokens = tuple(model.chat.encode_text(entry["text"], begin=True))[:max_tokens]
            start = min(4, len(tokens) - 1)
        else:
            whole, start = reply_tokens(model, (Message("user", entry["prompt"]),), entry["reply"])
            tokens = whole[:max_tokens] if entry["ended"] else whole[:-1][:max_tokens]
        if 0 < start < len(tokens) <= model.max_context_tokens:
            sequences[f"neutral:{entry['id']}"] = (tokens, start)
    return sequences
