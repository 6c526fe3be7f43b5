"""Prompts that are close to what a module knows and yet not about it: other tasks, neighbours, mixed-up relations.

Rules over names and words, no model. Called by the night, which makes episodes of them (the student must stay with the
base there), and by the router's fit, which learns to abstain on them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

_PIECE = re.compile(r"[A-Za-zÀ-ž]+(?:['’][a-z]+)?|\d[\d.,:-]*\d|\d|\S")
_SENTENCE_START = re.compile(r"(?:^|[.?!:]\s+)([A-Z][a-zà-ž]*)")

# Things that one may do with a name or a noun without knowing anything about it.
TASKS = (
    "Write a two-line poem about {x}.",
    "Write a haiku about {x}.",
    "Write a short story that begins at {x}.",
    "Make up a slogan for {x}.",
    "Write a thank-you note to {x}.",
    "Write a birthday card for {x}.",
    "Draft a polite greeting to {x}.",
    "Write a welcome sign for {x}.",
    "Write a headline that mentions {x}.",
    "Write one funny sentence with {x} in it.",
    "Translate '{x}' into French.",
    "Translate '{x} is closed today' into Spanish.",
    "How do you say '{x}' in German?",
    "Give me the letters of {x} from last to first.",
    "How many letters are in '{x}'?",
    "How many vowels does '{x}' have?",
    "How many words are in '{x}'?",
    "Is '{x}' one word or more?",
    "What rhymes with {x}?",
    "Put '{x}' in capital letters.",
    "Use '{x}' in a sentence.",
    "Is {x} a good name for a cat?",
    "Suggest a nickname for {x}.",
    "Which language could the name {x} come from?",
    "How is {x} pronounced?",
    "Imagine you are {x}. What do you dream of?",
    "Write a riddle whose answer is {x}.",
    "Give me a title for a film about {x}.",
    "Write a review of {x} with five stars.",
    "Describe {x} as if it were a painting.",
    "Compose a limerick about {x}.",
    "Write a weather report for {x}.",
    "Repeat after me: {x}.",
    "Which letter does '{x}' start with?",
    "Correct the spelling if needed: {x}.",
    "Write an email subject line about {x}.",
)
NOUN_TASKS = (
    "What is a {x}?",
    "What does the word {x} mean?",
    "How does a {x} work?",
    "How would you tell a six-year-old about {x}?",
    "What is the plural of {x}?",
    "Name a synonym of {x}.",
    "Write a sentence about a {x}.",
    "What is a {x} used for?",
    "Give me three tips about a {x}.",
    "Tell me a joke about a {x}.",
    "What should I think of when I choose a {x}?",
    "What is the history of the {x}?",
    "Write a rhyme with the word {x}.",
    "Is a {x} expensive?",
    "How do I draw a {x}?",
    "What colour is a {x} usually?",
    "Where can one buy a {x}?",
    "What do people like about a {x}?",
)
NUMBER_TASKS = (
    "Double {x} for me.",
    "Can {x} be divided by two?",
    "What is {x} times three?",
    "How is {x} written out in letters?",
    "What comes after {x}?",
    "What is half of {x}?",
)
_FIRST = re.findall(
    r"\w+",
    "Ada Bruno Celia Dario Edda Felix Greta Hugo Irma Jonas Klara Leon Mira Nils Olga Paul Rosa Sven Tilly Ugo Vera "
    "Wanda Yara Zeno Alma Boris Dora Emil Fanny Gustav Hedda Igor Judit Kasper Lotte Milo Nora Oskar Pia Rufus Selma "
    "Timo Ursula Viktor Willa Anton Berta Carlo Dinah Elmar",
)
_LAST = re.findall(
    r"\w+",
    "Abel Brandt Castell Dorn Evers Falk Gruber Hale Ivers Jansen Kolb Lund Marten Nagy Osten Pryce Quist Roth Sandor "
    "Thorne Ulrich Vance Weller Yates Zorn Ashby Birch Colby Denham Ellery Fosse Gale Hurst Ingram Joyce Keller Lowe "
    "Mercer Norton Oakes Pike Rowan Sutter Tiller Vogt Whitby Ames Barlow Croft",
)
_HEADS = re.findall(
    r"\w+",
    "Al Bar Cor Dun El Far Gor Hol Ing Jar Kel Lor Mar Nor Os Pel Quor Ros Sel Tor Ul Var Wen Yar Zel Bren Cras Del",
)
_TAILS = re.findall(
    r"\w+",
    "by cott dale don fell ford gate ham holt ley low mere more nik ra rick ridge sten ston thorpe tis vale vik wick "
    "wood",
)
_NOUNS = re.findall(
    r"\w+",
    "garden kitchen office library bakery garage cellar bridge tower harbor school museum station farm mill chapel "
    "warehouse studio theatre market printer camera lamp engine pump oven boat bus bicycle tractor ladder carpet "
    "window mirror piano violin drum letter report invoice contract menu calendar map ticket recipe painting statue "
    "fountain "
    "gardener plumber dentist teacher painter driver librarian cook guard nurse secretary clerk judge singer dancer "
    "meeting concert lesson festival wedding lecture race picnic holiday soup salad cheese apples carrots rice coffee",
)


_NO_NAMES = frozenset({"our", "the", "my", "your", "who", "what", "which", "where", "when", "how", "in", "at"})


def names_of(text: str) -> tuple[str, ...]:
    """Runs of capitalised words and codes, sentence starts left out unless they go on as a name."""
    starts = {match.start(1) for match in _SENTENCE_START.finditer(text)}
    names: list[str] = []
    run: list[str] = []
    end = -1
    for match in _PIECE.finditer(text):
        piece = match.group()
        if piece == "&" and run:
            continue
        named = piece[:1].isupper() and len(piece) > 1
        joined = bool(run) and text[end : match.start()] in (" ", " & ", "-")
        if named and joined:
            run.append(text[end : match.start()] + piece)
        elif named:
            _close(run, names)
            run = [piece] if match.start() not in starts or _goes_on(text, match.end()) else []
        elif run and not (joined and piece[0].isdigit()):
            _close(run, names)
            run = []
        elif run:
            run.append(text[end : match.start()] + piece)
        end = match.end()
    _close(run, names)
    return tuple(dict.fromkeys(names))


def _goes_on(text: str, end: int) -> bool:
    return bool(re.match(r" [A-Z][a-z]", text[end:]))


def _close(run: Sequence[str], names: list[str]) -> None:
    name = "".join(run)
    words = name.split(" ")
    if words and words[0].lower() in (
        "our",
        "the",
        "my",
        "your",
        "who",
        "what",
        "which",
        "where",
        "when",
        "how",
        "in",
        "at",
    ):
        name = " ".join(words[1:])
    if len(name) > 1:
        names.append(name)


def numbers_of(text: str) -> tuple[str, ...]:
    """Numbers as they are written."""
    return tuple(dict.fromkeys(re.findall(r"\d[\d.,:-]*\d|\d", text)))


def invented_name(like: str, rng: random.Random) -> str:
    """Another name of the same shape: as many words, codes with other digits."""
    words = like.split(" ")
    if len(words) == 2 and not any(c.isdigit() for c in like) and rng.random() < 0.7:
        parts = [rng.choice(_FIRST), rng.choice(_LAST)]
        keep = rng.random()
        if keep < 0.25:
            parts[0] = words[0]
        elif keep < 0.4:
            parts[1] = words[1]
        return " ".join(parts)
    made = []
    for word in words:
        if any(c.isdigit() for c in word):
            made.append(other_number(word, rng))
        elif word[:1].isupper() and (len(made) == 0 or rng.random() < 0.5):
            made.append(rng.choice(_HEADS) + rng.choice(_TAILS))
        else:
            made.append(word)
    return " ".join(made)


def alike(name: str, rng: random.Random) -> str:
    """A name that looks or sounds like it, or is only of the same shape: as many words, at least one another."""
    if rng.random() < 0.4:
        made = invented_name(name, rng)
        return made if made != name else alike(name, rng)
    words = name.split(" ")
    places = [i for i, word in enumerate(words) if len(word) > 3 and word.isalpha()]
    if not places:
        return other_number(name, rng) if any(c.isdigit() for c in name) else invented_name(name, rng)
    place = rng.choice(places)
    word = words[place]
    cut = rng.randint(2, len(word) - 2)
    words[place] = word[:cut] + rng.choice(_TAILS) if rng.random() < 0.6 else rng.choice(_HEADS) + word[cut:]
    made = " ".join(words)
    return made if made != name else alike(name, rng)


def other_number(number: str, rng: random.Random) -> str:
    """The same pattern with other digits."""
    changed = number
    while changed == number:
        changed = re.sub(r"\d", lambda m: str(rng.randint(1, 9)) if rng.random() < 0.7 else m.group(), number)
    return changed


def neighbour(question: str, rng: random.Random, *, others: Sequence[str] = ()) -> str:
    """The question about somebody or something else: a name, a number or a noun replaced; "" when nothing can be.

    `others` are names that the module does know: the relation of one fact with the name of another.
    """
    names = names_of(question)
    if names:
        name = rng.choice(names)
        known = [other for other in others if other not in question and len(other.split()) == len(name.split())]
        new = rng.choice(known) if known and rng.random() < 0.35 else invented_name(name, rng)
        return question.replace(name, new)
    numbers = numbers_of(question)
    if numbers:
        number = rng.choice(numbers)
        return question.replace(number, other_number(number, rng), 1)
    return other_noun(question, rng)


def other_noun(question: str, rng: random.Random) -> str:
    """The question with its last noun-like word after an article replaced; "" when there is none."""
    found = list(re.finditer(r"\b(?:the|our|my|a|an|for|of|to) ((?:[a-z-]+ )?)([a-z-]{4,})(?=[?., ]|$)", question))
    if not found:
        return ""
    match = rng.choice(found)
    start = match.start(1) if rng.random() < 0.5 else match.start(2)
    noun: str = rng.choice(_NOUNS)
    return question[:start] + noun + question[match.end(2) :]


def other_tasks(
    names: Sequence[str], nouns: Sequence[str], numbers: Sequence[str], rng: random.Random, n: int
) -> list[str]:
    """`n` prompts that mention what a fact is about and ask for something else."""
    made: list[str] = []
    pools = [(NOUN_TASKS, nouns), (TASKS, [*names, *(f"the {noun}" for noun in nouns)]), (NUMBER_TASKS, numbers)]
    weights = [3 if nouns else 0, 4 if names or nouns else 0, 1 if numbers else 0]
    if not any(weights):
        return made
    while len(made) < n:
        tasks, things = rng.choices(pools, weights)[0]
        made.append(rng.choice(tasks).format(x=rng.choice(list(things))))
    return list(dict.fromkeys(made))
