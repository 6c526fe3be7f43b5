"""A real server on a free port over a runtime with the tiny model, and official clients that talk to it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch
from tiny import write_tiny_model

from tenure.config import Config, load_config
from tenure.runtime import Runtime
from tenure.serve.app import Server, build_app, listen, server_settings

Settings = Callable[..., Config]
Serve = Callable[..., contextlib.AbstractContextManager["House"]]


@dataclass(frozen=True, slots=True)
class House:
    """A server that answers at `url` (with /v1)."""

    url: str
    runtime: Runtime

    def client(self, key: str = "none", **options: Any) -> openai.OpenAI:
        """The official client; it doesn't retry, so that a test sees every answer."""
        return openai.OpenAI(base_url=self.url, api_key=key, max_retries=0, timeout=30, **options)

    def http(self, key: str | None = None) -> httpx.Client:
        """A bare HTTP client of the same server, for what the official one can't send."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, trust_env=False)


def settings_of(model: Path, home: Path, changes: dict[str, Any]) -> Config:
    """Settings for the tiny model in a home of its own."""
    flags = {
        "model.name": str(model),
        "model.cache": str(home / "cache"),
        "model.precision": "fp32",
        "model.threads": 1,
        "store.home": str(home / "home"),
        "server.port": 0,
        "server.max_tokens": 8,
        **{name.replace("__", "."): value for name, value in changes.items()},
    }
    return load_config(flags=flags, environment={})


@contextlib.contextmanager
def serving(config: Config) -> Iterator[House]:
    """A running server, stopped and closed at the end."""
    torch.set_num_threads(1)
    sock = listen(config.server)
    runtime = Runtime.open(config, worker=True)
    started = threading.Event()
    server = Server(server_settings(build_app(runtime)), on_started=started.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    try:
        assert started.wait(30), "the server didn't start within 30 s"
        yield House(f"http://127.0.0.1:{sock.getsockname()[1]}/v1", runtime)
    finally:
        server.should_exit = True
        thread.join(30)
        runtime.close()
        sock.close()


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
