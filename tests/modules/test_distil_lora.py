"""What the teacher sees, what a shortened question keeps, and that neutral prompts come with the package."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tenure.model.language_model import LanguageModel, load_language_model
from tenure.modules.distil_lora import DistilLora, neutral_sequences, own_answers, shortened, teacher_messages
from tenure.modules.lora import reply_tokens
from tenure.modules.objectives import distributions
from tenure.types import Episode, Message, Scope

ASKED = Episode(
    id="e1",
    messages=(Message("user", "Hello."), Message("assistant", "Hi."), Message("user", "Who then runs the Kest depot?")),
    context="Tilda runs the Kest depot.",
    target="Tilda runs the Kest depot.",
    source_ids=("t1",),
    scope=Scope("acme", "ann"),
)


@pytest.fixture(scope="module")
def model(tiny_model_directory: Path) -> LanguageModel:
    return load_language_model(tiny_model_directory, precision="fp32", threads=1)


def test_only_the_teacher_sees_the_source() -> None:
    taught = teacher_messages(ASKED)
    assert taught[:2] == ASKED.messages[:2]
    assert taught[2].content == "Tilda runs the Kest depot.\n\nWho then runs the Kest depot?"


def test_the_teacher_reads_one_question_for_each_statement(model: LanguageModel) -> None:
    other = replace(ASKED, id="e2", messages=(Message("user", "Who has Kest?"),))
    else_told = replace(ASKED, id="e3", context="Imke runs Dover.", target="Imke runs Dover.")
    one, two, three = DistilLora(soft=0.5)._question_examples(model, [ASKED, other, else_told])
    tokens, start = reply_tokens(model, teacher_messages(ASKED), ASKED.target)
    (wanted,) = distributions(model.network, [(tokens, start)], num_kept=64)
    assert one.wanted is not None and two.wanted is one.wanted and three.wanted is not one.wanted
    assert torch.equal(one.wanted.tokens_PK, wanted.tokens_PK)
    torch.testing.assert_close(one.wanted.log_probabilities_PK, wanted.log_probabilities_PK)
    assert one.num_targets == two.num_targets == len(wanted.tokens_PK)
    assert one.tokens != two.tokens and one.start != two.start


def test_shortened_questions_mostly_keep_what_the_target_names() -> None:
    drawn = [shortened(ASKED, 0.5, random.Random(seed)) for seed in range(200)]
    short = [episode for episode in drawn if episode is not None]
    texts = [episode.messages[-1].content for episode in short]
    assert 100 < len(short) < 200
    assert all(episode.id == "e1#short" and episode.target == ASKED.target for episode in short)
    assert all(episode.messages[:-1] == ASKED.messages[:-1] for episode in short)
    assert sum("Kest" in text for text in texts) > 0.8 * len(texts)
    assert 0.3 * len(texts) < sum("then" in text for text in texts) < 0.7 * len(texts)


def test_near_misses_are_kept_at_the_base_s_own_answer(model: LanguageModel) -> None:
    near = Episode("n1", (Message("user", "Who runs Dover?"),), "", "", (), ASKED.scope, kind="near_miss")
    (tokens, start), *others = own_answers(model, [near], 5).values()
    assert not others and start == len(model.chat.encode(near.messages))
    assert tokens[:start] == tuple(model.chat.encode(near.messages)) and 0 < len(tokens) - start <= 6
    assert own_answers(model, [], 5) == {}


def test_neutral_prompts_come_with_the_package(model: LanguageModel) -> None:
    sequences = neutral_sequences(model)
    assert len(sequences) > 200
    assert all(0 < start < len(tokens) <= 96 for tokens, start in sequences.values())
