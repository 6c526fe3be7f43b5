"""The general suite: multiple-choice items of common knowledge, made from the tables beside this file.

`python -m tenure.bench.exams.general FILE` writes the suite; the copy that the gates read is checked against it by a
test. It was written before the synthesiser and shares nothing with it. Knows no model: what a base model
scores in each family is in docs/exams.md.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tenure.bench.exams.sentences import ROWS
from tenure.bench.exams.tables import PAIRS, Pairs, Rows
from tenure.types import ChoiceItem

SEED = 20261124
MOST_PER_FAMILY = 17  # a gate pays for every item three times
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


@dataclass(frozen=True, slots=True)
class Draft:
    """An item before its choices are put in order: the right one first."""

    prompt: str
    right: str
    wrong: tuple[str, ...]


def items(seed: int = SEED) -> list[ChoiceItem]:
    """The whole suite, family by family. The right choice's place is balanced over the suite."""
    suite: list[ChoiceItem] = []
    for family, drafts in families(seed):
        drafts = drafts[:MOST_PER_FAMILY]
        places = [(len(suite) + i) % 4 for i in range(len(drafts))]
        random.Random(f"{seed} places {family}").shuffle(places)
        for number, (draft, place) in enumerate(zip(drafts, places, strict=True)):
            suite.append(item(f"general/{family}/{number:03d}", family, draft, place))
    return suite


def item(item_id: str, family: str, draft: Draft, place: int) -> ChoiceItem:
    """Put the right choice at `place` among the wrong ones. Every choice starts with the space that joins it."""
    choices = list(draft.wrong)
    choices.insert(place, draft.right)
    return ChoiceItem(item_id, family, draft.prompt, tuple(f" {choice}" for choice in choices), place)


def families(seed: int) -> Iterator[tuple[str, list[Draft]]]:
    """Every family with its drafts. Each draws by itself, so that a change in one leaves the others as they were."""
    for pairs in PAIRS:
        yield pairs.family, from_pairs(pairs, random.Random(f"{seed} {pairs.family}"))
    for rows in ROWS:
        yield rows.family, from_rows(rows)
    for family, draw in DRAWN.items():
        yield family, draw(random.Random(f"{seed} {family}"))


def question_form(examples: Sequence[tuple[str, str]], question: str) -> str:
    """The two-shot prompt. A blank line between the examples costs no token more."""
    shots = "".join(f"Question: {ask}\nAnswer: {answer}\n\n" for ask, answer in examples)
    return f"{shots}Question: {question}\nAnswer:"


def from_pairs(table: Pairs, rng: random.Random) -> list[Draft]:
    """Alternate question and completion form over the rows; wrong choices are other rows' values of similar length."""
    rows = [row.strip().split("=") for row in table.rows.split(";")]
    values = list(dict.fromkeys(value.split("~")[0] for _, value in rows))
    examples = [(table.question.format(key), value) for key, value in rows[:2]]
    drafts = []
    for number, (key, choices) in enumerate(rows[2:]):
        right, *wrong = choices.split("~")
        question = question_form(examples, table.question.format(key))
        prompt = table.completion.format(key) if number % 2 else question
        drafts.append(Draft(prompt, right, tuple(wrong) or near(right, values, rng)))
    return drafts


def near(right: str, values: Sequence[str], rng: random.Random, num_wrong: int = 3) -> tuple[str, ...]:
    """Draw wrong choices among the eight values nearest in length, so that length alone decides nothing."""
    others = [value for value in values if value != right]
    rng.shuffle(others)
    others.sort(key=lambda value: abs(len(value) - len(right)))
    return tuple(rng.sample(others[:8], num_wrong))


def from_rows(table: Rows) -> list[Draft]:
    """Items that were written one by one."""
    drafts = []
    for line in table.rows.strip().splitlines():
        prompt, right, *wrong = line.split("|")
        asked = question_form(table.examples, prompt) if prompt.endswith("?") else prompt
        drafts.append(Draft(asked, right, tuple(wrong)))
    return drafts


def around(right: int, rng: random.Random, spread: int = 9) -> tuple[str, ...]:
    """Three wrong numbers with as many digits as the right one."""
    low, high = (1, 9) if right < 10 else (max(10, right - spread), min(99, right + spread))
    return tuple(str(n) for n in rng.sample([n for n in range(low, high + 1) if n != right], 3))


def sums(rng: random.Random) -> list[Draft]:
    """a + b with two small numbers, after two solved sums."""
    seen = rng.sample(
        [(a, b) for a in range(2, 10) for b in range(1, 10) if a != b and (a, b) not in ((2, 3), (7, 4))], 22
    )
    return [Draft(f"2 + 3 = 5\n7 + 4 = 11\n{a} + {b} =", str(a + b), around(a + b, rng, 20)) for a, b in seen]


def products(rng: random.Random) -> list[Draft]:
    """The small multiplication table."""
    seen = rng.sample([(a, b) for a in range(2, 11) for b in range(2, 11) if a * b < 100 and (a, b) != (2, 3)], 22)
    drafts = []
    for number, (a, b) in enumerate(seen):
        prompt = f"2 x 3 = 6\n5 x 4 = 20\n{a} x {b} =" if number % 2 else f"{a} times {b} is equal to"
        drafts.append(Draft(prompt, str(a * b), around(a * b, rng, 12)))
    return drafts


