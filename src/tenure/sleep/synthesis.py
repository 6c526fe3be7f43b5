"""Self-study: from told statements to questions and replies, written or chosen by the model and checked by it.

The model sees a statement and writes questions, by its skill of asking where it has one (`asking`); rules turn the
clause around for more; the model then says which of all of them belong to the statement and which words answer them
(`checking`). Replies are the statement's own sentence: it holds the answer to every question about it. Called by the
night's cycle; trains nothing.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tenure.context.terms import content_terms, stem
from tenure.model.chat import ChatFormat
from tenure.model.progress import Progress, silent
from tenure.model.requests import GenerationRequest, Sampling
from tenure.modules.near_misses import names_of, neighbour, numbers_of, other_tasks
from tenure.modules.skills import ASKING
from tenure.sleep.asking import people_ask
from tenure.sleep.checking import Judge, Relevance, answer_margins, count, kinds_of, prompt_of, relevances, shown
from tenure.sleep.clauses import DETERMINERS, head_noun, parts_of_speech
from tenure.sleep.curation import Source
from tenure.sleep.questions import Core, Draft, cores_of, dressed, names_in, views_of
from tenure.store.digests import canonical_json, digest_bytes
from tenure.types import Episode, Message

NUM_STAGES = 3
NUM_CORES = 10  # questions a source that differ in more than their dress
NUM_DRESSED = 8
MIN_RULED = 6  # as many by rules are kept of a statement that the model makes little of
NUM_HELD_OUT = 3
NUM_NEAR_MISSES = 8
MAX_SCORED = 40
QUESTION_TOKENS = 20
WRITING_SHARE = 0.4  # of the budget; scoring needs the rest
MIN_GAIN = 1.0  # nats a token that the statement must add to a question
MIN_MARGIN = 0.0
MIN_MARGIN_WRITTEN = 0.5  # of the model's own questions, whose answers are not right by make
MIN_AN_ANSWER = 2
GENERAL_TERMS = frozenset(map(stem, ("person", "company", "place", "time", "day", "year", "kind", "number")))
WORD = re.compile(r"[\w'’-]+")


@dataclass(frozen=True, slots=True)
class Synthesis:
    """What a night studies. `rejected` counts, by reason, what was written and not kept."""

    episodes: tuple[Episode, ...]
    rejected: dict[str, int]
    seconds: float


@dataclass(frozen=True, slots=True)
class _Study:
    """One source under study: what is asked about it so far, the best first."""

    source: Source
    statement: str
    cores: tuple[Core, ...]
    by_model: frozenset[str]  # direct questions that the model wrote


def synthesize(
    engine: Judge,
    chat: ChatFormat,
    sources: Sequence[Source],
    *,
    seed: int,
    budget_seconds: float,
    progress: Progress | None = None,
) -> Synthesis:
    """Write, check and choose questions for every source, and prompts near them on which nothing may change.

    Some questions of each source are `held_out`: phrased unlike the others, for the gate's acquisition suite.
    """
    started = time.monotonic()
    told = progress or silent
    rejected: dict[str, int] = {}
    told("questions by rules", 0, NUM_STAGES)
    drafted = _drafted(engine, chat, sources, rejected)
    told("questions by the model", 1, NUM_STAGES)
    deadline = started + WRITING_SHARE * budget_seconds
    if ASKING in engine.attachments:
        studies = drafted
        statements = [study.statement for study in studies]
        asked = people_ask(engine, chat, statements, seed=seed, deadline=deadline, rejected=rejected)
    else:
        studies = _with_written(engine, chat, drafted, seed=seed, deadline=deadline, rejected=rejected)
        asked = [[] for _ in studies]
    told("checking answers", 2, NUM_STAGES)
    studies = _checked(engine, chat, studies, rejected)
    episodes: list[Episode] = []
    names = tuple(dict.fromkeys(name for study in studies for name in names_of(study.statement)))
    for study, conversations in zip(studies, asked, strict=True):
        rng = random.Random(f"{seed}:{study.source.id}")
        own = _questions(study, conversations, rng)
        if not own:
            rejected["no question survived"] = rejected.get("no question survived", 0) + 1
            continue
        episodes += [*own, *_near_misses(study, own, names, rng)]
    told("questions", NUM_STAGES, NUM_STAGES)
    return Synthesis(tuple(episodes), rejected, time.monotonic() - started)


# ---------------------------------------------------------------- drafting by rules


def _drafted(engine: Judge, chat: ChatFormat, sources: Sequence[Source], rejected: dict[str, int]) -> list[_Study]:
    named = [(source.text, name) for source in sources for name in names_in(source.text)]
    kinds = dict(zip((name for _, name in named), kinds_of(engine, chat, named), strict=True)) if named else {}
    studies = [
        _Study(source, shown(source.text), tuple(cores_of(source.text, kinds)), frozenset()) for source in sources
    ]
    return _ranked(engine, chat, studies, rejected, least=MIN_RULED)


def _ranked(
    engine: Judge, chat: ChatFormat, studies: Sequence[_Study], rejected: dict[str, int], *, least: int
) -> list[_Study]:
    """Questions that the statement makes likelier, those first that read best after it."""
    asked = []
    for study in studies:
        usable = [core for core in study.cores if not _gives_away(core)]
        count(rejected, "holds its answer", len(study.cores) - len(usable))
        asked.append(tuple(usable[:MAX_SCORED]))
    pairs = zip(studies, asked, strict=True)
    found = iter(relevances(engine, chat, [(s.statement, [c.direct for c in cores]) for s, cores in pairs if cores]))
    ranked = []
    for study, cores in zip(studies, asked, strict=True):
        rows = list(zip(cores, next(found), strict=True)) if cores else []
        rows.sort(key=lambda row: -_worth(row[1]))
        kept = [row for row in rows if row[1].gain >= MIN_GAIN]
        if len(kept) < least:  # a statement that the model makes little of: rules alone must do
            some = _diverse([core for core, _ in rows], least)
            kept = [row for row in rows if row[0] in some]
        count(rejected, "not about the statement", len(rows) - len(kept))
        ranked.append(_Study(study.source, study.statement, tuple(core for core, _ in kept), study.by_model))
    return ranked


def _worth(relevance: Relevance) -> float:
    return relevance.fluency + 0.5 * relevance.gain


def _gives_away(core: Core) -> bool:
    """Whether every telling word of the answer stands in the question already."""
    said = set(WORD.findall(core.direct.lower()))
    wanted = [word for word in WORD.findall(core.answer.lower()) if word not in DETERMINERS]
    return all(word in said for word in wanted)


# ---------------------------------------------------------------- writing by the model


def _with_written(
    engine: Judge, chat: ChatFormat, studies: Sequence[_Study], *, seed: int, deadline: float, rejected: dict[str, int]
) -> list[_Study]:
    """Add what the model writes itself, wave after wave until the time is up."""
    written: list[list[Core]] = [[] for _ in studies]
    wave = 0
    seconds = 0.0
    while time.monotonic() + seconds < deadline and wave < 8:
        begun = time.monotonic()
        requests, origins = [], []
        for i, study in enumerate(studies):
            rng = random.Random(f"{seed}:{wave}:{study.source.id}")
            for core in _openings(study.cores, rng, 2):
                text = f"{study.statement}\nQ: {core.opening[:1].upper()}{core.opening[1:]}"
                sampling = Sampling(QUESTION_TOKENS, temperature=0.8, seed=rng.randrange(2**31), stop=("\n",))
                requests.append(GenerationRequest(prompt_of(engine, chat, text, room=QUESTION_TOKENS), sampling))
                origins.append((i, core))
        if not requests:
            break
        for (i, core), completion in zip(origins, engine.generate(requests), strict=True):
            opening = core.opening[:1].upper() + core.opening[1:]
            question = _finished(opening + completion.text)
            if question:
                written[i].append(Core(question, "", core.answer, core.topic, core.opening))
            else:
                count(rejected, "not one question", 1)
        seconds = time.monotonic() - begun
        wave += 1
    fresh = []
    for study, own in zip(studies, written, strict=True):
        known = {core.direct.lower() for core in study.cores}
        new = {core.direct.lower(): core for core in own if core.direct.lower() not in known and _mentions(core, study)}
        count(rejected, "strays from the statement", len(own) - len(new))
        fresh.append(_Study(study.source, study.statement, tuple(new.values()), frozenset()))
    ranked = _ranked(engine, chat, fresh, rejected, least=0)
    return [
        _Study(s.source, s.statement, (*r.cores, *s.cores), frozenset(core.direct for core in r.cores))
        for s, r in zip(studies, ranked, strict=True)
    ]


def _openings(cores: Sequence[Core], rng: random.Random, n: int) -> list[Core]:
    """One core for each (opening, answer) that begins like a question, `n` of them drawn."""
    firsts = {
        (core.opening, core.answer): core for core in reversed(cores) if core.direct.lower().startswith(core.opening)
    }
    return rng.sample(list(firsts.values()), min(n, len(firsts)))


def _finished(text: str) -> str:
    """The text when it is one whole question, else ""."""
    text = text.strip()
    return text if text.endswith("?") and text.count("?") == 1 and 3 <= len(text.split()) <= 24 else ""


def _mentions(core: Core, study: _Study) -> bool:
    """Whether a question that the model wrote stays with the statement.

    It must hold a telling word of the statement that its answer doesn't hold, and no word that neither the statement
    nor the rules' questions about it have: at this size, what a model adds is mostly made up.
    """
    answer = content_terms(core.answer)
    told = content_terms(study.statement)
    said = content_terms(core.direct)
    around = {term for other in study.cores for term in content_terms(other.direct)}
    names = {term for term, weight in told.items() if weight > 1} - answer.keys()
    given = said.keys() & (names or told.keys() - answer.keys())
    return bool(given) and not said.keys() - told.keys() - around - GENERAL_TERMS


# ---------------------------------------------------------------- checking and choosing


def _checked(engine: Judge, chat: ChatFormat, studies: Sequence[_Study], rejected: dict[str, int]) -> list[_Study]:
    """Keep the questions whose answer the model, too, finds in the words that it was written for."""
    asked = []
    for study in studies:
        chosen = _diverse(study.cores, NUM_CORES + 2 * NUM_HELD_OUT + len(study.by_model))
        asked.append((study.statement, [(core.direct, bare(core.answer)) for core in chosen], chosen))
    margins = answer_margins(engine, chat, [(statement, pairs) for statement, pairs, _ in asked if pairs])
    found = iter(margins)
    kept = []
    for study, (_, pairs, chosen) in zip(studies, asked, strict=True):
        rows = list(zip(chosen, next(found), strict=True)) if pairs else []
        good = _answered(rows, study.by_model)
        count(rejected, "asks for something else", len(rows) - len(good))
        kept.append(_Study(study.source, study.statement, tuple(good), study.by_model))
    return kept


def _answered(rows: Sequence[tuple[Core, float]], by_model: frozenset[str]) -> list[Core]:
    """Questions with a margin; of those by rules, whose answers are right by make, two for each answer in any case."""
    good = [c for c, margin in rows if margin > (MIN_MARGIN_WRITTEN if c.direct in by_model else MIN_MARGIN)]
    ruled = sorted((row for row in rows if row[0].direct not in by_model), key=lambda row: -row[1])
    for answer in dict.fromkeys(bare(core.answer) for core, _ in rows):
        own = [core for core, _ in ruled if bare(core.answer) == answer]
        missing = MIN_AN_ANSWER - sum(bare(core.answer) == answer for core in good)
        good += [core for core in own if core not in good][: max(0, missing)]
    return [core for core, _ in rows if core in good]


def bare(answer: str) -> str:
    """An answer without quotes and leading determiner: the words that a right reply must hold."""
    text = answer.strip("'\" ,")
    first, _, rest = text.partition(" ")
    return rest if first.lower() in DETERMINERS and rest else text


def _diverse(cores: Sequence[Core], n: int) -> list[Core]:
    """`n` of the cores in order of worth, taking turns among answers and passing over near copies."""
    left = list(cores)
    chosen: list[Core] = []
    counts: dict[str, int] = {}
    while left and len(chosen) < n:
        best = min(
            range(len(left)),
            key=lambda i: counts.get(bare(left[i].answer).lower(), 0) + 2.0 * _likeness(left[i], chosen) + 0.02 * i,
        )
        core = left.pop(best)
        counts[bare(core.answer).lower()] = counts.get(bare(core.answer).lower(), 0) + 1
        chosen.append(core)
    return chosen


def _likeness(core: Core, chosen: Iterable[Core]) -> float:
    """The largest share of word pairs in common with one of the chosen, 0 to 1."""
    own = pairs_of(core.direct)
    return max((len(own & pairs_of(other.direct)) / max(1, len(own)) for other in chosen), default=0.0)


def pairs_of(text: str) -> set[tuple[str, str]]:
    """Neighbouring words."""
    words = ["^", *WORD.findall(text.lower())]
    return set(pairwise(words))


def _questions(study: _Study, asked: Sequence[tuple[Message, ...]], rng: random.Random) -> list[Episode]:
    chosen = _diverse(study.cores, NUM_CORES + NUM_HELD_OUT)
    if not chosen:
        return []
    num_train = min(NUM_CORES, max(1, len(chosen) - NUM_HELD_OUT, (len(chosen) + 1) // 2))
    train_cores, held_cores = chosen[:num_train], chosen[num_train:] or chosen
    drafts = [Draft((Message("user", core.direct),), core.answer, core.opening) for core in train_cores]
    drafts += _dressed(train_cores, rng, NUM_DRESSED, held_out=False)
    held = _dressed(held_cores, rng, NUM_HELD_OUT, held_out=True)
    origin = {core.direct for core in train_cores} & study.by_model
    train = [_episode(study, draft, "question" if draft.text in origin else "question/rule", False) for draft in drafts]
    known = {draft.messages for draft in (*drafts, *held)}
    train += [_episode(study, Draft(m, "", "asked"), "question", False) for m in asked if m not in known]
    return train + [_episode(study, draft, "question/rule", True) for draft in held]


def _dressed(cores: Sequence[Core], rng: random.Random, n: int, *, held_out: bool) -> list[Draft]:
    """`n` drafts, cores taking turns, no frame twice."""
    drafts: list[Draft] = []
    for turn in range(6 * n):
        if len(drafts) == n:
            break
        draft = dressed(cores[turn % len(cores)], rng, held_out=held_out)
        if all(draft.messages != other.messages and draft.form != other.form for other in drafts):
            drafts.append(draft)
    return drafts


def _episode(study: _Study, draft: Draft, kind: str, held_out: bool) -> Episode:
    source = study.source
    return Episode(
        id=_episode_id(source, draft.messages),
        messages=draft.messages,
        context=study.statement,
        target=study.statement,
        source_ids=(source.id, *source.turn_ids),
        scope=source.scope,
        trust=source.trust,
        kind=kind,
        held_out=held_out,
        answer=bare(draft.answer),
    )


def _episode_id(source: Source, messages: Sequence[Message]) -> str:
    return "ep_" + digest_bytes(canonical_json([source.id, list(messages)]))[:16]


def _near_misses(
    study: _Study, questions: Sequence[Episode], names: Sequence[str], rng: random.Random
) -> list[Episode]:
    """Half with the same entity and another task, half with another entity and the same question."""
    source = study.source
    own_names = names_of(study.statement)
    nouns = nouns_of(study.statement)
    others = [name for name in names if name not in own_names]
    texts = other_tasks(own_names, nouns, numbers_of(study.statement), rng, NUM_NEAR_MISSES // 2)
    train = [episode for episode in questions if not episode.held_out]
    for _ in range(3 * NUM_NEAR_MISSES):
        if len(texts) >= NUM_NEAR_MISSES:
            break
        text = neighbour(rng.choice(train).messages[-1].content, rng, others=others)
        if text and text not in texts:
            texts.append(text)
    return [
        Episode(
            id=_episode_id(source, (Message("user", text),)),
            messages=(Message("user", text),),
            context="",
            target="",
            source_ids=(source.id, *source.turn_ids),
            scope=source.scope,
            trust=source.trust,
            kind="near_miss",
        )
        for text in texts
    ]


def nouns_of(statement: str) -> tuple[str, ...]:
    """Ordinary head nouns of the statement."""
    found = []
    for view in views_of(statement)[:1]:
        for text in (view.subject, *(phrase.text for phrase in view.phrases)):
            head = head_noun(text)
            if head.islower() and "NOUN" in parts_of_speech(head) and len(head) > 2:
                found.append(head)
    return tuple(dict.fromkeys(found))
