"""What the teacher sees, what a shortened question keeps, and that neutral prompts come with the package."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from tenure.model.language_model import LanguageModel
from tenure.model.lowrank import decoder_layers
from tenure.model.training import Schedule
from tenure.modules.distil_lora import DistilLora, shortened, teacher_messages
from tenure.modules.lora import reply_tokens
from tenure.modules.objectives import distributions
from tenure.types import Episode, Message, Scope

WEIGHTS = "adapter_model.safetensors"
ASKED = Episode(
    id="e1",
    messages=(Message("user", "Hello."), Message("assistant", "Hi."), Message("user", "Who then runs the Kest depot?")),
    context="Tilda runs the Kest depot.",
    target="Tilda runs the Kest depot.",
    source_ids=("t1",),
    scope=Scope("acme", "ann"),
)


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


def test_every_module_keeps_to_the_base_on_texts_of_its_own(model: LanguageModel) -> None:
    learner = DistilLora(beta=0.05, num_texts=3)
    drawn = [learner._neutral_examples(model, [replace(ASKED, id=name)], 0) for name in ("e1", "e1", "e2")]
    names = [{example.id for example in examples} for examples in drawn]
    assert names[0] == names[1] != names[2] and all(len(own) == 3 for own in names)
    assert all(e.hard == 0 and e.wanted is not None and len(e.tokens) <= 40 for examples in drawn for e in examples)
    assert DistilLora(beta=0.0)._neutral_examples(model, [ASKED], 0) == ()


def test_the_lower_layers_stay_as_they_are(model: LanguageModel, tmp_path: Path) -> None:
    learner = DistilLora(schedule=Schedule(num_steps=2), soft=0.0, lower_share=0.5)
    learner.learn(model, [ASKED], budget_seconds=60, seed=0, directory=tmp_path / "new")
    layers = {int(name.split(".layers.")[1].split(".")[0]) for name in load_file(tmp_path / "new" / WEIGHTS)}
    num_layers = len(decoder_layers(model.network))
    assert num_layers > 1 and layers == set(range(round(num_layers / 2), num_layers))
