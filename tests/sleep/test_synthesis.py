"""Self-study on the tiny model: what is kept, what is held out, what may not change."""

from __future__ import annotations

import pytest

from tenure.config import EngineConfig
from tenure.model.engine import Engine
from tenure.model.language_model import LanguageModel
from tenure.sleep.checking import answer_margins, kinds_of, relevances
from tenure.sleep.curation import Source, source_id
from tenure.sleep.questions import KINDS
from tenure.sleep.synthesis import NUM_HELD_OUT, Synthesis, bare, pairs_of, synthesize
from tenure.types import Episode, Scope

ANN = Scope("acme", "ann")
TOLD = (
    "FYI, Imke Sand runs our Velden depot.",
    "The Orsa ferry leaves from pier 14.",
    "The code word for the alarm is 'lantern'.",
)


def source(text: str, number: int) -> Source:
    return Source(source_id(ANN, text), text, ANN, (f"turn_{number}",), 0.7, float(number))


@pytest.fixture(scope="module")
def engine(model: LanguageModel) -> Engine:
    return Engine(model, EngineConfig(max_batch=8, max_context_tokens=2048))


def test_scores_are_those_of_the_engine_however_the_list_is_split(model: LanguageModel, engine: Engine) -> None:
    questions = [f"Which depot number {i} does Imke Sand run in the north?" for i in range(12)]
    whole = relevances(engine, model.chat, [(TOLD[0], questions)])[0]
    alone = [relevances(engine, model.chat, [(TOLD[0], [question])])[0][0] for question in questions]
    assert len(whole) == 12
    for together, single in zip(whole, alone, strict=True):
        assert together.fluency == pytest.approx(single.fluency, abs=1e-4)
        assert together.gain == pytest.approx(single.gain, abs=1e-4)


def test_kinds_are_known_ones(model: LanguageModel, engine: Engine) -> None:
    found = kinds_of(engine, model.chat, [(TOLD[0], "Imke Sand"), (TOLD[1], "Orsa")])
    assert len(found) == 2 and set(found) <= set(KINDS)


def test_margins_compare_the_answers_of_one_statement(model: LanguageModel, engine: Engine) -> None:
    pairs = [("Who runs it?", "Imke Sand"), ("Which depot is it?", "Velden depot"), ("Who is it?", "Imke Sand")]
    margins, single = answer_margins(engine, model.chat, [(TOLD[0], pairs), (TOLD[1], [("Where?", "pier 14")])])
    assert len(margins) == 3 and single == [0.0]
    swapped = [(question, "Velden depot" if answer == "Imke Sand" else "Imke Sand") for question, answer in pairs]
    (other,) = answer_margins(engine, model.chat, [(TOLD[0], swapped)])
    assert [margin > 0 for margin in other] != [margin > 0 for margin in margins]


@pytest.fixture(scope="module")
def studied(model: LanguageModel, engine: Engine) -> Synthesis:
    sources = [source(text, i) for i, text in enumerate(TOLD)]
    return synthesize(engine, model.chat, sources, seed=3, budget_seconds=4.0)


def of(studied: Synthesis, text: str, kind: str, *, held_out: bool = False) -> list[Episode]:
    wanted = source_id(ANN, text)
    found = [e for e in studied.episodes if e.source_ids[0] == wanted and e.held_out is held_out]
    return [e for e in found if e.kind.startswith(kind)]


@pytest.mark.parametrize("text", TOLD)
def test_every_statement_gets_questions_held_out_ones_and_near_misses(studied: Synthesis, text: str) -> None:
    train, held = of(studied, text, "question"), of(studied, text, "question", held_out=True)
    near = of(studied, text, "near_miss")
    assert len(train) >= 6 and len(held) == NUM_HELD_OUT and len(near) >= 6
    for episode in (*train, *held):
        assert episode.answer.lower() in episode.target.lower()
        assert episode.context == episode.target
        assert episode.answer.lower() not in episode.messages[-1].content.lower()
        assert episode.source_ids[1:] and episode.scope == ANN
    assert all(episode.target == "" and episode.context == "" for episode in near)


def test_held_out_questions_are_not_trained_on_in_any_wording(studied: Synthesis) -> None:
    train = {e.messages[-1].content for e in studied.episodes if e.kind.startswith("question") and not e.held_out}
    held = [e.messages[-1].content for e in studied.episodes if e.held_out]
    assert held and not train & set(held)
    assert len({e.id for e in studied.episodes}) == len(studied.episodes)


def test_both_ends_of_a_relation_are_trained(studied: Synthesis) -> None:
    answers = {e.answer for e in of(studied, TOLD[0], "question")}
    assert {"Imke Sand", "Velden depot"} <= answers


def test_the_same_seed_gives_the_same_study(model: LanguageModel, engine: Engine, studied: Synthesis) -> None:
    sources = [source(text, i) for i, text in enumerate(TOLD)]
    # time decides how much the model writes; what the rules give and how it is dressed is a matter of the seed
    one, other = (synthesize(engine, model.chat, sources, seed=5, budget_seconds=0.0) for _ in range(2))
    assert one.episodes == other.episodes
    assert {e.id for e in one.episodes} != {e.id for e in studied.episodes}


def test_progress_reaches_its_end(model: LanguageModel, engine: Engine) -> None:
    told: list[tuple[int, int | None]] = []
    synthesize(
        engine,
        model.chat,
        [source(TOLD[0], 0)],
        seed=0,
        budget_seconds=0.0,
        progress=lambda _, done, total: told.append((done, total)),
    )
    assert told[-1][0] == told[-1][1] and [done for done, _ in told] == [0, 1, 2, 3]


def test_helpers_of_choice() -> None:
    assert bare("our Velden depot") == "Velden depot" and bare("'lantern'") == "lantern" and bare("the") == "the"
    assert ("^", "who") in pairs_of("Who runs it?")
