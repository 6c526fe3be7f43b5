"""Holding the exam: who is asked what, what is kept, and how items are marked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from pupils import BASE, Pupil, base_pupil, general, ids, questions, silence, whole_exam

from tenure.config import GateConfig
from tenure.errors import GateError
from tenure.gates.answerer import Answered, Prompt, Scored
from tenure.gates.cache import DirectoryCache, MemoryCache, ResultCache
from tenure.gates.examination import BROKEN_KL, activation_rate, examine
from tenure.gates.suites import Suite
from tenure.gates.verdict import fails, judge
from tenure.types import ChoiceItem, Item, Message, Outcome, Report, SilenceItem, SuiteKind, SuiteReport

SUITES = whole_exam()
NUM_ITEMS = {suite.name: len(suite.items) for suite in SUITES}


def of(report: Report, name: str) -> SuiteReport:
    return next(suite for suite in report.suites if suite.suite == name)


def test_results_are_paired_in_the_order_of_the_items() -> None:
    base = base_pupil(SUITES)
    report = examine(Pupil("new", SUITES, wrong=ids("g", [5])), base, base, SUITES)
    for suite, found in zip(SUITES, report.suites, strict=True):
        assert [r.item_id for r in found.version] == [i.id for i in suite.items]
        assert found.kind is suite.kind
    assert [r.item_id for r in of(report, "general").version if not r.correct] == ["g5"]
    assert of(report, "general").version[0].margin == pytest.approx(1.0)
    assert of(report, "general").version[5].margin == pytest.approx(-1.0)
    assert of(report, "general").version[5].answer == "no"
    assert (report.version, report.champion, report.anchor, report.precision) == ("new", BASE, BASE, "bf16")


def test_only_those_are_asked_who_are_compared() -> None:
    base = base_pupil(SUITES)
    report = examine(Pupil("new", SUITES), base, base, SUITES)
    empty = {s.suite: (not s.champion, not s.anchor, not s.forced) for s in report.suites}
    assert empty == {
        "told": (False, True, True),
        "general": (False, False, False),
        "near-miss": (True, False, True),
        "drift": (True, True, True),
    }


def test_a_champion_that_is_the_anchor_is_asked_once() -> None:
    base = base_pupil(SUITES)
    again = base_pupil(SUITES)
    examine(Pupil("new", SUITES), base, again, SUITES)
    assert base.asked + again.asked == NUM_ITEMS["told"] + NUM_ITEMS["general"] + NUM_ITEMS["near-miss"]


def test_where_the_router_abstains_nothing_is_asked_twice() -> None:
    base = base_pupil(SUITES)
    new = Pupil("new", SUITES, everywhere=False, changed=ids("near-miss", [1, 2, 3]))
    report = examine(new, base, base, SUITES)
    forced = NUM_ITEMS["general"]
    assert new.asked == NUM_ITEMS["told"] + 3 + NUM_ITEMS["drift"] + forced
    assert activation_rate(of(report, "near-miss").version, of(report, "near-miss").anchor) == pytest.approx(0.01)
    assert {r.effective for r in of(report, "general").version} == {BASE}


def test_after_a_suite_that_refuses_the_version_nothing_more_is_asked() -> None:
    base = base_pupil(SUITES)
    new = Pupil("new", SUITES, wrong=ids("told", range(48)))
    refused = partial(fails, policy=GateConfig())
    report = examine(new, base, base, SUITES, refused=refused)
    assert new.asked == NUM_ITEMS["told"]
    assert [bool(suite.version) for suite in report.suites] == [True, False, False, False]
    verdict = judge(report, GateConfig())
    assert verdict.outcome is Outcome.FAILED
    assert any("no near-miss suite was asked" in reason for reason in verdict.reasons)
    good = Pupil("good", SUITES)
    assert all(suite.version for suite in examine(good, base, base, SUITES, refused=refused).suites)
    assert good.asked == sum(NUM_ITEMS.values()) + NUM_ITEMS["general"]


@pytest.mark.parametrize("kind", ["memory", "directory"])
def test_a_second_exam_asks_nothing_again(kind: str, tmp_path: Path) -> None:
    def cache() -> ResultCache:
        return kept if kind == "memory" else DirectoryCache(tmp_path / "kept")

    kept = MemoryCache()
    base, new = base_pupil(SUITES), Pupil("new", SUITES, wrong=ids("g", [1]), changed=ids("near-miss", [4]))
    first = examine(new, base, base, SUITES, cache=cache())
    base.asked = new.asked = 0
    second = examine(new, base, base, SUITES, cache=cache())
    assert (base.asked, new.asked) == (0, 0)
    assert first.suites == second.suites
    forgetting = cache()
    forgetting.forget("new")
    examine(new, base, base, SUITES, cache=cache())
    assert base.asked == 0
    assert new.asked == sum(NUM_ITEMS.values())


def test_a_torn_line_costs_one_answer(tmp_path: Path) -> None:
    base = base_pupil(SUITES)
    suites = (general(40),)
    first = examine(base, base, base, suites, forced_suites=(), cache=DirectoryCache(tmp_path))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-7])
    base.asked = 0
    second = examine(base, base, base, suites, forced_suites=(), cache=DirectoryCache(tmp_path))
    assert base.asked == 1
    assert first.suites == second.suites
    base.asked = 0
    examine(base, base, base, suites, forced_suites=(), cache=DirectoryCache(tmp_path))
    assert base.asked == 0


def test_several_exams_append_to_one_file(tmp_path: Path) -> None:
    def write(writer: int) -> None:
        cache = DirectoryCache(tmp_path)
        for i in range(50):
            cache.keep("new", "bf16", {f"{writer}-{i}-{j}": "x" * 3000 for j in range(8)})

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    known = DirectoryCache(tmp_path).of("new", "bf16")
    assert len(known) == 4 * 50 * 8
    assert set(known.values()) == {"x" * 3000}


def test_a_cache_file_cannot_leave_its_folder(tmp_path: Path) -> None:
    with pytest.raises(GateError, match="can't name a cache file"):
        DirectoryCache(tmp_path).of("../elsewhere", "bf16")


def test_another_precision_is_another_answer() -> None:
    kept = MemoryCache()
    base = base_pupil(SUITES)
    examine(base, base, base, (general(40),), forced_suites=(), cache=kept)
    other = base_pupil(SUITES)
    other.precision = "int8"
    examine(other, other, other, (general(40),), forced_suites=(), cache=kept)
    assert other.asked == 40
    with pytest.raises(GateError, match=r"bf16.*int8"):
        examine(other, base, base, (general(40),), forced_suites=())


def test_marking_is_done_anew_on_kept_answers() -> None:
    """A corrected list of accepted answers counts at once, without asking again."""
    kept = MemoryCache()
    suites = (questions("told", 3, SuiteKind.ACQUISITION),)
    base, new = base_pupil(suites), Pupil("new", suites)
    examine(new, base, base, suites, forced_suites=(), cache=kept)
    item = suites[0].items[0]
    corrected = Suite("told", (type(item)(item.id, "f", item.messages, ("other",)),), SuiteKind.ACQUISITION)
    new.asked = 0
    report = examine(new, base, base, (corrected,), forced_suites=(), cache=kept)
    assert new.asked == 0
    assert not of(report, "told").version[0].correct


def test_silence_is_held_against_the_anchor_in_golden_sets_too() -> None:
    suites = (silence("mine", 5, SuiteKind.GOLDEN),)
    base = base_pupil(suites)
    report = examine(Pupil("new", suites, changed=ids("mine", [2])), base, base, suites, forced_suites=())
    assert [r.correct for r in of(report, "mine").version] == [True, True, False, True, True]
    assert all(r.correct for r in of(report, "mine").anchor)


def test_drift_that_is_no_number_counts_as_large() -> None:
    suites = (silence("drift", 2, SuiteKind.DRIFT),)
    base = base_pupil(suites)
    report = examine(
        Pupil("new", suites, kl={"drift0": float("nan"), "drift1": 0.25}), base, base, suites, forced_suites=()
    )
    assert [r.kl for r in of(report, "drift").version] == [BROKEN_KL, 0.25]


def test_a_tie_is_wrong() -> None:
    class Undecided(Pupil):
        def score(self, items: object, *, forced: bool = False) -> list[Scored]:
            return [Scored((-1.0, -1.0), self.digest) for _ in items]

    suites = (general(2),)
    undecided = Undecided("new", suites)
    report = examine(undecided, undecided, undecided, suites, forced_suites=())
    assert not any(r.correct for r in of(report, "general").version)


@pytest.mark.parametrize("scores", [(-1.0, -2.0, float("nan")), (float("inf"), -1.0, -2.0), (float("nan"),) * 3])
def test_scores_that_are_no_numbers_are_wrong_wherever_they_stand(scores: tuple[float, ...]) -> None:
    class Broken(Pupil):
        def score(self, items: object, *, forced: bool = False) -> list[Scored]:
            return [Scored(scores, self.digest) for _ in items]

    item = ChoiceItem("c", "f", "One and one is", (" two", " three", " four"), 0)
    suites = (Suite("general", (item,), SuiteKind.GENERAL),)
    broken = Broken("new", suites)
    (result,) = of(examine(broken, broken, broken, suites, forced_suites=()), "general").version
    assert not result.correct
    assert result.margin == 0.0


def test_progress_counts_to_the_end() -> None:
    told: list[tuple[str, int, int]] = []
    base = base_pupil(SUITES)
    examine(Pupil("new", SUITES), base, base, SUITES, progress=lambda *step: told.append(step))
    done = [step[1] for step in told]
    assert done == sorted(done)
    assert told[-1][1] == told[-1][2] == 48 * 2 + 600 * 4 + 300 * 2 + 60
    assert "general, forced" in {step[0] for step in told}


# ------------------------------------------------------------------------------------------ what can't be held


class Careless(Pupil):
    """Routes to one name and answers under another."""

    def answer(self, prompts: object, *, forced: bool = False) -> list[Answered]:
        return [Answered("x", "somebody else") for _ in prompts]


class Hasty(Pupil):
    """Leaves the last prompt out."""

    def answer(self, prompts: object, *, forced: bool = False) -> list[Answered]:
        return super().answer(prompts, forced=forced)[:-1]


class Terse(Pupil):
    """Scores the first choice only."""

    def score(self, items: object, *, forced: bool = False) -> list[Scored]:
        return [Scored(s.log_likelihoods[:1], s.effective) for s in super().score(items, forced=forced)]


@pytest.mark.parametrize(
    ("pupil", "message"),
    [(Careless, "must agree"), (Hasty, "gave 47 results for 48 items"), (Terse, "gave 1 numbers for the 2 choices")],
)
def test_an_answerer_that_breaks_its_contract_is_found_out(pupil: type[Pupil], message: str) -> None:
    base = base_pupil(SUITES)
    with pytest.raises(GateError, match=message):
        examine(pupil("new", SUITES), base, base, SUITES)


def test_exams_that_cannot_be_held() -> None:
    base = base_pupil(SUITES)
    with pytest.raises(GateError, match="two suites are named 'general'"):
        examine(base, base, base, (general(2), general(3)))
    with pytest.raises(GateError, match="forced on"):
        examine(base, base, base, (general(2),), forced_suites=("genral",))
    with pytest.raises(GateError, match="holds a choice item"):
        examine(base, base, base, (Suite("drift", general(2).items, SuiteKind.DRIFT),), forced_suites=())


# ------------------------------------------------------------------------------------------ on a real model


class TinyAnswerer:
    """The tiny model answering for itself: greedy, one prompt at a time."""

    precision = "fp32"

    def __init__(self, directory: Path, digest: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(1)
        self.digest = digest
        self._torch = torch
        self._model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
        self._tokenizer = AutoTokenizer.from_pretrained(directory)

    def route(self, items: list[Item], *, forced: bool = False) -> list[str]:
        return [self.digest] * len(items)

    def answer(self, prompts: list[Prompt], *, forced: bool = False) -> list[Answered]:
        return [Answered(self._greedy(prompt), self.digest) for prompt in prompts]

    def score(self, items: list[ChoiceItem], *, forced: bool = False) -> list[Scored]:
        return [Scored(tuple(self._likelihood(i.prompt, c) for c in i.choices), self.digest) for i in items]

    def drift(self, prompts: list[Prompt]) -> list[object]:
        raise AssertionError("no drift suite here")

    def _greedy(self, prompt: Prompt) -> str:
        messages = [{"role": m.role, "content": m.content} for m in prompt]
        tokens = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        ids_BT = self._torch.tensor([tokens])
        with self._torch.inference_mode():
            for _ in range(8):
                logits_BTV = self._model(ids_BT).logits
                ids_BT = self._torch.cat([ids_BT, logits_BTV[:, -1:].argmax(-1)], dim=1)
        return str(self._tokenizer.decode(ids_BT[0, len(tokens) :]))

    def _likelihood(self, prompt: str, choice: str) -> float:
        head = self._tokenizer(prompt)["input_ids"]
        tail = self._tokenizer(choice)["input_ids"]
        with self._torch.inference_mode():
            logp_TV = self._model(self._torch.tensor([head + tail])).logits[0].log_softmax(-1)
        return float(sum(logp_TV[len(head) - 1 + i, token] for i, token in enumerate(tail)))


def test_a_model_agrees_with_itself(tiny_model_directory: Path) -> None:
    """Two loads of one model: no item fixed or broken, no near-miss answered otherwise."""
    choice = ChoiceItem("c", "f", "One and one is", (" two", " three"), 0)
    prompts = [SilenceItem(f"s{i}", "f", (Message("user", f"say {i}"),)) for i in range(3)]
    suites = (
        Suite("general", (choice,), SuiteKind.GENERAL),
        Suite("near-miss", tuple(prompts), SuiteKind.NEAR_MISS),
    )
    one, two = TinyAnswerer(tiny_model_directory, "one"), TinyAnswerer(tiny_model_directory, "two")
    report = examine(one, two, two, suites, forced_suites=())
    margins = [of(report, "general").version[0].margin, of(report, "general").anchor[0].margin]
    assert margins[0] == margins[1] != 0
    assert all(r.correct and r.answer for r in of(report, "near-miss").version)
