"""bench-rehearsal: the loop on two worlds that developers may read, hand-written and harder than the exam's.

Whoever works on self-study, the router or a learner measures here and never opens the exam (`bench/worlds`). Nothing is
trained on these worlds, and no threshold is set by them. Seed 0 is the museum, seed 1 the household.
"""

from __future__ import annotations

import json
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from tenure.bench.loop import parse_seeds, pooled
from tenure.bench.record import write_result
from tenure.bench.trial import run_trial
from tenure.bench.worlds.world import Fact, World
from tenure.config import Config
from tenure.model.progress import Progress
from tenure.modules.skills import conversation, neutral_prompts
from tenure.types import QuestionItem, SilenceItem

WORLDS = ("museum", "household")
NUM_UNRELATED = 60


def run(config: Config, *, seeds: str = "", progress: Progress | None = None) -> None:
    """Run the worlds ("0,1" by default) without the foil."""
    wanted = parse_seeds(seeds or "0,1")
    trials = []
    for seed in wanted:
        with tempfile.TemporaryDirectory(prefix="tenure-rehearsal-") as folder:
            world = development_world(WORLDS[seed])
            trials.append(run_trial(config, world, seed=seed, home=Path(folder), foil=False, progress=progress))
    kinds = {WORLDS[t["seed"]]: t.get("closed_book_by_kind", {}) for t in trials}
    write_result("rehearsal", pooled(trials) | {"closed_book_by_kind": kinds}, seeds=wanted)


def development_world(name: str) -> World:
    """One of `WORLDS`."""
    lines = resources.files("tenure.bench").joinpath(f"development/{name}.jsonl").read_text("utf8").splitlines()
    entries = [json.loads(line) for line in lines]
    facts = tuple(_fact(name, entry) for entry in entries)
    near = tuple(
        SilenceItem(f"{name}/{entry['id']}/n{i}", f"near/{item['kind']}", conversation([item["text"]]), item["kind"])
        for entry in entries
        for i, item in enumerate(entry["near"])
    )
    unrelated = tuple(
        SilenceItem(f"{name}/u{i}", "unrelated", conversation([prompt]))
        for i, prompt in enumerate(neutral_prompts()[:NUM_UNRELATED])
    )
    return World(name, facts, near, tuple(q for fact in facts for q in fact.questions), unrelated)


def _fact(world: str, entry: dict[str, Any]) -> Fact:
    fact_id = f"{world}/{entry['id']}"
    questions = tuple(
        QuestionItem(
            f"{fact_id}/q{i}",
            fact_id,
            conversation(asked["messages"]),
            tuple(asked["accepted"]),
            tuple(asked.get("rejected", ())),
            asked["kind"],
        )
        for i, asked in enumerate(entry["questions"])
    )
    answer = questions[0].accepted[0]
    return Fact(fact_id, entry["entity"], answer, tuple(entry["told"]), questions, entry.get("correction", ""))
