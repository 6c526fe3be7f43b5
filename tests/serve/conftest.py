"""Servers that the tests of the door share, over a tiny model with room for tools and notes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from house import House, Serve, serving, settings_of
from tiny import write_tiny_model


@pytest.fixture(scope="session")
def roomy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a window of 2048 bytes: room for tools and notes."""
    directory = write_tiny_model(tmp_path_factory.mktemp("roomy-model"))
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "max_position_embeddings": 2048}))
    return directory


@pytest.fixture(scope="session")
def serve(roomy_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """Start a server with these settings (`server__keys=True` for server.keys)."""

    def start(**changes: Any) -> contextlib.AbstractContextManager[House]:
        return serving(settings_of(roomy_model, tmp_path_factory.mktemp("house"), changes))

    return start


@pytest.fixture(scope="session")
def house(serve: Serve) -> Iterator[House]:
    """One server without keys, shared by tests that don't change what it serves."""
    with serve() as running:
        yield running


@pytest.fixture
def client(house: House) -> Iterator[openai.OpenAI]:
    """The official client of the shared server."""
    with house.client() as made:
        yield made
