"""llama.cpp beside the engine: the same GGUF file, as it is and rewritten at bf16, through the `xllamacpp` wheel.

Optional: without that package there is nothing to compare with, and the benchmark says so. Called by `engine.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
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


def tokens_a_second(path: Path, prompts: Sequence[str], *, num_tokens: int, num_threads: int) -> float:
    """Greedy tokens a second over all prompts at once, prompt reading included, loading and warming up not.

    Runs in a process of its own, so that neither its threads nor torch's wait for the other's.
    Raises subprocess.CalledProcessError when it fails there.
    """
    asked = json.dumps({"path": str(path), "prompts": list(prompts), "tokens": num_tokens, "threads": num_threads})
    done = subprocess.run(
        [sys.executable, "-m", "tenure.bench.llamacpp", asked], check=True, capture_output=True, text=True
    )
    return float(done.stdout.strip().splitlines()[-1])


def _measure(path: str, prompts: Sequence[str], num_tokens: int, num_threads: int) -> float:
    package: Any = import_module("xllamacpp")
    settings = package.CommonParams()
    settings.model.path = path
    settings.n_ctx = CONTEXT_TOKENS * len(prompts)
    settings.n_parallel = len(prompts)
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = num_threads
    settings.verbosity = 0
    server = package.Server(settings)
    _ask_all(server, prompts, 4)
    started = time.perf_counter()
    said = _ask_all(server, prompts, num_tokens)
    return said / (time.perf_counter() - started)


def _ask_all(server: Any, prompts: Sequence[str], num_tokens: int) -> int:
    counts = [0] * len(prompts)

    def ask(i: int) -> None:
        said = [{"role": "user", "content": prompts[i]}]
        asked = {"messages": said, "max_tokens": num_tokens, "temperature": 0.0, "cache_prompt": False}
        counts[i] = int(server.handle_chat_completions(asked)["usage"]["completion_tokens"])

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts)


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    rate = _measure(order["path"], order["prompts"], order["tokens"], order["threads"])
    sys.stdout.write(f"\n{rate}\n")
