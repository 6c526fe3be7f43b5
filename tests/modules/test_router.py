"""The router fires on what a module was taught, abstains on the rest, and is the same after a round trip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tenure.config import EngineConfig
from tenure.errors import BrokenModel, LearnError
from tenure.model.engine import Engine
from tenure.model.language_model import LanguageModel, load_language_model
from tenure.modules.detector import Detector, fit_detector
from tenure.modules.evidence import evidence_of, knowledge_of, match_of, said
from tenure.modules.router import Router
from tenure.store.digests import digest_directory
from tenure.types import AttachmentUse, Episode, Message, Scope

ANN = Scope("acme", "ann")
MODULE, OTHER = "a" * 64, "b" * 64
TOLD = {
    "Imke Sand runs our Velden depot.": [
        "Who runs our Velden depot?",
        "What does Imke Sand run?",
        "Tell me who runs Velden.",
    ],
    "The Orsa ferry leaves from pier 14.": ["Which pier does the Orsa ferry leave from?", "What leaves from pier 14?"],
    "Red containers hold copper scrap.": ["What do red containers hold?", "Where does copper scrap go?"],
}
NEAR = ["Write a poem about Velden.", "Who runs our Harrow depot?", "How many letters are in Orsa?", "What is copper?"]


def ask(text: str) -> tuple[Message, ...]:
    return (Message("user", text),)


def episodes() -> list[Episode]:
    found = []
    for i, (statement, questions) in enumerate(TOLD.items()):
        for j, text in enumerate(questions):
            ids = (f"src_{i}", f"turn_{i}")
            found.append(Episode(f"q{i}{j}", ask(text), statement, statement, ids, ANN, kind="question/rule"))
    found += [
        Episode(f"n{j}", ask(text), "", "", ("src_0", "turn_0"), ANN, kind="near_miss") for j, text in enumerate(NEAR)
    ]
    return found


@pytest.fixture(scope="module")
def model(tiny_model_directory: Path) -> LanguageModel:
    torch.set_num_threads(1)
    return load_language_model(tiny_model_directory, precision="fp32", threads=1)


@pytest.fixture(scope="module")
def engine(model: LanguageModel) -> Engine:
    return Engine(model, EngineConfig())


@pytest.fixture(scope="module")
def detector(model: LanguageModel, engine: Engine) -> Detector:
    return fit_detector(engine, model.chat, MODULE, episodes(), seed=1)


def fires(router: Router, engine: Engine, model: LanguageModel, texts: list[str]) -> list[bool]:
    chosen = router.choose_many(engine, model.chat, [ask(text) for text in texts], allowed={MODULE})
    return [uses == (AttachmentUse(MODULE),) for uses in chosen]


def test_it_tells_what_it_was_taught_from_what_it_was_not(
    model: LanguageModel, engine: Engine, detector: Detector
) -> None:
    router = Router.empty().with_detector(detector)
    scores = router.scores(engine, model.chat, [e.messages for e in episodes()], detector)
    about = [scores[i] for i, e in enumerate(episodes()) if e.kind != "near_miss" and i in scores]
    near = [scores[i] for i, e in enumerate(episodes()) if e.kind == "near_miss" and i in scores]
    assert len(about) == 7 and near
    assert sum(a > n for a in about for n in near) > 0.9 * len(about) * len(near)


def test_it_abstains_on_what_shares_no_word(model: LanguageModel, engine: Engine, detector: Detector) -> None:
    router = Router.empty().with_detector(detector)
    assert router.scores(engine, model.chat, [ask("How do birds find their way?")], detector) == {}
    assert fires(router, engine, model, ["How do birds find their way?", "hm", ""]) == [False] * 3
    assert Router.empty().choose(engine, model.chat, ask("Who runs Velden?"), allowed={MODULE}) == ()


def test_modules_that_the_asker_may_not_use_are_never_chosen(
    model: LanguageModel, engine: Engine, detector: Detector
) -> None:
    eager = replace(detector, threshold=-1e9)
    router = Router.empty().with_detector(eager).with_detector(replace(eager, module=OTHER))
    question = ask("Who runs our Velden depot?")
    assert router.choose(engine, model.chat, question, allowed=()) == ()
    assert router.choose(engine, model.chat, question, allowed={OTHER}) == (AttachmentUse(OTHER),)
    assert len(router.choose(engine, model.chat, question, allowed={MODULE, OTHER})) == 2


def test_a_request_is_decided_as_if_it_came_alone(model: LanguageModel, engine: Engine, detector: Detector) -> None:
    router = Router.empty().with_detector(detector)
    prompts = [e.messages for e in episodes()]
    together = router.scores(engine, model.chat, prompts, detector)
    alone = {i: router.scores(engine, model.chat, [prompts[i]], detector)[0] for i in together}
    assert together == pytest.approx(alone, abs=1e-4)


def test_save_and_load(tmp_path: Path, model: LanguageModel, engine: Engine, detector: Detector) -> None:
    router = Router.empty().with_detector(detector).with_detector(replace(detector, module=OTHER, threshold=3.0))
    router.save(tmp_path / "one")
    router.save(tmp_path / "two")
    assert digest_directory(tmp_path / "one") == digest_directory(tmp_path / "two")
    again = Router.load(tmp_path / "one")
    assert [d.module for d in again.detectors] == [MODULE, OTHER]
    prompts = [e.messages for e in episodes()]
    for old, new in zip(router.detectors, again.detectors, strict=True):
        assert router.scores(engine, model.chat, prompts, old) == again.scores(engine, model.chat, prompts, new)
    assert [d.module for d in again.without({MODULE}).detectors] == [OTHER]
    assert len(again.with_detector(detector).detectors) == 2


@pytest.mark.parametrize(
    "broken", ["{", '{"format": "tenure-router-0", "detectors": []}', '{"format": "tenure-router-1"}']
)
def test_broken_files_are_refused(tmp_path: Path, broken: str) -> None:
    (tmp_path / "router.json").write_text(broken, "utf8")
    with pytest.raises(BrokenModel, match="fit it again"):
        Router.load(tmp_path)
    with pytest.raises(BrokenModel):
        Router.load(tmp_path / "nowhere")


def test_the_same_seed_fits_the_same_detector(model: LanguageModel, engine: Engine, detector: Detector) -> None:
    again = fit_detector(engine, model.chat, MODULE, episodes(), seed=1)
    assert again.threshold == detector.threshold
    assert all(torch.equal(again.weights[name], tensor) for name, tensor in detector.weights.items())


def test_nothing_taught_is_an_error(model: LanguageModel, engine: Engine) -> None:
    with pytest.raises(LearnError, match="no question episodes"):
        fit_detector(engine, model.chat, MODULE, [e for e in episodes() if e.kind == "near_miss"])


def test_the_nearest_statement_goes_by_rare_words(model: LanguageModel) -> None:
    known = [knowledge_of(model.chat, statement, questions) for statement, questions in TOLD.items()]
    assert match_of(model.chat, known, ask("Is pier 14 for the Orsa ferry?")).index == 1
    assert match_of(model.chat, known, ask("Where to with copper?")).index == 2
    assert match_of(model.chat, known, ask("Nothing of that.")).overlap == 0.0
    before = (Message("user", "We load the ferry to Orsa."), Message("assistant", "Fine."), *ask("Which pier is it?"))
    assert match_of(model.chat, known, before).index == 1


def test_a_strange_name_shows_in_the_words(model: LanguageModel) -> None:
    known = [knowledge_of(model.chat, statement, questions) for statement, questions in TOLD.items()]
    same = match_of(model.chat, known, ask("Who runs our Velden depot?")).lexical
    other = match_of(model.chat, known, ask("Who runs our Harrow depot?")).lexical
    assert same[5] == 0 and other[5] == 1
    assert same[2] > other[2] and same[3] > other[3]


def test_long_requests_are_cut(model: LanguageModel, engine: Engine) -> None:
    long = (Message("system", "x" * 900), Message("user", "a b " * 5000), Message("assistant", "c"), *ask("d " * 5000))
    before, last = said(long)
    assert len(before) == 600 and len(last) == 600 and "x" not in before
    assert evidence_of(engine, model.chat, [("Imke Sand runs it.", long)], layer=1).shape == (1, 128)
