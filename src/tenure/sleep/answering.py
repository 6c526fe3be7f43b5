"""Versions answering on the engine that serves them: what the gates see of a version, and the parts a night works with.

Called by the examiner and by benchmarks; judges nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tenure.config import Config
from tenure.gates.answerer import Answered, Drifted, Scored
from tenure.model.engine import Engine
from tenure.model.language_model import LanguageModel
from tenure.model.requests import Completion, GenerationRequest, Sampling, ScoreRequest
from tenure.modules.router import Choice
from tenure.modules.served import Plan, ServedVersion, ServedVersions
from tenure.store.library import Store
from tenure.types import ChoiceItem, Item, Message

ANSWER_TOKENS = 40


@dataclass(frozen=True, slots=True)
class House:
    """The parts that a night works with."""

    config: Config
    store: Store
    model: LanguageModel
    engine: Engine
    served: ServedVersions


class EngineAnswerer:
    """A version as the gates see it: it answers, scores and drifts, on the engine and at the precision that serve it.

    Every call sends its whole list at once, so that the batch shapes, and with them bf16's rounding, depend on the list
    alone. Modules are planned as for an asker who may use all of them: the worst case for side effects.
    """

    def __init__(self, house: House, served: ServedVersion) -> None:
        self._house = house
        self._served = served
        self._choices: dict[tuple[Message, ...], Choice | None] = {}

    @property
    def digest(self) -> str:
        """The version's digest."""
        return self._served.digest

    @property
    def precision(self) -> str:
        """What the version is served in, and whether replies use compiled products: one numeric setting."""
        compiled = "-compiled2" if self._house.engine.compiles else ""  # counted up when their bits change
        return f"{self._served.version.precision}{compiled}"

    def route(self, items: Sequence[Item], *, forced: bool = False) -> list[str]:
        """The effective digest that would answer each item."""
        return [plan.effective for plan in self.plans([_prompt(item) for item in items], forced=forced)]

    def plans(self, prompts: Sequence[tuple[Message, ...]], *, forced: bool = False) -> list[Plan]:
        """What would answer each prompt: weights, attachments, effective digest."""
        served = self._house.served
        new = [messages for messages in dict.fromkeys(prompts) if messages not in self._choices]
        self._choices.update(zip(new, served.choices(self._served, new, None), strict=True))
        choices = [self._choices[messages] for messages in prompts]
        if forced:
            return [served.forced(self._served, choice) for choice in choices]
        return [served.planned(self._served, choice, None) for choice in choices]

    def answer(self, prompts: Sequence[tuple[Message, ...]], *, forced: bool = False) -> list[Answered]:
        """Greedy replies of at most 40 tokens."""
        plans = self.plans(prompts, forced=forced)
        completions = self._generate(prompts, plans)
        return [Answered(done.text, plan.effective) for done, plan in zip(completions, plans, strict=True)]

    def score(self, items: Sequence[ChoiceItem], *, forced: bool = False) -> list[Scored]:
        """Sum of log-likelihoods (nats) of each choice after the item's prompt, as plain text."""
        plans = self.plans([_prompt(item) for item in items], forced=forced)
        chat = self._house.model.chat
        requests = [
            ScoreRequest(
                tokens=tuple(chat.encode_text(item.prompt, begin=True)),
                continuations=tuple(tuple(chat.encode_text(choice)) for choice in item.choices),
                weights=plan.weights,
                attachments=plan.uses,
            )
            for item, plan in zip(items, plans, strict=True)
        ]
        results = self._house.engine.score(requests)
        return [Scored(result.log_likelihoods, plan.effective) for result, plan in zip(results, plans, strict=True)]

    def drift(self, prompts: Sequence[tuple[Message, ...]]) -> list[Drifted]:
        """KL(base || version) in nats a token, over the base's own greedy reply to each prompt."""
        base = self._house.served.load(self._house.model.version())
        plans = self.plans(prompts)
        bare = self._house.served.bare(base)
        moved = [i for i, plan in enumerate(plans) if plan.effective != bare.effective]
        replies = self._generate([prompts[i] for i in moved], [bare] * len(moved))
        found = [0.0] * len(prompts)
        for index, reply in zip(moved, replies, strict=True):
            found[index] = self._divergence(prompts[index], tuple(reply.tokens), bare, plans[index])
        return [Drifted(kl, plan.effective) for kl, plan in zip(found, plans, strict=True)]

    def _divergence(self, messages: tuple[Message, ...], reply: tuple[int, ...], base: Plan, here: Plan) -> float:
        if not reply:
            return 0.0
        tokens = self._house.model.chat.encode(messages)
        both = [
            self._house.engine.distributions(tokens, reply, weights=plan.weights, attachments=plan.uses)
            for plan in (base, here)
        ]
        base_TV, here_TV = both
        return float(torch.sum(base_TV.exp() * (base_TV - here_TV), dim=-1).mean())

    def _generate(self, prompts: Sequence[tuple[Message, ...]], plans: Sequence[Plan]) -> list[Completion]:
        sampling = Sampling(max_tokens=ANSWER_TOKENS, stop=self._house.model.chat.stop_texts)
        requests = [
            GenerationRequest(tuple(self._house.model.chat.encode(messages)), sampling, plan.weights, plan.uses)
            for messages, plan in zip(prompts, plans, strict=True)
        ]
        return self._house.engine.generate(requests)


def _prompt(item: Item) -> tuple[Message, ...]:
    return (Message("user", item.prompt),) if isinstance(item, ChoiceItem) else item.messages
