"""The verbs as they are typed, each on a real store; `--json` prints one document and nothing else on stdout."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from tenure.bench.tiny import write_tiny_model
from tenure.cli import app
from tenure.store.library import Store
from tenure.types import DeltaRef, Version


@dataclass(frozen=True)
class Terminal:
    """Types a verb over one home and model."""

    home: Path
    model: Path

    @property
    def options(self) -> list[str]:
        return ["--home", str(self.home), "--model", str(self.model), "--set", "model.precision=fp32"]

    def types(self, *words: str, fails: int = 0) -> Any:
        done = CliRunner().invoke(app, [*self.options, *words, "--json"])
        assert done.exit_code == fails, (done.output, done.exception)
        return json.loads(done.stdout) if done.stdout else done.stderr

    def over(self, home: Path) -> Terminal:
        return Terminal(home, self.model)


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal(tmp_path / "home", write_tiny_model(tmp_path / "model"))


def test_a_log_is_imported_verified_backed_up_and_restored(terminal: Terminal, tmp_path: Path) -> None:
    lines = [
        {"messages": [{"role": "user", "content": f"Berth {n} is Anna's."}, {"role": "assistant", "content": "Noted."}]}
        for n in range(3)
    ]
    log = tmp_path / "log.jsonl"
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + "not json\n", "utf8")
    done = terminal.types("import", str(log), "--as", "acme/anna")
    assert (done["num_turns"], done["num_rejected"]) == (3, 1)
    checked = terminal.types("verify")
    assert checked["broken_artefacts"] == []
    terminal.types("backup", str(tmp_path / "archive"))
    elsewhere = terminal.over(tmp_path / "elsewhere")
    elsewhere.types("restore", str(tmp_path / "archive"))
    assert elsewhere.types("verify") == checked
    assert elsewhere.types("status")["num_entries"] == 3


def test_a_chain_that_was_tampered_with_is_told_and_fails(terminal: Terminal) -> None:
    terminal.types("chat", "Berth 4 is Anna's.", "--max-tokens", "2")
    with sqlite3.connect(terminal.home / "tenure.db") as database:
        database.execute("UPDATE entries SET content = x'00'")
    assert terminal.types("verify", fails=1).startswith("chain_broken")


def test_a_reply_can_be_asked_about_and_put_right(terminal: Terminal) -> None:
    reply = terminal.types("chat", "Which berth is Anna's?", "--max-tokens", "2")
    entry = terminal.types("feedback", reply["id"], "--text", "Berth 4 is Anna's.")
    told = terminal.types("why", reply["id"])
    assert told["turn"]["id"] == reply["id"] and told["version"]
    assert [f["id"] for f in told["feedback"]] == [entry["id"]]
    assert "not_found" in terminal.types("why", "of-nobody", fails=1)


def test_keys_are_made_listed_and_revoked(terminal: Terminal) -> None:
    made = terminal.types("keys", "create", "--principal", "acme/anna", "--roles", "chat")
    (listed,) = terminal.types("keys", "list")
    assert made["token"] not in json.dumps(listed)
    terminal.types("keys", "revoke", "--key", listed["id"])
    assert terminal.types("keys", "list")[0]["revoked_at"] is not None
    assert "TENANT/PRINCIPAL" in terminal.types("keys", "create", "--principal", "anna", fails=1)


def test_versions_differ_by_what_they_hold_whoever_first_learned_it(terminal: Terminal) -> None:
    terminal.types("chat", "hello", "--max-tokens", "2")
    with Store.open(terminal.home) as store:
        registry = store.registry
        (base,) = registry.versions()
        artefacts = [store.objects.put_bytes(f"artefact {n}".encode()) for n in range(3)]
        parent, versions = base.digest, list[str]()
        for number in range(3):
            held = tuple(DeltaRef(digest) for digest in artefacts[: number + 1])
            b = base.version
            versions.append(registry.put(Version(b.base, b.tokenizer, b.chat_template, b.precision, held)))
            learned = {artefacts[number]: {"source_ids": [f"turn {number}"]}}
            registry.set_lineage(versions[-1], parent=parent, source_ids=[f"turn {number}"], candidates=learned)
            parent = versions[-1]
    told = terminal.types("diff", versions[0], versions[2])
    assert told["turns learned"] == ["turn 1", "turn 2"]
    assert [d["digest"] for d in told["deltas added"]] == artefacts[1:]
    assert terminal.types("diff", versions[2], base.digest)["turns no longer learned"] == [
        f"turn {n}" for n in range(3)
    ]
    assert [row["version"] for row in terminal.types("versions")] == [base.digest, *versions]
    assert terminal.types("show", versions[1])["lineage"]["parent"] == versions[0]


def test_what_no_gate_has_passed_is_not_promoted(terminal: Terminal) -> None:
    terminal.types("chat", "hello", "--max-tokens", "2")
    (row,) = terminal.types("versions")
    with Store.open(terminal.home) as store:
        base = store.registry.version(row["version"])
        module = store.objects.put_bytes(b"module")
        parts = (base.base, base.tokenizer, base.chat_template, base.precision)
        other = store.registry.put(Version(*parts, (DeltaRef(module),)))
    assert "refused" in terminal.types("promote", other, fails=3)
    assert terminal.types("rollback", fails=1)
    assert terminal.types("revoke", other, "--reason", "unjudged")["champion"] == row["version"]


def test_serve_prints_its_url_once_it_answers(terminal: Terminal) -> None:
    command = [sys.executable, "-m", "tenure", *terminal.options, "serve", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            assert httpx.get(f"{url}/models", trust_env=False).status_code == 200
        finally:
            process.terminate()
            process.wait()
