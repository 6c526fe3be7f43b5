"""The retrieval benchmark: rankings by hand, and the three formats from small files of our own."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tenure.bench.retrieval.corpus import Corpus, read_corpora
from tenure.bench.retrieval.measure import ask, locomo_headlines, run, summary
from tenure.bench.retrieval.ranking import all_at, ndcg_at, recall_at, reciprocal_rank
from tenure.config import load_config
from tenure.errors import InputError


def test_rankings_by_hand() -> None:
    ranked, gold = ["a", "b", "c", "d"], {"b", "d", "z"}
    assert recall_at(ranked, gold, 2) == pytest.approx(1 / 3)
    assert recall_at(ranked, gold, 10) == pytest.approx(2 / 3)
    assert (all_at(ranked, {"a", "b"}, 2), all_at(ranked, gold, 10)) == (1.0, 0.0)
    assert reciprocal_rank(ranked, gold) == 0.5
    assert reciprocal_rank(ranked, {"z"}) == 0.0
    assert ndcg_at(["a", "b"], {"a", "b"}, 10) == pytest.approx(1.0)
    assert ndcg_at(["x", "a"], {"a"}, 10) == pytest.approx(0.6309, abs=1e-4)  # 1 / log2(3)


def write(path: Path, value: Any) -> None:
    data = json.dumps(value).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder like the evaluation data's, with a conversation of ours in each format."""
    folder = tmp_path / "data"
    for name in ("locomo", "beam_100k", "realmem"):
        (folder / "context" / name).mkdir(parents=True)
    locomo = folder / "context" / "locomo"
    turns = [
        {"speaker": "Ada", "dia_id": "D1:1", "text": "I planted a quince tree."},
        {"speaker": "Ben", "dia_id": "D1:2", "text": "Lovely.", "blip_caption": "a grey heron"},
    ]
    asked = [
        {"question": "Which tree did Ada plant?", "evidence": ["D1:2"], "category": 4},
        {"question": "What did Ada say that Ben showed?", "evidence": ["D1:1; D1:2"], "category": 1},
        {"question": "What of it?", "evidence": ["D9:9"], "category": 2},
        {"question": "Whose boat is it?", "evidence": [], "category": 5},
    ]
    sample = {"sample_id": "c", "conversation": {"session_1": turns, "session_1_date_time": "1:56 pm on 8 May, 2023"}}
    write(locomo / "locomo_dev5.json", [sample | {"qa": asked}])
    wrong = {"question_id": "locomo_0_qa0", "error_type": "WRONG_CITATION", "correct_evidence": ["D1:1"]}
    write(locomo / "locomo_audit_errors.json", [wrong])
    beam = folder / "context" / "beam_100k"
    messages = [{"role": "user", "id": 7, "content": "The sprint ends on 29 March. ->-> 1,1"}]
    write(beam / "chat_1.json.gz", [{"turns": [messages]}])
    probes = [{"question": "When does it end?", "source_chat_ids": {"first": [7]}}, {"question": "And the budget?"}]
    write(beam / "probing_1.json", {"information_extraction": probes})
    turn = {"speaker": "User", "content": "My dentist is Dr Sorrel.", "is_query": False}
    query = {"speaker": "User", "content": "Who is my dentist?", "is_query": True, "category_name": "Static"}
    reply = {"speaker": "Assistant", "content": "Dr Sorrel.", "is_query": False, "memory_session_uuids": ["s1", "s9"]}
    sessions = [
        {"session_uuid": "s1", "current_time": "2026-01-01 (Thursday)", "dialogue_turns": [turn]},
        {"session_uuid": "s2", "current_time": "2026-01-02 (Friday)", "dialogue_turns": [query, reply]},
    ]
    write(folder / "context" / "realmem" / "P_dialogues_1k.json.gz", {"dialogues": sessions})
    return folder


def corpus_of(data: Path, form: str, name: str) -> Corpus:
    (corpus,) = read_corpora(data / "context" / name, form)
    return corpus


def test_locomo_is_read_with_its_audit(data: Path) -> None:
    corpus = corpus_of(data, "locomo", "locomo")
    assert [document.text for document in corpus.documents] == [
        "I planted a quince tree.",
        "Lovely. [shows: a grey heron]",
    ]
    assert [(q.gold, q.category) for q in corpus.questions] == [
        (frozenset({"D1:1"}), "single-hop"),
        (frozenset({"D1:1", "D1:2"}), "multi-hop"),
    ]


def test_beam_loses_its_markers_and_questions_without_evidence(data: Path) -> None:
    corpus = corpus_of(data, "beam", "beam_100k")
    assert corpus.documents[0].text == "The sprint ends on 29 March."
    assert [q.gold for q in corpus.questions] == [frozenset({"7"})]


def test_realmem_looks_at_earlier_sessions_only(data: Path) -> None:
    corpus = corpus_of(data, "realmem", "realmem")
    (question,) = corpus.questions
    assert (question.gold, question.num_earlier) == (frozenset({"s1"}), 1)
    (one,) = ask(corpus)
    assert one.ranked == ("s1",)


def test_what_is_found_is_counted(data: Path) -> None:
    asked = list(ask(corpus_of(data, "locomo", "locomo")))
    assert summary(asked)["r10_by_category"] == {"multi-hop": 1.0, "single-hop": 1.0}
    assert locomo_headlines(asked) == {}  # three categories have no question


def test_a_set_that_is_not_there_is_left_out_with_the_reason(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (data / "context" / "locomo" / "locomo_dev5.json").unlink()
    (data / "context" / "locomo").rename(data / "context" / "away")
    run(load_config(flags={}, environment={"TENURE_DATA": str(data)}))
    metrics = json.loads((tmp_path / "bench/results/retrieval.json").read_text())["metrics"]
    assert "TENURE_DATA" in metrics["locomo_skipped"]
    assert metrics["beam_r10"] == metrics["realmem_r10"] == 1.0


@pytest.mark.parametrize(("form", "name"), [("locomo", "beam_100k"), ("beam", "locomo"), ("nonsense", "locomo")])
def test_other_data_is_refused_by_name(data: Path, form: str, name: str) -> None:
    with pytest.raises(InputError):
        read_corpora(data / "context" / name, form)
