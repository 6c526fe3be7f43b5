"""The skill of matching: what is taught is what an engine computes, and a router carries it with it."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tenure.config import EngineConfig
from tenure.errors import BrokenModel, LearnError
from tenure.model.engine import Engine
from tenure.model.language_model import LanguageModel
from tenure.model.lowrank import Placement
from tenure.model.training import Schedule
from tenure.modules.bi_encoder import BiEncoder
from tenure.modules.calibration import calibrate, threshold_at
from tenure.modules.cross_encoder import CrossEncoder
from tenure.modules.detector import read_detector
from tenure.modules.find_lesson import facts_to_place, teach_finding
from tenure.modules.match_lesson import lesson_pairs, renamed, teach_matching
from tenure.modules.near_misses import alike
from tenure.modules.router import Router
from tenure.modules.skills import WrittenFact, conversation
from tenure.types import Episode, Scope

FACTS = (
    WrittenFact(
        "Imke Sand runs our Velden depot.",
        (("Who runs the Velden depot?",), ("What does Imke Sand run?",)),
        (("How many letters are in Velden?",), ("Who runs the Harrow depot?",)),
    ),
    WrittenFact(
        "The Orsa ferry leaves from pier 14.",
        (("Where does the Orsa ferry leave?",), ("We take the ferry.", "Orsa?", "Yes. Which pier?")),
        (("Who steers the Orsa ferry?",), ("Translate 'pier 14' into French.",)),
    ),
)
LAYER = 1


@pytest.fixture(scope="module")
def taught(model: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("matching") / "matching"
    pairs = lesson_pairs(model, FACTS, ["What is rain?"], seed=0)
    assert {pair.answers for pair in pairs} == {True, False}
    teach_matching(
        model,
        pairs,
        directory,
        placement=Placement(rank=4, alpha=8.0, last_layer=LAYER - 1),
        schedule=Schedule(num_steps=120, learning_rate=1e-2),
        layer=LAYER,
    )
    teach_finding(
        model,
        facts_to_place(model, FACTS),
        directory.parent / "finding",
        placement=Placement(rank=4, alpha=8.0, last_layer=LAYER - 1),
        schedule=Schedule(num_steps=30, learning_rate=1e-2),
        layer=LAYER,
    )
    shares = calibrate(Engine(model, EngineConfig()), model.chat, FACTS, directory, directory.parent / "finding")
    assert shares[0] > shares[1] and CrossEncoder.load(directory).threshold != 0
    return directory


@pytest.fixture
def engine(model: LanguageModel, taught: Path) -> Engine:
    engine = Engine(model, EngineConfig())
    for skill in (CrossEncoder.load(taught), BiEncoder.load(taught.parent / "finding")):
        engine.add_attachment(skill.name, skill.directory)
    return engine


def test_exchanged_names_make_strangers_on_one_side_and_nothing_new_on_both() -> None:
    found = [triple for seed in range(40) for triple in renamed(FACTS[0], random.Random(seed))]
    assert {about for _, _, about in found} == {True, False}
    for statement, messages, about in found:
        original = FACTS[0].statement
        asked = messages[-1].content
        assert about == (statement != original and asked not in {texts[-1] for texts in FACTS[0].about})
        if about:
            words = {word.strip(".?") for word in statement.split()} - {word.strip(".?") for word in original.split()}
            assert words & {word.strip(".?") for word in asked.split()}
    assert all(other != "Velden" for other in (alike("Velden", random.Random(seed)) for seed in range(200)))


def test_it_tells_questions_from_near_misses_as_it_was_taught(
    model: LanguageModel, engine: Engine, taught: Path
) -> None:
    encoder = CrossEncoder.load(taught)
    about = [(fact.statement, conversation(texts)) for fact in FACTS for texts in fact.about]
    near = [(fact.statement, conversation(texts)) for fact in FACTS for texts in fact.near]
    scores_N = encoder.scores(engine, model.chat, [*about, *near])
    assert scores_N[: len(about)].min() > scores_N[len(about) :].max()
    one_by_one = torch.cat([encoder.scores(engine, model.chat, [pair]) for pair in (*about, *near)])
    torch.testing.assert_close(one_by_one, scores_N)
    bare = Engine(model, EngineConfig())
    bare.add_attachment(encoder.name, _silent(taught))
    assert not torch.allclose(encoder.scores(bare, model.chat, about), scores_N[: len(about)])


def _silent(taught: Path) -> Path:
    """The same adapter with every value zero: what the test would see if attachments were left out."""
    from safetensors.torch import load_file, save_file

    aside = taught.parent / "silent"
    aside.mkdir(exist_ok=True)
    (aside / "adapter_config.json").write_bytes((taught / "adapter_config.json").read_bytes())
    tensors = load_file(taught / "adapter_model.safetensors")
    save_file({name: torch.zeros_like(tensor) for name, tensor in tensors.items()}, aside / "adapter_model.safetensors")
    return aside


def test_a_router_carries_it_and_decides_the_same_after_a_round_trip(
    model: LanguageModel, engine: Engine, taught: Path, tmp_path: Path
) -> None:
    encoder = CrossEncoder.load(taught)
    episodes = [
        Episode(f"e{i}", conversation(f.about[0]), f.statement, f.statement, (f"s{i}",), Scope("a", "b"))
        for i, f in enumerate(FACTS)
    ]
    modules = {"s0": "m" * 64, "s1": "n" * 64}
    finder = BiEncoder.load(taught.parent / "finding")
    detector = read_detector(engine, model.chat, modules, episodes, encoder=encoder, finder=finder)
    router = Router.empty().reading_with(encoder, finder).with_detector(detector)
    prompts = [conversation(texts) for fact in FACTS for texts in (*fact.about, *fact.near)]
    chosen = router.choose_many(engine, model.chat, prompts, allowed=router.modules)
    fired = [choice.module[0] if choice is not None and choice.fires else "" for choice in chosen]
    assert fired == ["m", "m", "", "", "n", "n", "", ""]
    router.save(tmp_path / "router")
    again = Router.load(tmp_path / "router")
    assert again.attachments.keys() == {encoder.name, finder.name}
    assert again.choose_many(engine, model.chat, prompts, allowed=router.modules) == chosen
    only = router.choose_many(engine, model.chat, prompts, allowed={"n" * 64})
    assert {choice.module for choice in only if choice is not None} == {"n" * 64}
    with pytest.raises(LearnError, match="no question episodes"):
        read_detector(engine, model.chat, modules, [], encoder=encoder, finder=finder)


def test_a_statement_that_shares_no_word_is_found_by_its_keys(
    model: LanguageModel, engine: Engine, taught: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, finder = CrossEncoder.load(taught), BiEncoder.load(taught.parent / "finding")
    asked = conversation(["Where do the boats go from?"])
    episodes = [
        Episode(f"e{i}", messages, fact.statement, fact.statement, (f"s{i}",), Scope("a", "b"))
        for i, (fact, messages) in enumerate(zip(FACTS, (conversation(FACTS[0].about[0]), asked), strict=True))
    ]
    detector = read_detector(
        engine, model.chat, {"s0": "m" * 64, "s1": "n" * 64}, episodes, encoder=encoder, finder=finder
    )
    wordless = replace(detector, known=tuple(replace(k, terms={}) for k in detector.known))
    read: list[str] = []
    scores = CrossEncoder.scores

    def noting(self: CrossEncoder, *a: Any) -> torch.Tensor:
        read.extend(statement for statement, _ in a[2])
        return scores(self, *a)

    monkeypatch.setattr(CrossEncoder, "scores", noting)
    router = Router.empty().reading_with(encoder, finder).with_detector(wordless)
    assert router.choose(engine, model.chat, asked, allowed=router.modules) is not None
    assert read[0] == FACTS[1].statement
    read.clear()
    assert replace(router, finder=None).choose(engine, model.chat, asked, allowed=router.modules) is None
    assert not read
    assert router.choose(engine, model.chat, conversation([" "]), allowed=router.modules) is None


@pytest.mark.parametrize(("share", "fire"), [(0.0, 0), (0.02, 2), (0.029, 2), (0.5, 50)])
def test_the_threshold_lets_no_more_near_misses_through_than_allowed(share: float, fire: int) -> None:
    near_N = torch.randn(100, generator=torch.Generator().manual_seed(1))
    threshold = threshold_at(near_N, share)
    assert int((near_N >= threshold).sum()) == fire
    assert int((near_N >= torch.nextafter(torch.tensor(threshold), -torch.tensor(torch.inf))).sum()) == fire + 1


def test_a_broken_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokenModel, match="teach it again"):
        CrossEncoder.load(tmp_path)
