"""Clauses are taken apart and asked for by rules; every question says which words answer it."""

from __future__ import annotations

import random

import pytest

from tenure.context.lead_ins import statement_of
from tenure.modules.near_misses import names_of, neighbour, other_tasks
from tenure.sleep.clauses import active_of, parse_clause, swapped
from tenure.sleep.questions import cores_of, dressed


def asked(text: str, **kinds: str) -> dict[str, str]:
    named = {name.replace("_", " "): kind for name, kind in kinds.items()}
    return {core.direct: core.answer for core in cores_of(text, named)}


@pytest.mark.parametrize(
    ("text", "subject", "verb", "phrases"),
    [
        ("FYI, Imke Sand now runs our Velden depot.", "Imke Sand", "run", ["our Velden depot"]),
        ("Samples from the mine go to the chemist.", "Samples from the mine", "go", ["to the chemist"]),
        (
            "On Fridays the desk at Orsa Tower closes at 3 pm.",
            "the desk at Orsa Tower",
            "close",
            ["at 3 pm", "on Fridays"],
        ),
        ("My aunt Rosa is allergic to walnuts.", "My aunt Rosa", "be allergic", ["to walnuts"]),
        ("Red containers hold glass.", "Red containers", "hold", ["glass"]),
        ("The mill has to be oiled with Velo 7.", "The mill", "oil", ["with Velo 7"]),
    ],
)
def test_clauses(text: str, subject: str, verb: str, phrases: list[str]) -> None:
    clause = parse_clause(text)
    assert clause is not None
    assert (clause.subject, clause.verb, [p.whole for p in clause.phrases]) == (subject, verb, phrases)


def test_a_text_without_a_verb_is_no_clause() -> None:
    assert parse_clause("Velden depot, gate 12") is None


def test_lead_ins_and_trailers_go() -> None:
    assert (
        statement_of("By the way, just so you know: the mill opened in 1904, nothing else.")
        == "The mill opened in 1904"
    )


def test_other_views_of_a_clause() -> None:
    passive = parse_clause("Invoices over 900 euros have to be signed by Marek Olund.")
    equation = parse_clause("The code word for the alarm is lantern.")
    assert passive is not None and equation is not None
    active, exchanged = active_of(passive), swapped(equation)
    assert active is not None and active.text == "Marek Olund has to sign invoices over 900 euros"
    assert exchanged is not None and exchanged.text == "lantern is the code word for the alarm"
    assert active_of(equation) is None and swapped(passive) is None


def test_both_ends_of_a_relation_are_asked_for() -> None:
    found = asked("Imke Sand runs our Velden depot.", Imke_Sand="person")
    assert found["Who runs our Velden depot?"] == "Imke Sand"
    assert found["Which depot does Imke Sand run?"] == "our Velden depot"
    assert found["Which depot is Imke Sand in charge of?"] == "our Velden depot"
    assert found["Who is Imke Sand?"] == "our Velden depot"


@pytest.mark.parametrize(
    ("text", "question", "answer"),
    [
        ("The Orsa ferry leaves from pier 14.", "From which pier does the Orsa ferry leave?", "pier 14"),
        ("Our Orsa office opened in 2009.", "In what year did our Orsa office open?", "2009"),
        (
            "Parking at Gable Yard costs four euros a day.",
            "How much does parking at Gable Yard cost?",
            "four euros a day",
        ),
        ("The course lasts three days.", "How many days does the course last?", "three days"),
        ("The clinic closes at 6:40 pm on Mondays.", "At what time does the clinic close on Mondays?", "6:40 pm"),
        ("The paper is edited by Ines Corvo.", "Who edits the paper?", "Ines Corvo"),
        ("Quill is the code name of our rewrite.", "What is Quill the code name of?", "our rewrite"),
        ("The Moor trail is 17 kilometres long.", "How long is the Moor trail?", "17 kilometres long"),
        ("My aunt Rosa is allergic to walnuts.", "What is my aunt Rosa allergic to?", "walnuts"),
    ],
)
def test_questions_are_grammatical(text: str, question: str, answer: str) -> None:
    assert asked(text, Ines_Corvo="person")[question] == answer


def test_dressed_questions_vary_and_held_out_frames_are_their_own() -> None:
    rng = random.Random(0)
    cores = cores_of("Imke Sand runs our Velden depot.", {"Imke Sand": "person"})
    train = {dressed(rng.choice(cores), rng).form for _ in range(400)}
    held = {dressed(rng.choice(cores), rng, held_out=True).form for _ in range(400)}
    assert len(train) > 25 and len(held) > 8
    assert not train & held


def test_dressed_multi_turn_questions_end_with_the_user() -> None:
    rng = random.Random(1)
    cores = cores_of("Imke Sand runs our Velden depot.", {"Imke Sand": "person"})
    several = [draft for draft in (dressed(rng.choice(cores), rng) for _ in range(200)) if len(draft.messages) > 1]
    assert several
    assert all([m.role for m in draft.messages] == ["user", "assistant", "user"] for draft in several)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Who runs our Velden depot?", ("Velden",)),
        ("What must be oiled with Velo 7?", ("Velo 7",)),
        ("The depot opens at nine.", ()),
        ("Imke Sand and Vesk & Daughters met.", ("Imke Sand", "Vesk & Daughters")),
    ],
)
def test_names(text: str, names: tuple[str, ...]) -> None:
    assert names_of(text) == names


def test_a_neighbour_differs_in_one_place() -> None:
    rng = random.Random(0)
    for question in ("Who runs our Velden depot?", "What costs 900 euros?", "Where is the spare key kept?"):
        for _ in range(20):
            other = neighbour(question, rng)
            assert other and other != question
            assert set(other.split()) & set(question.split())


def test_other_tasks_name_the_thing_and_ask_nothing_told() -> None:
    tasks = other_tasks(["Velden"], ["depot"], [], random.Random(0), 8)
    assert len(tasks) >= 6
    assert all("velden" in task.lower() or "depot" in task.lower() for task in tasks)
    assert other_tasks([], [], [], random.Random(0), 8) == []
