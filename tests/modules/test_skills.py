"""Skills: taught on written facts and found by base."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tenure.config import EngineConfig
from tenure.model.engine import Engine
from tenure.model.language_model import LanguageModel, load_language_model
from tenure.model.lowrank import Placement
from tenure.model.training import Schedule
from tenure.modules.skills import (
    ASKING,
    conversation,
    conversation_of,
    question_line,
    skill,
    skilled,
    written_facts,
)
from tenure.modules.teaching import asking_examples, teach


@pytest.fixture
def model(tiny_model_directory: Path, tmp_path: Path) -> LanguageModel:
    own = tmp_path / "base"
    shutil.copytree(tiny_model_directory, own)
    return load_language_model(own, precision="fp32", threads=1)


@pytest.mark.parametrize("texts", [("Who runs it?",), ("Any news?", "Of the mill?", "Yes. Who\nruns it?")])
def test_a_conversation_fits_one_line_and_comes_back(texts: tuple[str, ...]) -> None:
    one_line = tuple(text.replace("\n", " ") for text in texts)
    assert conversation_of(question_line(texts)) == conversation(one_line)
    assert [m.role for m in conversation(texts)] == ["user", "assistant", "user"][: len(texts)]


@pytest.mark.parametrize("line", ["", " | ", "One. | Two.", "One. |  | Three?"])
def test_what_is_no_conversation_is_none(line: str) -> None:
    assert conversation_of(line) == ()


def test_written_facts_are_whole() -> None:
    facts = written_facts()
    assert len(facts) > 300
    for fact in facts:
        assert len(fact.about) >= 6 and len(fact.near) >= 6
        assert all(len(texts) % 2 and all(texts) for texts in (*fact.about, *fact.near)), fact.statement
        assert not set(fact.about) & set(fact.near)
    assert len({fact.statement for fact in facts}) == len(facts)


def test_a_base_without_a_skill_does_without(model: LanguageModel) -> None:
    engine = Engine(model, EngineConfig())
    assert skill(ASKING, model) is None
    with skilled(engine, model, ASKING):
        assert not engine.attachments


def test_asking_is_taught_and_lent_to_an_engine(model: LanguageModel) -> None:
    groups = asking_examples(model, written_facts()[:2])
    directory = model.directory / "skills" / "asking"
    placement = Placement(rank=2, alpha=4.0)
    teach(model, groups, directory, placement=placement, schedule=Schedule(num_steps=3), groups_per_step=1)
    assert {tensor.dtype for tensor in load_file(directory / "adapter_model.safetensors").values()} == {torch.bfloat16}
    assert skill(ASKING, model) == directory
    engine = Engine(model, EngineConfig())
    with skilled(engine, model, ASKING):
        assert engine.attachments == {ASKING}
    assert not engine.attachments
