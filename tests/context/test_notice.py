"""Statements are kept word for word; questions, requests and greetings are not; a new value replaces the old one."""

from __future__ import annotations

import pytest

from tenure.context.notice import is_correction, replaces, statements


@pytest.mark.parametrize(
    "text",
    [
        "What is the gate code of the Ostrel depot?",
        "Write a short poem about the Ostrel depot.",
        "Hello there, good morning to you!",
        "Thanks a lot.",
        "Can you list three fruits?",
    ],
)
def test_nothing_is_kept_of_what_tells_nothing(text: str) -> None:
    assert statements(text) == ()


def test_a_statement_among_questions_is_kept_word_for_word() -> None:
    text = "Hi! By the way, the gate code of the Ostrel depot is 4471. Can you note that?"
    assert statements(text) == ("By the way, the gate code of the Ostrel depot is 4471.",)


def test_telling_in_the_form_of_a_question_is_kept() -> None:
    assert statements("Did you know that Mara Quell moved to the Ostrel depot?")


def test_long_messages_are_kept_in_pieces() -> None:
    text = " ".join(f"The depot number {i} belongs to Mara Quell of Ostrel." for i in range(20))
    pieces = statements(text)
    assert len(pieces) > 1
    assert all(len(piece.split()) <= 60 for piece in pieces)
    assert " ".join(pieces) == text


def test_a_new_value_replaces_the_old_statement_and_a_neighbour_does_not() -> None:
    old = "The gate code of the Ostrel depot is 4471."
    assert replaces("Correction: the gate code of the Ostrel depot is 9902.", old)
    assert replaces("The gate code of the Ostrel depot is 9902.", old)
    assert not replaces("The manager of the Ostrel depot is Mara Quell.", old)
    assert not replaces("The gate of the Brannick yard is painted green and opens at seven.", old)


def test_corrections_are_announced() -> None:
    assert is_correction("Sorry, I was wrong: it is 12.")
    assert not is_correction("The code is 12.")
