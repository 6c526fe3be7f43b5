"""The model as its own examiner: which questions belong to a statement, and which words of it answer them.

Three judgements by likelihood, each over the whole night's list at once: of what kind a name is, how much a statement
makes a question likelier, and which part of the statement a question asks for. A model of this size can't judge from an
instruction; a few invented examples before the statement make it tell right from wrong (measured in docs/night.md).
Called by `synthesis`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tenure.context.lead_ins import statement_of
from tenure.model.chat import ChatFormat
from tenure.model.requests import Completion, GenerationRequest, ScoreRequest, ScoreResult
from tenure.sleep.clauses import parts_of_speech
from tenure.sleep.questions import KINDS

EXAMPLES = (
    "Lukas Brandt teaches the pottery class on Mondays.\n"
    "Q: Which evening course is given by Lukas Brandt?\nA: the pottery class\n\n"
    "The blue van must be parked in bay 6.\nQ: Where do I have to leave the blue van?\nA: bay 6\n\n"
    "Orange Fern is the nickname of our newest printer.\nQ: What do we call the new printer?\nA: Orange Fern\n\n"
    "Guests of the Tulip Inn pay 12 dollars for breakfast.\n"
    "Q: How much is breakfast at the Tulip Inn?\nA: 12 dollars\n\n"
    "The porter Emil Novak opens the museum gate at 8 am.\n"
    "Q: Who lets people into the museum in the morning?\nA: the porter Emil Novak"
)
KIND_EXAMPLES = (
    "Lukas Brandt teaches the pottery class. Lukas Brandt is a person.\n"
    "We rent our chairs from Holm Nord. Holm Nord is a company.\n"
    "The train to Eastwold was late. Eastwold is a place.\n"
    "Orange Fern prints the labels. Orange Fern is a machine.\n"
)
MAX_TREE_TOKENS = 1024
PERSON_BONUS = 2.0  # nats


class Judge(Protocol):
    """What of the engine is used here."""

    max_context_tokens: int

    @property
    def attachments(self) -> frozenset[str]:
        """See `Engine.attachments`."""
        ...

    def score(self, requests: Sequence[ScoreRequest]) -> list[ScoreResult]:
        """See `Engine.score`."""
        ...

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Completion]:
        """See `Engine.generate`."""
        ...


@dataclass(frozen=True, slots=True)
class Relevance:
    """Mean log-likelihood (nats a token) of a question after its statement, and what the statement adds to it."""

    fluency: float
    gain: float


def count(rejected: dict[str, int], reason: str, n: int) -> None:
    """Note that `n` questions were rejected for a reason."""
    if n:
        rejected[reason] = rejected.get(reason, 0) + n


def shown(statement: str) -> str:
    """A statement as the model gets to see it: without lead-ins, with a full stop."""
    return statement_of(statement) + "."


def prompt_of(judge: Judge, chat: ChatFormat, text: str, *, room: int, examples: str = EXAMPLES) -> tuple[int, ...]:
    """The examples and `text` as tokens; examples go, the first first, until `room` tokens are left in the window."""
    shots = examples.split("\n\n")
    while True:
        tokens = tuple(chat.encode_text("\n\n".join([*shots, text]) if shots else text, begin=True))
        if len(tokens) + room <= judge.max_context_tokens or not shots:
            return tokens
        shots = shots[1:]


def kinds_of(judge: Judge, chat: ChatFormat, named: Sequence[tuple[str, str]]) -> list[str]:
    """What each (statement, name) names: one of `KINDS`, the likeliest after a few examples."""
    kinds = [f" {kind}." for kind in KINDS]
    asked = []
    for statement, name in named:
        for text in (f"{shown(statement)} {name} is a", f"{name} is a"):
            asked.append((f"{KIND_EXAMPLES}{text}", kinds))
    results = _likelihoods(judge, chat, asked, examples="")
    found = []
    for (_, name), with_statement, alone in zip(named, results[::2], results[1::2], strict=True):
        # half of the prior is taken off: "place" and "person" are likely whatever the sentence says
        scores = [w - 0.5 * a for w, a in zip(with_statement, alone, strict=True)]
        if _sounds_personal(name):
            scores[KINDS.index("person")] += PERSON_BONUS
        found.append(KINDS[scores.index(max(scores))])
    return found


def _sounds_personal(name: str) -> bool:
    """Two raised words that no dictionary knows, such as `Marek Olund`; firms and places often hold a common word."""
    words = name.split()
    return len(words) == 2 and not any(parts_of_speech(word) for word in words)


def relevances(judge: Judge, chat: ChatFormat, asked: Sequence[tuple[str, Sequence[str]]]) -> list[list[Relevance]]:
    """For each (statement, questions): how well each question follows from the statement."""
    prompts = []
    for statement, questions in asked:
        texts = [f" {question}" for question in questions]
        prompts += [(f"{shown(statement)}\nQ:", texts), ("Q:", texts)]
    results = _likelihoods(judge, chat, prompts)
    found = []
    for (_, questions), after, alone in zip(asked, results[::2], results[1::2], strict=True):
        lengths = [len(chat.encode_text(f" {question}")) for question in questions]
        rows = zip(after, alone, lengths, strict=True)
        found.append([Relevance(a / n, (a - b) / n) for a, b, n in rows])
    return found


def answer_margins(
    judge: Judge, chat: ChatFormat, asked: Sequence[tuple[str, Sequence[tuple[str, str]]]]
) -> list[list[float]]:
    """For each (statement, (question, answer) pairs): by how much the answer beats the statement's other answers.

    In nats a token, after taking off what each answer gets from the statement's questions on average (a model copies
    the first name it sees, whatever is asked). Above 0: the model, too, takes the question to ask for this answer.
    """
    prompts, shapes = [], []
    for statement, pairs in asked:
        answers = list(dict.fromkeys(answer for _, answer in pairs))
        texts = [f" {question}\nA: {answer}\n" for question, _ in pairs for answer in answers]
        prompts.append((f"{shown(statement)}\nQ:", texts))
        shapes.append(answers)
    results = _likelihoods(judge, chat, prompts)
    margins = []
    for (_, pairs), answers, flat in zip(asked, shapes, results, strict=True):
        lengths = [len(chat.encode_text(f" {answer}\n")) for answer in answers]
        margins.append(_centred(pairs, answers, flat, lengths))
    return margins


def _likelihoods(
    judge: Judge, chat: ChatFormat, asked: Sequence[tuple[str, Sequence[str]]], *, examples: str = EXAMPLES
) -> list[list[float]]:
    """Log-likelihoods of all texts after their prompt, in one call; a long list is split to fit the window."""
    requests: list[ScoreRequest] = []
    counts = []
    for text, texts in asked:
        continuations = [tuple(chat.encode_text(continuation)) for continuation in texts]
        prompt = prompt_of(judge, chat, text, room=max(map(len, continuations), default=0), examples=examples)
        room = min(judge.max_context_tokens, MAX_TREE_TOKENS) - len(prompt)
        before = len(requests)
        part: list[tuple[int, ...]] = []
        for continuation in continuations:
            if part and sum(map(len, part)) + len(continuation) > room:
                requests.append(ScoreRequest(prompt, tuple(part)))
                part = []
            part.append(continuation)
        if part:
            requests.append(ScoreRequest(prompt, tuple(part)))
        counts.append(len(requests) - before)
    results = iter(judge.score(requests))
    return [[value for _ in range(count) for value in next(results).log_likelihoods] for count in counts]


def _centred(
    pairs: Sequence[tuple[str, str]], answers: Sequence[str], flat: Sequence[float], lengths: Sequence[int]
) -> list[float]:
    width = len(answers)
    if width == 1:
        return [0.0] * len(pairs)
    rows = [list(flat[i * width : (i + 1) * width]) for i in range(len(pairs))]
    for row in rows:  # the question's own likelihood is the same in every column
        mean = sum(row) / width
        row[:] = [(value - mean) / length for value, length in zip(row, lengths, strict=True)]
    # each kind of question counts once, so that ten questions for one answer don't make it the expected one
    groups = [[row for row, (_, answer) in zip(rows, pairs, strict=True) if answer == wanted] for wanted in answers]
    means = [sum(sum(row[column] for row in group) / len(group) for group in groups) / width for column in range(width)]
    margins = []
    for row, (_, answer) in zip(rows, pairs, strict=True):
        centred = [value - mean for value, mean in zip(row, means, strict=True)]
        place = answers.index(answer)
        margins.append(centred[place] - max(value for i, value in enumerate(centred) if i != place))
    return margins
