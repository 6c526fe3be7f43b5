"""Fixtures shared by all tests: the tiny model and a temporary home."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import write_tiny_model

from tenure.model.language_model import LanguageModel, load_language_model


@pytest.fixture(scope="session")
def tiny_model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny random model in transformers layout."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture(scope="module")
def model(tiny_model_directory: Path) -> LanguageModel:
    """The tiny model on one thread in fp32, afresh for each file of tests."""
    torch.set_num_threads(1)
    return load_language_model(tiny_model_directory, precision="fp32", threads=1)
