"""How answers are marked: the normal form, whole words, denials and rejected strings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenure.gates.marking import is_right, normal_words, says


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("The code is 4,471.", "4471"),
        ("The code is 4471", "4,471"),
        ("1 234 567 inhabitants", "1234567"),
        ("It costs $4.50 a piece", "4.5"),
        ("It costs 12 euros", "€12"),
        ("It weighs 12kg.", "12 kg"),
        ("on the 3rd", "3"),
        ("At 06:40, from pier 9.", "06:40"),
        ("about 12.5% of it", "12.5 percent"),
        ("It is minus five: -5 degrees", "-5"),
        ("DUNSTAN AMES, I believe.", "Dunstan Ames"),
        ("that is Brennan's job", "Brennan"),
        ("the Café Zoë", "cafe zoe"),
        ("a night-porter", "the night porter"),
        ("**Harrow Mill**", "harrow mill"),
        ("It isn't Lund but Okafor.", "Okafor"),
    ],
)
def test_right(answer: str, wanted: str) -> None:
    assert says(answer, wanted)


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ("It costs 44,710", "4471"),
        ("It is 12.5", "12"),
        ("It is 12.5", "5"),
        ("at 12:30", "12"),
        ("code B17", "17"),
        ("room 1440", "144"),
        ("5 degrees", "-5"),
        ("Amesbury", "Ames"),
        ("Ames, Dunstan", "Dunstan Ames"),
        ("It is not Okafor.", "Okafor"),
        ("It never was, nor Okafor", "Okafor"),
        ("", "Okafor"),
        ("anything", ""),
        ("anything", "the"),
    ],
)
def test_wrong(answer: str, wanted: str) -> None:
    assert not says(answer, wanted)


def test_a_rejected_string_outweighs_an_accepted_one() -> None:
    assert is_right("Ames or Lund", ["Ames"])
    assert not is_right("Ames or Lund", ["Ames"], ["Lund"])
    assert is_right("Ames, not Lund", ["Ames"], ["Lund"])
    assert is_right("I'd say Lund.", ["Ames", "Lund"])


@given(st.text(max_size=60))
def test_normal_form_survives_case_and_spaces(text: str) -> None:
    words = normal_words(text)
    assert all(word and not word.isspace() for word in words)
    assert normal_words("  " + text + " . ") == words


@given(st.integers(0, 10**12))
def test_grouping_of_digits_does_not_matter(number: int) -> None:
    assert says(f"It is {number:,}.", str(number))
    assert says(f"It is {number}.", f"{number:,}")
    assert not says(f"It is {number}0.", str(number))
