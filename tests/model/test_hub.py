"""Repositories of the hub become directories through its own client: a real one over HTTP, and each way of failing."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tenure.errors import BrokenModel, DownloadError
from tenure.model.hub import fetch_from_hub
from tenure.model.language_model import load_language_model
from tenure.model.progress import silent


def oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@contextlib.contextmanager
def hub_of(directory: Path, name: str, *, breaks_off: str = "") -> Iterator[tuple[str, list[str]]]:
    """A hub with one repository, as its client sees it over HTTP: (endpoint, files that were sent).

    The file `breaks_off` never comes to its end.
    """
    files = {path.name: path.read_bytes() for path in directory.iterdir()} | {"pytorch_model.bin": b"pickle"}
    commit, sent = "b" * 40, list[str]()

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            file = path.removeprefix(f"/{name}/resolve/{commit}/")
            if path.startswith(f"/api/models/{name}/revision/"):
                self._tell({"id": name, "sha": commit, "siblings": [{"rfilename": f} for f in files]})
            elif path == f"/api/models/{name}/tree/{commit}":
                self._tell([{"type": "file", "path": f, "size": len(b), "oid": oid(b)} for f, b in files.items()])
            elif file in files:
                sent.extend([file] if self.command == "GET" else [])
                marks = {"ETag": f'"{oid(files[file])}"', "X-Repo-Commit": commit}
                self._answer(200, files[file], marks, cut=file == breaks_off)
            else:
                self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

        def _tell(self, value: Any) -> None:
            self._answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _answer(self, status: int, body: bytes, headers: dict[str, str], *, cut: bool = False) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body[: len(body) // 2] if cut else body)
            self.close_connection = cut

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", sent
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_repository_is_fetched_from_the_hub_once_and_without_pickles(
    tiny_model_directory: Path, tmp_path: Path
) -> None:
    told: list[tuple[str, int, int | None]] = []
    with hub_of(tiny_model_directory, "org/name") as (endpoint, sent):
        fetched = fetch_from_hub("org/name", tmp_path, progress=lambda *a: told.append(a), endpoint=endpoint)
        assert sorted(set(sent)) == sorted(path.name for path in fetched.iterdir())
        assert "pytorch_model.bin" not in sent
        with pytest.raises(DownloadError, match="no org/nobody"):
            fetch_from_hub("org/nobody", tmp_path, progress=silent, endpoint=endpoint)
    assert (fetched / "model.safetensors").read_bytes() == (tiny_model_directory / "model.safetensors").read_bytes()
    assert any("org/name" in description and done for description, done, _ in told)
    assert load_language_model(fetched, precision="fp32").chat.decode((40,))
    again = fetch_from_hub("org/name", tmp_path, progress=silent, endpoint="http://127.0.0.1:9")
    assert again == fetched


def test_a_download_that_breaks_off_is_no_network(
    tiny_model_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time", mock.Mock(wraps=time, sleep=lambda _: None))
    with (
        hub_of(tiny_model_directory, "org/name", breaks_off="model.safetensors") as (endpoint, _),
        pytest.raises(DownloadError, match="org/name"),
    ):
        fetch_from_hub("org/name", tmp_path, progress=silent, endpoint=endpoint)


def test_an_unreachable_hub_is_no_network(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="no network: the hub can't be reached for org/name"):
        fetch_from_hub("org/name", tmp_path, progress=silent, endpoint="http://127.0.0.1:9")


def test_a_hub_id_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="no hub id"):
        fetch_from_hub("org/na--me.", tmp_path, progress=silent, endpoint="http://127.0.0.1:9")


def test_a_whole_snapshot_is_taken_from_the_cache(tiny_model_directory: Path, tmp_path: Path) -> None:
    """As the hub's client lays it out; the endpoint would refuse, so asking it would fail."""
    commit = "a" * 40
    place = tmp_path / "hub" / "models--org--name"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    snapshot = Path(shutil.copytree(tiny_model_directory, place / "snapshots" / commit))
    assert fetch_from_hub("org/name", tmp_path, progress=silent, endpoint="http://127.0.0.1:9") == snapshot
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(BrokenModel, match=r"no \*\.safetensors"):
        fetch_from_hub("org/name", tmp_path, progress=silent, endpoint="http://127.0.0.1:9")
