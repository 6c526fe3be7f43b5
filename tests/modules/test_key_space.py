"""Keys: a space that is the same for the same base, in which like texts are near, and which survives a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tenure.config import EngineConfig
from tenure.model.engine import Engine
from tenure.model.language_model import LanguageModel
from tenure.modules.keys import KeySpace, nearest_by_keys
from tenure.modules.skills import neutral_prompts
from tenure.types import Message


@pytest.fixture(scope="module")
def engine(model: LanguageModel) -> Engine:
    return Engine(model, EngineConfig())


@pytest.fixture(scope="module")
def space(model: LanguageModel, engine: Engine) -> KeySpace:
    return KeySpace.fit(engine, model.chat)


def test_places_have_length_one_and_like_texts_lie_together(
    model: LanguageModel, engine: Engine, space: KeySpace
) -> None:
    texts = ["Who runs our Velden depot?", "Who runs the Velden depot?", "What is the weight of a whale?"]
    places_NC = space.places_of_texts(engine, model.chat, texts)
    torch.testing.assert_close(places_NC.norm(dim=1), torch.ones(3))
    assert places_NC[0] @ places_NC[1] > places_NC[0] @ places_NC[2]


def test_ordinary_questions_are_white_in_it(model: LanguageModel, engine: Engine, space: KeySpace) -> None:
    prompts = [tuple(model.chat.encode_text(text, begin=True)) for text in neutral_prompts()]
    states_NC = torch.stack([s_TC[1:].mean(0) for s_TC in engine.hidden_states(prompts, layer=space.layer)])
    raw, white = (torch.linalg.eigvalsh(torch.cov(x.T)) for x in (states_NC, states_NC @ space.whitening_CC))
    assert white[-1] / white.median() < 0.2 * raw[-1] / raw.median()


def test_what_the_model_said_has_no_place(model: LanguageModel, engine: Engine, space: KeySpace) -> None:
    asked = (Message("user", "The depot?"), Message("assistant", "Which?"), Message("user", "Velden."))
    other = (asked[0], Message("assistant", "A whale, you mean."), asked[2])
    one, two = space.places(engine, model.chat, [asked, other])
    assert torch.equal(one, two)
    assert not torch.equal(one, space.places(engine, model.chat, [asked[2:]])[0])


def test_the_nearest_sets_of_keys_are_found_if_they_are_near_enough() -> None:
    axes = torch.eye(4)
    keys = [axes[:2].half(), axes[2:3].half(), axes[3:].half()]
    places = torch.stack([axes[1], torch.tensor([0.0, 0.0, 0.6, 0.8]), torch.tensor([0.0, 0.0, 0.0, -1.0])])
    assert nearest_by_keys(places, keys, 2, 0.5) == [[0], [2, 1], []]
    assert nearest_by_keys(places, keys, 1, 0.5) == [[0], [2], []]


def test_a_space_is_fitted_alike_and_survives_a_file(
    model: LanguageModel, engine: Engine, space: KeySpace, tmp_path: Path
) -> None:
    again = KeySpace.fit(engine, model.chat)
    space.save(tmp_path / "space.safetensors")
    for other in (again, KeySpace.load(tmp_path / "space.safetensors")):
        assert other.layer == space.layer
        assert torch.equal(other.mean_C, space.mean_C) and torch.equal(other.whitening_CC, space.whitening_CC)