def sequences(rng: random.Random) -> list[Draft]:
    """Continue a sequence of four numbers, in digits or in words."""
    drafts = []
    for start, step in rng.sample([(s, d) for s in range(1, 15) for d in (1, 2, 5, 10)], 16):
        numbers = [start + step * i for i in range(5)]
        text = ", ".join(str(n) for n in numbers[:4])
        drafts.append(Draft(f"{text},", str(numbers[4]), around(numbers[4], rng)))
    for start in range(1, 9):
        text = ", ".join(NUMBERS[start : start + 4])
        drafts.append(
            Draft(
                f"{text},", NUMBERS[start + 4], near(NUMBERS[start + 4], NUMBERS[1:start] + NUMBERS[start + 5 :], rng)
            )
        )
    return drafts


def calendar(rng: random.Random) -> list[Draft]:
    """Order of the days and the months."""
    shots = [("Which day comes after Monday?", "Tuesday"), ("Which month comes after January?", "February")]
    drafts = []
    for number in range(1, 7):
        right = DAYS[(number + 1) % 7]
        prompt = question_form(shots, f"Which day comes after {DAYS[number]}?")
        drafts.append(Draft(prompt, right, tuple(rng.sample([d for d in DAYS if d not in (right, DAYS[number])], 3))))
    for number in range(1, 12):
        right = MONTHS[(number + 1) % 12]
        prompt = f"The month that comes after {MONTHS[number]} is"
        drafts.append(
            Draft(prompt, right, tuple(rng.sample([m for m in MONTHS if m not in (right, MONTHS[number])], 3)))
        )
    for number in (0, 2, 4, 6):
        right = DAYS[(number + 2) % 7]
        prompt = f"{DAYS[number]}, {DAYS[(number + 1) % 7]},"
        drafts.append(Draft(prompt, right, tuple(rng.sample([d for d in DAYS if d != right], 3))))
    return drafts


def units(rng: random.Random) -> list[Draft]:
    """How many of the smaller unit make the larger one."""
    rows = (
        *("days|a week|7", "months|a year|12", "hours|a day|24", "minutes|an hour|60", "seconds|a minute|60"),
        *("days|a year|365", "centimeters|a meter|100", "meters|a kilometer|1000", "grams|a kilogram|1000"),
        *("inches|a foot|12", "feet|a yard|3", "cents|a dollar|100", "years|a century|100", "years|a decade|10"),
        *("items|a dozen|12", "legs|a spider|8", "legs|a dog|4", "wheels|a car|4", "wheels|a bicycle|2"),
        *("letters|the English alphabet|26", "states|the United States|50", "players|a football team|11"),
        *("strings|a violin|4", "weeks|a year|52", "zeros|one million|6", "fingers|one hand|5"),
    )
    shots = [("How many legs are in a pair of trousers?", "2"), ("How many quarters are in a whole?", "4")]
    values = sorted({row.split("|")[2] for row in rows}, key=int)
    drafts = []
    for number, row in enumerate(rows):
        part, whole, right = row.split("|")
        verb = "does {0} have" if part in ("legs", "wheels", "strings", "players", "letters", "zeros") else "are in {0}"
        question = f"How many {part} {verb.format(whole)}?"
        prompt = f"The number of {part} in {whole} is" if number % 2 else question_form(shots, question)
        drafts.append(Draft(prompt, right, near(right, values, rng)))
    return drafts


def shapes(rng: random.Random) -> list[Draft]:
    """Shapes and their sides, and what shape a thing has."""
    rows = (
        *("How many sides does a triangle have?|three", "How many sides does a square have?|four"),
        *("How many sides does a pentagon have?|five", "How many sides does a hexagon have?|six"),
        *("How many sides does an octagon have?|eight", "How many corners does a rectangle have?|four"),
        *("How many faces does a cube have?|six", "How many corners does a triangle have?|three"),
        *("How many wheels does a tricycle have?|three", "How many sides does a rectangle have?|four"),
        *("A shape with three sides is called a|triangle", "A shape with four equal sides is called a|square"),
        *("A perfectly round flat shape is called a|circle", "A shape with five sides is called a|pentagon"),
        *("A shape with six sides is called a|hexagon", "A shape with eight sides is called an|octagon"),
        *(
            "A ball has the shape of a|sphere",
            "A dice has the shape of a|cube",
            "A tin can has the shape of a|cylinder",
        ),
        *(
            "A party hat has the shape of a|cone",
            "A wheel has the shape of a|circle",
            "An egg has the shape of an|oval",
        ),
    )
    shots = [("How many legs does a cow have?", "four"), ("How many eyes does a dog have?", "two")]
    words = [row.split("|")[1] for row in rows if "?" not in row]
    drafts = []
    for row in rows:
        prompt, right = row.split("|")
        pool = NUMBERS[2:11] if "?" in prompt else list(dict.fromkeys(words))
        asked = question_form(shots, prompt) if "?" in prompt else prompt
        drafts.append(Draft(asked, right, near(right, pool, rng)))
    return drafts


DRAWN: Mapping[str, Callable[[random.Random], list[Draft]]] = {
    "addition": sums,
    "multiplication": products,
    "sequences": sequences,
    "calendar": calendar,
    "units": units,
    "shapes": shapes,
}


def lines(seed: int = SEED) -> str:
    """The suite as the JSON lines that `gates/items/general.jsonl` holds."""
    return "".join(json.dumps({"type": "choice", **asdict(i)}, ensure_ascii=False) + "\n" for i in items(seed))


def main() -> None:
    """Write the suite to the file that is named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.parse_args().file.write_text(lines(), "utf8")


if __name__ == "__main__":
    main()
