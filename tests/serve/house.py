"""A real server on a free port over a runtime with the tiny model, and clients that talk to it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import torch

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
