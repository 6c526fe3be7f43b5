"""Notes are read with the base's skill of reading, where it has one: named, explained, and nowhere else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from test_runtime import ADMIN, ANNA, BEN, say, write_adapter

from tenure.config import Config, load_config
from tenure.context.notes import EXAMPLE_MESSAGES
from tenure.runtime import ChatCall, Runtime
from tenure.types import Audience, Message, ModuleKind, ModuleRef

TOLD = "The gate code of the Ostrel depot is 4471."
QUESTION = "What is the gate code of the Ostrel depot?"


@pytest.fixture(scope="module")
def taught(tiny_model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with an adapter for a skill of reading: what it was taught matters to nobody here."""
    own = tmp_path_factory.mktemp("base") / "model"
    shutil.copytree(tiny_model_directory, own)
    shutil.copytree(write_adapter(own, seed=3), own / "skills" / "reading")
    return own


@pytest.fixture
def config(taught: Path, tmp_path: Path) -> Config:
    flags = {"model.name": str(taught), "store.home": str(tmp_path / "home"), "model.precision": "fp32"}
    return load_config(flags={**flags, "model.threads": 1}, environment={})


@pytest.fixture
def runtime(config: Config) -> Iterator[Runtime]:
    opened = Runtime.open(config)
    yield opened
    opened.close()


def test_the_skill_is_on_where_a_note_is_in_the_prompt_and_only_there(runtime: Runtime) -> None:
    told = say(runtime, TOLD)
    noted, without, other = say(runtime, QUESTION), say(runtime, QUESTION, memory=False), say(runtime, QUESTION, BEN)
    assert len(noted.module_ids) == 1
    assert noted.effective != without.effective
    for reply in (told, without, other):
        assert not reply.module_ids
        assert reply.effective == without.effective


def test_the_skill_changes_the_reply(runtime: Runtime) -> None:
    """An adapter that is named but not applied would be a lie in the ledger."""
    say(runtime, TOLD)
    call = ChatCall((Message("user", QUESTION),), ANNA)
    prompt = runtime.recall(call).messages
    noted = runtime.chat(replace(call, sampling=replace(call.sampling, max_tokens=8))).result().message
    bare = ChatCall(prompt, ANNA, sampling=replace(call.sampling, max_tokens=8), memory=False)
    assert noted != runtime.chat(bare).result().message


def test_no_worked_examples_are_shown_to_a_base_that_can_read(runtime: Runtime) -> None:
    say(runtime, TOLD)
    messages = runtime.recall(ChatCall((Message("user", QUESTION),), ANNA)).messages
    assert TOLD in messages[-1].content
    assert not set(EXAMPLE_MESSAGES) & set(messages)


def test_why_tells_the_skill_from_what_users_taught_and_its_bytes_are_kept(runtime: Runtime, taught: Path) -> None:
    module = runtime.store.objects.put_directory(write_adapter(taught, seed=5))
    reference = ModuleRef(module, ModuleKind.LORA, Audience.PUBLIC, "", always_on=True)
    version = runtime.store.registry.put(replace(runtime.model.version(), modules=(reference,)))
    say(runtime, TOLD)
    reply = say(runtime, QUESTION, model=version, roles=ADMIN)
    assert reply.module_ids[0] == module and len(reply.module_ids) == 2
    explained = runtime.why(reply.id, ANNA, ADMIN)
    assert set(explained.modules) == {module}
    assert explained.skills == reply.module_ids[1:]
    assert (runtime.store.objects.path(explained.skills[0]) / "adapter_model.safetensors").is_file()


def test_the_skill_stays_when_versions_go_and_can_be_switched_off(runtime: Runtime, config: Config) -> None:
    say(runtime, TOLD)
    runtime.served.keep_only([])
    assert say(runtime, QUESTION).module_ids
    without = Runtime.open(replace(config, context=replace(config.context, reading=False)))
    try:
        assert without.recall(ChatCall((Message("user", QUESTION),), ANNA)).messages[-2:-1] == EXAMPLE_MESSAGES[-1:]
        assert not say(without, QUESTION).module_ids
    finally:
        without.close()


def test_links_to_its_files_are_followed(taught: Path, tmp_path: Path) -> None:
    """A hub's cache holds links; objects never do."""
    linked = tmp_path / "linked"
    shutil.copytree(taught, linked, ignore=shutil.ignore_patterns("skills"))
    (linked / "skills" / "reading").mkdir(parents=True)
    for file in (taught / "skills" / "reading").iterdir():
        (linked / "skills" / "reading" / file.name).symlink_to(file)
    flags = {"model.name": str(linked), "store.home": str(tmp_path / "other"), "model.precision": "fp32"}
    opened = Runtime.open(load_config(flags={**flags, "model.threads": 1}, environment={}))
    try:
        assert opened.served.can_read
    finally:
        opened.close()
