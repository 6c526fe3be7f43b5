"""Questions by the skill of asking: parsed, each once, and kept only when the statement makes them likelier."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

from tenure.model.language_model import LanguageModel
from tenure.model.requests import Completion, GenerationRequest, ScoreRequest, ScoreResult
from tenure.modules.skills import ASKING, conversation
from tenure.sleep.asking import NUM_KEPT, NUM_WAVES, TRIES_PER_WAVE, people_ask
from tenure.sleep.curation import Source, source_id
from tenure.sleep.synthesis import synthesize
from tenure.types import AttachmentUse, Scope

STATEMENT = "Imke Sand runs our Velden depot."
ANN = Scope("acme", "ann")
WRITTEN = (
    "Who has charge of Velden?",
    "who has charge of velden?",
    "I'm off to the depot. | Which? | Velden. Whom do I ask for?",
    "A half | conversation?",
    "What is the capital of France?",
)


class Writer:
    """Writes the same lines over and over; a question is likelier after a statement when it is about Velden."""

    max_context_tokens = 2048
    attachments = frozenset({ASKING})

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self.asked: list[GenerationRequest] = []

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        self.asked += requests
        return [Completion((1,), f" {text}", "stop", 4) for _, text in zip(requests, cycle(WRITTEN))]

    def score(self, requests: Sequence[ScoreRequest]) -> list[ScoreResult]:
        results = []
        for request in requests:
            told = "Velden depot" in self._model.chat.tokenizer.decode(request.tokens)
            texts = [self._model.chat.tokenizer.decode(c) for c in request.continuations]
            near = [told and "elden" in text for text in texts]
            pairs = zip(near, request.continuations, strict=True)
            results.append(ScoreResult(tuple(-len(c) * (1.0 if n else 3.0) for n, c in pairs)))
        return results


def test_what_is_written_is_parsed_and_kept_once_if_the_statement_makes_it_likelier(model: LanguageModel) -> None:
    writer, rejected = Writer(model), dict[str, int]()
    (kept,) = people_ask(writer, model.chat, [STATEMENT], seed=1, deadline=float("inf"), rejected=rejected)
    talk = ("I'm off to the depot.", "Which?", "Velden. Whom do I ask for?")
    assert sorted(kept, key=len) == [conversation([WRITTEN[0]]), conversation(talk)]
    assert len(kept) <= NUM_KEPT and rejected["not about the statement"] == 1
    assert len(writer.asked) == NUM_WAVES * TRIES_PER_WAVE
    assert {request.attachments for request in writer.asked} == {(AttachmentUse(ASKING),)}
    assert len({request.sampling.seed for request in writer.asked}) == len(writer.asked)


def test_without_time_one_wave_is_written(model: LanguageModel) -> None:
    writer = Writer(model)
    people_ask(writer, model.chat, [STATEMENT], seed=1, deadline=0.0, rejected={})
    assert len(writer.asked) == TRIES_PER_WAVE


def test_they_are_studied_beside_the_questions_by_rules(model: LanguageModel) -> None:
    source = Source(source_id(ANN, STATEMENT), STATEMENT, ANN, ("turn_1",), 0.7, 0.0)
    study = synthesize(Writer(model), model.chat, [source], seed=1, budget_seconds=10.0)
    asked = [e for e in study.episodes if e.kind == "question"]
    assert len(asked) == 2 and all(e.target == STATEMENT and not e.held_out for e in asked)
    assert any(e.kind == "question/rule" for e in study.episodes)
