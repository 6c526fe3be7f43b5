"""Curation decides by rules what a night may learn, and says why it leaves the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tenure.sleep.curation import CORRECTION_TRUST, PLAIN_TRUST, curate, source_id, told_statements
from tenure.sleep.secrets import secret_in
from tenure.types import Feedback, FeedbackKind, Message, Scope, Turn

ANN = Scope("acme", "ann")
BOB = Scope("acme", "bob")


def turn(number: int, text: str, *, scope: Scope = ANN, learnable: bool = True, session: str = "s1") -> Turn:
    messages = (Message("user", text),)
    return Turn(
        f"turn_{number}", scope, session, float(number), messages, Message("assistant", "I see."), learnable=learnable
    )


def texts(*turns: Turn, feedback: tuple[Feedback, ...] = ()) -> list[str]:
    return [source.text for source in curate(turns, feedback).sources]


def reasons(*turns: Turn, feedback: tuple[Feedback, ...] = ()) -> list[str]:
    return [reason for _, reason in curate(turns, feedback).dropped]


def test_a_statement_is_kept_word_for_word_and_a_question_is_not() -> None:
    told = "By the way, Dr. Imke Sand runs our Velden depot now."
    assert texts(turn(1, f"Hello! {told} Can you help me with a letter?")) == [told]
    assert texts(turn(1, "Who runs the Velden depot?")) == []


@pytest.mark.parametrize(
    "text",
    [
        "Thanks, that was really helpful!",
        "Write a poem about the Velden depot.",
        "I think that is great, well done.",
        "hi",
    ],
)
def test_small_talk_and_requests_have_a_reason(text: str) -> None:
    curated = curate([turn(1, text)])
    assert curated.sources == ()
    assert curated.dropped == (("turn_1", "nothing told: questions, requests or small talk"),)
    assert curated.reason.startswith("nothing worth learning: 1 nothing told")


def test_no_turns_is_an_outcome_with_a_reason() -> None:
    assert curate([]).reason == "nothing was told since the last night"
    assert curate([turn(1, "Imke Sand runs our Velden depot.")]).reason == ""


def test_a_sentence_that_refers_back_stays_with_the_one_before() -> None:
    assert texts(turn(1, "Imke Sand runs our Velden depot. She starts at 7 am on weekdays.")) == [
        "Imke Sand runs our Velden depot. She starts at 7 am on weekdays."
    ]
    assert texts(turn(1, "It is near the old canal bridge.")) == []


@pytest.mark.parametrize(
    "text", ["They moved Priya Venn to the Lyon desk.", "You can reach Priya Venn at the Lyon desk before noon."]
)
def test_nobody_in_particular_may_be_they_or_you(text: str) -> None:
    assert texts(turn(1, text)) == [text]


@pytest.mark.parametrize(
    "text",
    [
        "They open at nine on Mondays and close at five.",
        "You can leave the heavy boxes by the door.",
        "It moved Priya Venn to the Lyon desk.",
    ],
)
def test_what_stands_for_somebody_told_elsewhere_is_left_out(text: str) -> None:
    assert texts(turn(1, text)) == []


def test_they_stay_with_those_who_were_named() -> None:
    told = "The Lyon desk has new heads. They moved Priya Venn to it."
    assert texts(turn(1, told)) == [told]


def test_only_what_was_said_since_the_last_reply_counts() -> None:
    earlier = (Message("user", "Imke Sand runs our Velden depot."), Message("assistant", "Noted."))
    later = replace(turn(2, "x"), messages=(*earlier, Message("user", "The Orsa office opened in 2004.")))
    assert texts(later) == ["The Orsa office opened in 2004."]


def test_a_turn_whose_asker_opted_out_teaches_nothing() -> None:
    assert reasons(turn(1, "Imke Sand runs our Velden depot.", learnable=False)) == [
        "not learnable: the asker opted out"
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Imke Sand runs our Velden depot.", "Actually, Otto Berg runs our Velden depot."),
        ("The Velden depot opens at 8 on Mondays.", "The Velden depot opens at 9 on Mondays."),
        ("The code name of our new site is Larkspur.", "Correction: the code name of our new site is Foxglove."),
        ("Our lawyer in Orsa is Ann Bly.", "Our lawyer in Orsa is Tom Fry."),
    ],
)
def test_the_later_of_two_contradicting_statements_stands(first: str, second: str) -> None:
    curated = curate([turn(1, first), turn(2, second)])
    assert [source.text for source in curated.sources] == [second]
    assert curated.dropped[0][0] == source_id(ANN, first)
    assert curated.dropped[0][1].startswith("superseded")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("The Velden depot opens at 8 on Mondays.", "The Harrow depot opens at 9 on Mondays."),
        ("Imke Sand runs our Velden depot.", "Imke Sand runs our Orsa office."),
        ("Actually, the Velden depot opens at 8 on Mondays.", "Actually, the Harrow depot opens at 8 on Mondays."),
        ("The Orsa ferry leaves from pier 4.", "The Orsa ferry costs nine euros."),
    ],
)
def test_statements_about_different_things_both_stand(first: str, second: str) -> None:
    assert texts(turn(1, first), turn(2, second)) == [first, second]


def test_nobody_corrects_anybody_else() -> None:
    first, second = "Imke Sand runs our Velden depot.", "Actually, Otto Berg runs our Velden depot."
    assert texts(turn(1, first), turn(2, second, scope=BOB)) == [first, second]


def test_a_correction_that_needs_its_context_takes_the_last_statement_with_it() -> None:
    found = curate([turn(1, "Our lawyer in Orsa is Ann Bly."), turn(2, "No, it is Tom Fry from the bank.")])
    assert found.sources == ()
    assert [reason.partition(":")[0] for _, reason in found.dropped] == ["corrected", "unclear"]


def test_feedback_of_kind_correction_weighs_most_and_supersedes() -> None:
    fixed = "The Velden depot opens at 9 on Mondays."
    entry = Feedback("fb_1", ANN, FeedbackKind.CORRECTION, 5.0, turn_id="turn_1", text=fixed)
    curated = curate([turn(1, "The Velden depot opens at 8 on Mondays.")], [entry])
    assert [(s.text, s.trust, s.turn_ids) for s in curated.sources] == [(fixed, CORRECTION_TRUST, ("turn_1", "fb_1"))]


def test_negative_feedback_drops_the_turn_unless_it_is_somebody_elses() -> None:
    told = turn(1, "Imke Sand runs our Velden depot.")
    bad = Feedback("fb_1", ANN, FeedbackKind.SCORE, 5.0, turn_id="turn_1", score=-1.0)
    assert reasons(told, feedback=(bad,)) == ["negative feedback"]
    assert texts(told, feedback=(replace(bad, scope=BOB),)) == [told.messages[0].content]


def test_the_same_words_are_one_source_with_every_turn_behind_it() -> None:
    said = [turn(1, "Imke Sand runs our Velden depot."), turn(2, "FYI, Imke Sand runs our Velden depot!")]
    (source,) = curate(said).sources
    assert source.turn_ids == ("turn_1", "turn_2") and source.trust == PLAIN_TRUST


def test_learnt_and_forgotten_things_are_left_out() -> None:
    told = turn(1, "Imke Sand runs our Velden depot.")
    known = source_id(ANN, told.messages[0].content)
    assert curate([told], learnt={known}).dropped == ((known, "already learnt"),)
    assert curate([told], forgotten={"turn_1"}).sources == ()


def test_no_principal_fills_a_night_alone() -> None:
    many = [turn(i, f"The Velden depot {i} opens at {i} on Mondays.") for i in range(1, 6)]
    curated = curate([*many, turn(9, "Imke Sand runs our Orsa office.", scope=BOB)], max_per_principal=2)
    assert [s.turn_ids[0] for s in curated.sources] == ["turn_4", "turn_5", "turn_9"]
    assert sum(reason.startswith("over the cap") for _, reason in curated.dropped) == 3


@pytest.mark.parametrize(
    "text",
    [
        "My password is sunflower99.",
        "The API key is stored as sk-live and reads 12ab.",
        "Use AKIAIOSFODNN7EXAMPLE for the bucket.",
        "My card is 4111 1111 1111 1111, valid until May.",
        "The rent goes to DE89 3704 0044 0532 0130 00 each month.",
        "My bank card has the PIN 4471.",
        "His social security number is 219-09-9999.",
        "The token is eyJhbGciOi8JIUzI1NiIsInR5cCI6Ik9XVCJ9x7 for now.",
        "Connect to postgres://ann:tr1cky@db.local/main tonight.",
    ],
)
def test_secrets_are_found(text: str) -> None:
    assert secret_in(text)
    assert any(reason.startswith("secret: ") for reason in reasons(turn(1, text)))


@pytest.mark.parametrize(
    "text",
    [
        "The door code of the Velden depot is 4471-B.",
        "The lock combination of the kayak shed is 7-31-12.",
        "The code word of the alarm is lantern.",
        "Order numbers of the mill start with TW-90-2027-03-14-AX.",
        "Our guest network at Cobble House is named purple-heron.",
        "The invoice number 2027 0314 0001 belongs to the mill.",
        "The key to the boathouse hangs behind the barometer.",
        "Call the depot on +44 20 7946 0018 before noon.",
    ],
)
def test_ordinary_codes_are_facts(text: str) -> None:
    assert secret_in(text) == ""
    assert texts(turn(1, text)) == [text]


@pytest.mark.parametrize(
    "correction",
    [
        "Sorry, I got that wrong. The inventory of the Ostrel depot is on May 9.",
        "My mistake, I mixed that up. Correct is: the Ostrel depot counts its stock on May 9.",
        "Oh no, that was wrong! The Ostrel depot has its inventory on May 9.",
    ],
)
def test_a_correction_in_other_words_takes_the_statement_of_the_same_name_and_kind_of_value(correction: str) -> None:
    told = ["The stocktaking at the Ostrel depot begins on March 2.", "The Ostrel depot closes for lunch.", correction]
    kept = texts(*(turn(number, text) for number, text in enumerate(told)))
    assert len(kept) == 2
    assert "lunch" in kept[0]
    assert "May 9" in kept[1]
    assert not any("March 2" in text or "wrong" in text or "mixed" in text for text in kept)


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("We finally filled the post of bell-ringer. Oda Finch got it.", 1),
        ("The joiner has been in the blue room. All the shelves in there are ash.", 1),
        ("We ordered new vests. Marshals wear the lilac ones.", 1),
        ("The gym opens at six. There is a new coach, Tam Orr.", 2),
        ("The gym opens at six. Tam Orr coaches the juniors.", 2),
    ],
)
def test_a_sentence_that_leans_on_the_one_before_stays_with_it(text: str, pieces: int) -> None:
    assert len(told_statements(text)) == pieces
