"""Precedence is flag > environment > file > default; what can't be used is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenure.config import load_config
from tenure.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tenure.toml"
    path.write_text("[server]\nport = 1000\nmax_queue = 7\n\n[night]\npropose = true\n", "utf8")
    return path


def test_precedence(file: Path) -> None:
    environment = {"TENURE_SERVER_PORT": "2000", "TENURE_SERVER_HOST": "::1", "TENURE_DATA": "/data"}
    config = load_config(file, flags={"server.port": 3000, "model.name": None}, environment=environment)
    assert config.server.port == 3000
    assert config.server.host == "::1"
    assert config.server.max_queue == 7
    assert config.night.propose is True
    assert config.model.name == "smollm2-135m"
    assert config.data == "/data"


@pytest.mark.parametrize(
    ("flags", "environment", "said"),
    [
        ({"server.prot": 1}, {}, "server.prot"),
        ({"sever.port": 1}, {}, "sever.port"),
        ({"server.port": "eighty"}, {}, "eighty"),
        ({"night.propose": "perhaps"}, {}, "perhaps"),
        ({"server.port": 1.5}, {}, "1.5"),
        ({}, {"TENURE_SERVER_PROT": "1"}, "server.prot"),
    ],
)
def test_what_cannot_be_used_is_named(flags: dict[str, object], environment: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config(None, flags=flags, environment=environment)


def test_broken_files_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("[server\n", "utf8")
    with pytest.raises(ConfigError, match=r"broken\.toml"):
        load_config(broken, environment={})
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        load_config(tmp_path / "absent.toml", environment={})
