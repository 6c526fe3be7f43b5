"""The champion changes while requests are under way: none fails, one version answers each, and it can go back."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from house import House, Serve
from safetensors.torch import save_file

from tenure.gates.attested import attest_verdict
from tenure.types import Alias, Audience, ModuleKind, ModuleRef, Outcome, Verdict

ASK: Any = {"model": "champion", "messages": [{"role": "user", "content": "Say something."}], "max_tokens": 8}


@pytest.fixture(scope="module")
def swapped(serve: Serve) -> Iterator[House]:
    with serve() as running:
        yield running


def lora(directory: Path, *, rank: int = 2, width: int = 64, inner: int = 128) -> Path:
    """A random adapter on the down projections of both layers, in PEFT's layout; strong enough to be heard."""
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for layer in range(2):
        stem = f"base_model.model.model.layers.{layer}.mlp.down_proj"
        tensors[f"{stem}.lora_A.weight"] = torch.randn(rank, inner, generator=generator)
        tensors[f"{stem}.lora_B.weight"] = torch.randn(width, rank, generator=generator)
    directory.mkdir()
    save_file(tensors, directory / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ["down_proj"], "bias": "none"}
    (directory / "adapter_config.json").write_text(json.dumps(settings))
    return directory


def judged_version(house: House, module: Path) -> str:
    """The champion with an always-on module, and a passed verdict on it."""
    store = house.runtime.store
    champion = store.registry.aliases()[Alias.CHAMPION]
    ref = ModuleRef(store.objects.put_directory(module), ModuleKind.LORA, Audience.PUBLIC, "test", always_on=True)
    digest = store.registry.put(replace(store.registry.version(champion), modules=(ref,)))
    anchor = store.registry.aliases()[Alias.ANCHOR]
    attest_verdict(store.registry, Verdict(digest, champion, anchor, Outcome.PASSED, (), ("a test",), 0.05))
    return digest


def test_a_swap_under_traffic_fails_no_request_and_can_be_undone(swapped: House, tmp_path: Path) -> None:
    digest = judged_version(swapped, lora(tmp_path / "module"))
    seen: list[tuple[str, str, tuple[str, ...]]] = []
    stop = threading.Event()

    def talk() -> None:
        with swapped.client() as client:
            while not stop.is_set():
                reply = client.chat.completions.create(**ASK, extra_body={"memory": False})
                modules = tuple((reply.model_extra or {})["tenure"]["modules"])
                seen.append((reply.system_fingerprint or "", reply.choices[0].message.content or "", modules))

    talkers = [threading.Thread(target=talk) for _ in range(3)]
    for talker in talkers:
        talker.start()
    with swapped.http() as http, swapped.client() as client:

        def answers_with(version: str) -> None:
            while client.chat.completions.create(**ASK).system_fingerprint != version:
                assert not stop.wait(0.01)

        before = http.get("/admin/aliases").json()
        assert http.post("/admin/promote", json={"digest": digest[:16]}).json()["champion"] == digest
        answers_with(digest)
        named = client.chat.completions.create(**{**ASK, "model": before["anchor"]})
        assert named.system_fingerprint == before["anchor"]  # another version in the same batch
        assert http.post("/admin/rollback").json() == before
        answers_with(before["champion"])
        stop.set()
        for talker in talkers:
            talker.join()
        moves = http.get("/admin/aliases/history").json()["data"]
    assert [move["action"] for move in moves][-2:] == ["promote", "rollback"]
    assert {version for version, _, _ in seen} == {before["champion"], digest}
    assert len({text for version, text, _ in seen if version == digest}) == 1
    assert len({text for version, text, _ in seen if version != digest}) == 1
    assert {text for version, text, _ in seen if version == digest} != {t for v, t, _ in seen if v != digest}
    assert all(bool(modules) == (version == digest) for version, _, modules in seen)


def test_a_revoked_champion_gives_way_at_once(swapped: House, tmp_path: Path) -> None:
    digest = judged_version(swapped, lora(tmp_path / "module"))
    with swapped.http() as http, swapped.client() as client:
        base = http.get("/admin/aliases").json()["champion"]
        assert http.post("/admin/promote", json={"digest": digest}).status_code == 200
        body = {"digest": digest, "reason": "it said something wrong"}
        assert http.post("/admin/revoke", json=body).json()["champion"] == base
        assert http.post("/admin/promote", json={"digest": digest}).status_code == 409
        assert client.chat.completions.create(**ASK).system_fingerprint == base
        assert digest not in {model.id for model in client.models.list()}
