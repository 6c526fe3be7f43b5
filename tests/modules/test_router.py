"""The router fires on what a module was taught, abstains on the rest, and is the same after a round trip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tenure.config import EngineConfig
from tenure.errors import BrokenModel, LearnError
from tenure.model.engine import Engine
from tenure.model.language_model import LanguageModel
from tenure.modules.detector import Detector, fit_detector
from tenure.modules.evidence import evidence_of, knowledge_of, match_of, said
from tenure.modules.router import Router
from tenure.store.digests import digest_directory
from tenure.types import Episode, Message, Scope

ANN = Scope("acme", "ann")
MODULE, OTHER = "a" * 64, "b" * 64
MODULES = {"src_0": MODULE, "src_1": "c" * 64, "src_2": "d" * 64}
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
def engine(model: LanguageModel) -> Engine:
    return Engine(model, EngineConfig())


@pytest.fixture(scope="module")
def detector(model: LanguageModel, engine: Engine) -> Detector:
    return fit_detector(engine, model.chat, MODULES, episodes(), seed=1)


def fires(router: Router, engine: Engine, model: LanguageModel, texts: list[str]) -> list[str]:
    """The module that each text is answered with; "" for none."""
    chosen = router.choose_many(engine, model.chat, [ask(text) for text in texts], allowed=router.modules)
    return [choice.module if choice is not None and choice.fires else "" for choice in chosen]


def test_it_tells_what_it_was_taught_from_what_it_was_not(
    model: LanguageModel, engine: Engine, detector: Detector
) -> None:
    router = Router.empty().with_detector(detector)
    asked = episodes()
    chosen = router.choose_many(engine, model.chat, [e.messages for e in asked], allowed=router.modules)
    pairs = list(zip(asked, chosen, strict=True))
    about = [choice for e, choice in pairs if e.kind != "near_miss" and choice]
    near = [choice.margin for e, choice in pairs if e.kind == "near_miss" and choice]
    assert len(about) == 7 and near
    assert [choice.module for choice in about] == [MODULES[e.source_ids[0]] for e in asked if e.kind != "near_miss"]
    assert sum(a.margin > n for a in about for n in near) > 0.9 * len(about) * len(near)


def test_it_abstains_on_what_shares_no_word(model: LanguageModel, engine: Engine, detector: Detector) -> None:
    router = Router.empty().with_detector(detector)
    assert fires(router, engine, model, ["How do birds find their way?", "hm", ""]) == [""] * 3
    assert router.choose(engine, model.chat, ask("How do birds find their way?"), allowed=router.modules) is None
    assert Router.empty().choose(engine, model.chat, ask("Who runs Velden?"), allowed={MODULE}) is None


def test_modules_that_the_asker_may_not_use_are_never_chosen(
    model: LanguageModel, engine: Engine, detector: Detector
) -> None:
    theirs = replace(detector, threshold=-1e9, known=tuple(replace(k, module=OTHER) for k in detector.known))
    router = Router.empty().with_detector(detector).with_detector(theirs)
    question = ask("Who runs our Velden depot?")
    assert router.choose(engine, model.chat, question, allowed=()) is None
    for allowed, chosen in (({OTHER}, OTHER), ({MODULE}, MODULE), ({MODULE, OTHER}, OTHER)):
        choice = router.choose(engine, model.chat, question, allowed=allowed)
        assert choice is not None and choice.module == chosen, "the one that clears its threshold by more"


def test_a_request_is_decided_as_if_it_came_alone(model: LanguageModel, engine: Engine, detector: Detector) -> None:
    router = Router.empty().with_detector(detector)
    prompts = [e.messages for e in episodes()]
    together = router.choose_many(engine, model.chat, prompts, allowed=router.modules)
    for messages, choice in zip(prompts, together, strict=True):
        alone = router.choose(engine, model.chat, messages, allowed=router.modules)
        assert (alone and alone.module) == (choice and choice.module)
        assert alone is None or choice is None or alone.margin == pytest.approx(choice.margin, abs=1e-4)


def test_save_and_load(tmp_path: Path, model: LanguageModel, engine: Engine, detector: Detector) -> None:
    theirs = replace(detector, threshold=3.0, known=tuple(replace(k, module=OTHER) for k in detector.known))
    router = Router.empty().with_detector(detector).with_detector(theirs)
    router.save(tmp_path / "one")
    router.save(tmp_path / "two")
    assert digest_directory(tmp_path / "one") == digest_directory(tmp_path / "two")
    again = Router.load(tmp_path / "one")
    assert again.modules == router.modules == {*MODULES.values(), OTHER}
    prompts = [e.messages for e in episodes()]
    for allowed in (set(MODULES.values()), {OTHER}):
        before, after = (r.choose_many(engine, model.chat, prompts, allowed=allowed) for r in (router, again))
        assert before == after and any(before)


def test_modules_are_taken_out_and_replaced(model: LanguageModel, engine: Engine, detector: Detector) -> None:
    router = Router.empty().with_detector(detector)
    assert router.without({MODULE}).modules == set(MODULES.values()) - {MODULE}
    assert router.without(MODULES.values()).detectors == ()
    assert fires(router, engine, model, ["Who runs our Velden depot?"]) != fires(
        router.without({MODULE}), engine, model, ["Who runs our Velden depot?"]
    )
    again = router.with_detector(replace(detector, threshold=3.0))
    assert [d.threshold for d in again.detectors] == [3.0]


@pytest.mark.parametrize(
    "broken", ["{", '{"format": "tenure-router-1", "detectors": []}', '{"format": "tenure-router-2"}']
)
def test_broken_files_are_refused(tmp_path: Path, broken: str) -> None:
    (tmp_path / "router.json").write_text(broken, "utf8")
    with pytest.raises(BrokenModel, match="fit it again"):
        Router.load(tmp_path)
    with pytest.raises(BrokenModel):
        Router.load(tmp_path / "nowhere")


def test_the_same_seed_fits_the_same_detector(model: LanguageModel, engine: Engine, detector: Detector) -> None:
    again = fit_detector(engine, model.chat, MODULES, episodes(), seed=1)
    assert again.threshold == detector.threshold
    assert all(torch.equal(again.weights[name], tensor) for name, tensor in detector.weights.items())


def test_nothing_taught_is_an_error(model: LanguageModel, engine: Engine) -> None:
    with pytest.raises(LearnError, match="no question episodes"):
        fit_detector(engine, model.chat, MODULES, [e for e in episodes() if e.kind == "near_miss"])


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
    pasted = f"Who runs Velden? {'d ' * 5000} Who pays for it?"
    long = (Message("system", "x" * 900), Message("user", "a b " * 5000), Message("assistant", "c"), *ask(pasted))
    before, last = said(long)
    assert len(before) < 410 and len(last) < 410 and "x" not in before
    assert last.startswith("Who runs Velden?") and last.endswith("Who pays for it?")
    assert evidence_of(engine, model.chat, [("Imke Sand runs it.", long)], layer=1).shape == (1, 128)
