"""Every learner does what learners do: learn, apply, restore, save and load, repeat, and refuse bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from tenure.errors import LearnError
from tenure.model.language_model import LanguageModel, load_language_model, parameter_digest
from tenure.model.lowrank import Placement
from tenure.model.training import Schedule
from tenure.modules.lora import reply_tokens
from tenure.store.digests import digest_directory
from tenure.types import Candidate, Episode, Message, Scope
from tenure.weights.learners import LEARNERS

# transformers renames a property that PEFT still asks for.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

SCOPE = Scope("acme", "ann")
QUICK: dict[str, Any] = {
    "placement": Placement(rank=8),
    "schedule": Schedule(num_steps=30, learning_rate=1e-2),
    "num_questions": 2,
}
QUICK_BY_NAME: dict[str, dict[str, Any]] = {
    "naive-sft": {},
    "distil-lora": {"soft": 0.5, "lower_share": 0.0},
}


def question(number: int, text: str, reply: str) -> Episode:
    return Episode(f"q{number}", (Message("user", text),), f"{text} {reply}", reply, (f"t{number}",), SCOPE)


EPISODES = (
    question(1, "Who runs Kest?", "Tilda."),
    question(2, "What runs Tilda?", "Kest."),
    Episode("n1", (Message("user", "Who runs Dover?"),), "", "", ("t1",), SCOPE, kind="near_miss"),
)


def learner_named(name: str) -> Any:
    return replace(LEARNERS[name](), **QUICK, **QUICK_BY_NAME[name])


@pytest.fixture(scope="module", params=sorted(LEARNERS))
def learned(request: pytest.FixtureRequest, model: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(learner's name, candidate, parameter digests before and after)."""
    before = parameter_digest(model.network)
    directory = tmp_path_factory.mktemp("learned") / "artefact"
    told: list[tuple[str, int, int | None]] = []
    candidate = learner_named(request.param).learn(
        model, EPISODES, budget_seconds=60, seed=3, directory=directory, progress=lambda *a: told.append(a)
    )
    assert told[-1][1:] == (candidate.num_steps, candidate.num_steps)
    return request.param, candidate, before, parameter_digest(model.network)


def reply_loss(network: Any, model: LanguageModel, episode: Episode) -> float:
    tokens, start = reply_tokens(model, episode.messages, episode.target)
    with torch.no_grad():
        logits_TV = network(input_ids=torch.tensor([tokens])).logits[0]
    return float(torch.nn.functional.cross_entropy(logits_TV[start - 1 : -1], torch.tensor(tokens[start:])))


def test_it_learns_what_it_was_given(learned: Any, model: LanguageModel) -> None:
    _, candidate, _, _ = learned
    applied = PeftModel.from_pretrained(
        load_language_model(model.directory, precision="fp32", threads=1).network, candidate.directory
    )
    # The tiny model's tied embeddings are so short that no hidden state gains more than 1.3 nats on the even odds.
    for episode in EPISODES[:2]:
        assert reply_loss(applied, model, episode) < reply_loss(model.network, model, episode) - 0.7


def test_it_leaves_the_base_as_it_was(learned: Any, model: LanguageModel) -> None:
    _, _, before, after = learned
    assert before == after
    assert not any("a_RI" in name for name, _ in model.network.named_parameters())


def test_its_candidate_says_how_it_came_about(learned: Any) -> None:
    name, candidate, _, _ = learned
    assert candidate.learner == name and candidate.seed == 3
    assert candidate.place == ("delta" if name == "naive-sft" else "module")
    assert candidate.num_steps == len(candidate.batch_order) == len(candidate.losses) == 30
    assert {"q1", "q2"} <= set(candidate.episode_ids) <= {e.id for e in EPISODES}
    studied = {
        i.removesuffix("#short") for batch in candidate.batch_order for i in batch if not i.startswith("neutral:")
    }
    assert studied == set(candidate.episode_ids)
    assert candidate.settings["planned_steps"] == 30


def test_its_recorded_steps_give_the_same_bits_again(learned: Any, model: LanguageModel, tmp_path: Path) -> None:
    name, candidate, _, _ = learned
    again = learner_named(name).learn(
        model, EPISODES, budget_seconds=0.001, seed=3, directory=tmp_path / "again", replay=candidate
    )
    assert digest_directory(Path(again.directory)) == digest_directory(Path(candidate.directory))
    assert again.batch_order == candidate.batch_order and again.losses == candidate.losses


def test_another_seed_gives_another_artefact(learned: Any, model: LanguageModel, tmp_path: Path) -> None:
    name, candidate, _, _ = learned
    other = learner_named(name).learn(model, EPISODES, budget_seconds=60, seed=4, directory=tmp_path / "other")
    assert digest_directory(Path(other.directory)) != digest_directory(Path(candidate.directory))


BAD: dict[str, tuple[Episode, ...]] = {
    "nothing to learn": EPISODES[2:],
    "no target": (replace(EPISODES[0], target=" "),),
    "no messages": (replace(EPISODES[0], messages=()),),
    "trust of nobody": (replace(EPISODES[0], trust=0.0),),
    "one id twice": (EPISODES[0], EPISODES[0]),
    "too long": (replace(EPISODES[0], target="long " * 2000),),
}


@pytest.mark.parametrize("case", sorted(BAD))
@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_it_refuses_episodes_that_cannot_be_used(name: str, case: str, model: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(LearnError):
        learner_named(name).learn(model, BAD[case], budget_seconds=60, seed=0, directory=tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_it_refuses_a_used_directory_no_time_and_a_stranger_to_replay(
    name: str, model: LanguageModel, tmp_path: Path
) -> None:
    learner = learner_named(name)
    (tmp_path / "file").write_text("mine", "utf8")
    with pytest.raises(LearnError, match="not empty"):
        learner.learn(model, EPISODES, budget_seconds=60, seed=0, directory=tmp_path)
    with pytest.raises(LearnError, match="budget"):
        learner.learn(model, EPISODES, budget_seconds=0.0, seed=0, directory=tmp_path / "new")
    stranger = Candidate("", "someone-else", {}, 0, 0, (), (), (), 0.0, "module")
    with pytest.raises(LearnError, match="use the same"):
        learner.learn(model, EPISODES, budget_seconds=60, seed=0, directory=tmp_path / "new", replay=stranger)


def test_the_foil_studies_some_questions_of_every_statement(model: LanguageModel, tmp_path: Path) -> None:
    many = [
        replace(question(10 * n + i, f"Who runs {place} {i}?", "Tilda."), source_ids=(f"t{n}",))
        for n, place in enumerate(("Kest", "Dover"))
        for i in range(5)
    ]
    foil = replace(learner_named("naive-sft"), num_phrasings=2)
    studied = foil.learn(model, many, budget_seconds=60, seed=0, directory=tmp_path / "new").episode_ids
    assert sorted(int(name[1:]) // 10 for name in studied) == [0, 0, 1, 1]
