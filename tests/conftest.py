"""Fixtures shared by all tests: the tiny model and a temporary home."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import write_tiny_model


@pytest.fixture(scope="session")
def tiny_model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny random model in transformers layout."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny-model"))
