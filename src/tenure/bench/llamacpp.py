"""llama.cpp beside the engine: the same GGUF file, as it is and rewritten at bf16, through the `xllamacpp` wheel.

Optional: without that package there is nothing to compare with, and the benchmark says so. Called by `engine.py`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import dequantize, quantize

CONTEXT_TOKENS = 512
SKIPPED_FIELDS = ("general.architecture", "general.file_type")


def as_bf16(source: Path, target: Path) -> Path:
    """The same model with every quantised matrix written as bf16, which is how the engine's weights came about."""
    if target.exists():
        return target
    reader = gguf.GGUFReader(source)
    part = target.with_suffix(".part")
    writer = gguf.GGUFWriter(part, reader.fields["general.architecture"].contents())
    for name, kept in reader.fields.items():
        if not name.startswith("GGUF.") and name not in SKIPPED_FIELDS:
            inner = kept.types[-1] if kept.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(name, kept.contents(), kept.types[0], inner)
    for tensor in reader.tensors:
        shape = [int(size) for size in reversed(tensor.shape)]
        values = dequantize(tensor.data, tensor.tensor_type).reshape(shape).astype(np.float32)
        if values.ndim == 1:
            writer.add_tensor(tensor.name, values)
        else:
            kind = gguf.GGMLQuantizationType.BF16
            writer.add_tensor(tensor.name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(target)
    return target


class LlamaCpp:
    """A llama.cpp server in this process. Raises ImportError when xllamacpp isn't installed."""

    def __init__(self, path: Path, *, num_rows: int, num_threads: int) -> None:
        package: Any = import_module("xllamacpp")
        settings = package.CommonParams()
        settings.model.path = str(path)
        settings.n_ctx = CONTEXT_TOKENS * num_rows
        settings.n_parallel = num_rows
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = num_threads
        settings.verbosity = 0
        self._server = package.Server(settings)

    def tokens_a_second(self, prompts: Sequence[str], num_tokens: int) -> float:
        """Greedy tokens a second over all prompts at once, prompt reading included."""
        counts = [0] * len(prompts)

        def ask(i: int) -> None:
            asked = {"prompt": prompts[i], "n_predict": num_tokens, "max_tokens": num_tokens, "temperature": 0.0}
            answer = self._server.handle_completions({**asked, "cache_prompt": False})
            counts[i] = int(answer["usage"]["completion_tokens"])

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(prompts))]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts) / (time.perf_counter() - started)
