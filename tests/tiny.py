"""The tiny random model, under the name by which the tests know it."""

from __future__ import annotations

from tenure.bench.tiny import SPECIAL, byte_tokenizer, write_tiny_model

__all__ = ["SPECIAL", "byte_tokenizer", "write_tiny_model"]
