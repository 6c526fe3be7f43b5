"""The skill of finding: what is taught is what an engine computes, and keys find what words don't."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import normalize

from tenure.config import EngineConfig
from tenure.errors import BrokenModel
from tenure.model.engine import Engine
from tenure.model.language_model import LanguageModel
from tenure.model.lowrank import Placement
from tenure.model.training import Schedule
from tenure.modules.bi_encoder import BiEncoder, nearest_by_keys
from tenure.modules.find_lesson import contrast, facts_to_place, teach_finding
from tenure.modules.skills import WrittenFact, conversation
from tenure.types import Message

FACTS = (
    WrittenFact("Imke Sand runs our Velden depot.", (("Who is in charge there?",), ("Who is the boss of it?",)), ()),
    WrittenFact("The Orsa ferry leaves from pier 14.", (("Where do boats go?",), ("How do I cross the lake?",)), ()),
    WrittenFact("Coffee is kept in the red tin.", (("I want a hot drink.",), ("Something to wake me up?",)), ()),
)
LAYER = 1


@pytest.fixture(scope="module")
def taught(model: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("finding") / "finding"
    teach_finding(
        model,
        facts_to_place(model, FACTS),
        directory,
        placement=Placement(rank=8, alpha=16.0, last_layer=LAYER - 1),
        schedule=Schedule(num_steps=80, learning_rate=1e-2),
        layer=LAYER,
    )
    return directory


@pytest.fixture
def finder(taught: Path) -> BiEncoder:
    return BiEncoder.load(taught)


@pytest.fixture
def engine(model: LanguageModel, finder: BiEncoder) -> Engine:
    engine = Engine(model, EngineConfig())
    engine.add_attachment(finder.name, finder.directory)
    return engine


def test_questions_lie_nearest_to_what_answers_them(model: LanguageModel, engine: Engine, finder: BiEncoder) -> None:
    statements_SC = finder.places_of_texts(engine, model.chat, [fact.statement for fact in FACTS])
    asked = [conversation(texts) for fact in FACTS for texts in fact.about]
    places_QC = finder.places(engine, model.chat, asked)
    torch.testing.assert_close(places_QC.norm(dim=1), torch.ones(len(asked)))
    assert (places_QC @ statements_SC.T).argmax(1).tolist() == [0, 0, 1, 1, 2, 2]
    one_by_one = torch.cat([finder.places(engine, model.chat, [messages]) for messages in asked])
    torch.testing.assert_close(one_by_one, places_QC)


def test_the_loss_is_lowest_where_each_question_lies_at_its_own_statement() -> None:
    statements_SC = torch.eye(3)
    own_QC = statements_SC.repeat_interleave(2, 0)
    others_QC = own_QC.roll(2, 0)
    between_QC = normalize(own_QC + 0.5 * others_QC, dim=1)
    losses = [float(contrast(statements_SC, places_QC)) for places_QC in (own_QC, between_QC, others_QC)]
    assert losses == sorted(losses) and losses[0] < 1e-6 < losses[1] < losses[2]


def test_what_the_model_said_has_no_place(model: LanguageModel, engine: Engine, finder: BiEncoder) -> None:
    asked = (Message("user", "The depot?"), Message("assistant", "Which?"), Message("user", "Velden."))
    other = (asked[0], Message("assistant", "A whale, you mean."), asked[2])
    one, two = finder.places(engine, model.chat, [asked, other])
    assert torch.equal(one, two)
    assert not torch.equal(one, finder.places(engine, model.chat, [asked[2:]])[0])


def test_the_nearest_sets_of_keys_are_found_if_they_are_near_enough() -> None:
    axes = torch.eye(4)
    keys = [axes[:2].half(), axes[2:3].half(), axes[3:].half()]
    places = torch.stack([axes[1], torch.tensor([0.0, 0.0, 0.6, 0.8]), torch.tensor([0.0, 0.0, 0.0, -1.0])])
    assert nearest_by_keys(places, keys, 2, least=0.5, behind=1.0) == [[0], [2, 1], []]
    assert nearest_by_keys(places, keys, 1, least=0.5, behind=1.0) == [[0], [2], []]
    assert nearest_by_keys(places, keys, 2, least=0.5, behind=0.1) == [[0], [2], []]


def test_a_skill_without_its_depth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenModel, match="teach it again"):
        BiEncoder.load(tmp_path)
    (tmp_path / "bi_encoder.json").write_text('{"layer": null}')
    with pytest.raises(BrokenModel, match="teach it again"):
        BiEncoder.load(tmp_path)
