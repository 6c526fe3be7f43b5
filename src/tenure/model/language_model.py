"""The base model in memory: its network, its chat format, and the digests that name it.

Knows no engine, versions' history or adapters; made by `load_language_model`, used by everything above.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from tenure.config import keep_compiled
from tenure.errors import BrokenModel, ModelError
from tenure.model.chat import ChatFormat
from tenure.model.precision import packs_bf16
from tenure.store.digests import canonical_json, digest_bytes
from tenure.types import Version

AUTO = "auto"
# int8 is weight-only and made by the engine from the bf16 parameters that are loaded here.
LOADED_AS = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.bfloat16}
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
)
HASHED_AT_ONCE_BYTES = 2**26


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A loaded base model. `base`, `tokenizer` and `chat_template` are digests (hex sha256)."""

    name: str
    directory: Path
    network: PreTrainedModel
    chat: ChatFormat
    precision: str
    base: str
    tokenizer: str
    chat_template: str
    max_context_tokens: int

    def version(self) -> Version:
        """The bare base as a version: no deltas, no modules, no router."""
        return Version(
            base=self.base, tokenizer=self.tokenizer, chat_template=self.chat_template, precision=self.precision
        )


def load_language_model(
    directory: Path, *, precision: str = "bf16", threads: int = 0, cache: Path | None = None
) -> LanguageModel:
    """Load a directory in transformers layout, such as `catalog.resolve` returns.

    "auto" is `native_precision`. `threads` > 0 sets torch's compute threads for the process. With `cache` the weights'
    digest is remembered there by the files' size and time, and torch keeps there what it compiles. Parameters are
    frozen and the network is in eval mode.

    Raises BrokenModel when files are missing or unreadable, ModelError for an unknown precision.
    """
    if precision == AUTO:
        precision = native_precision()
    if precision not in LOADED_AS:
        raise ModelError(f"precision {precision!r} is unknown; model.precision takes {AUTO}, {', '.join(LOADED_AS)}")
    if threads > 0:
        torch.set_num_threads(threads)
    if cache is not None:
        keep_compiled(cache)
    tokenizer, network = _load(directory, LOADED_AS[precision])
    network.eval().requires_grad_(False)
    chat = ChatFormat(tokenizer, stop_tokens=_stop_tokens(network))
    return LanguageModel(
        name=directory.name,
        directory=directory,
        network=network,
        chat=chat,
        precision=precision,
        base=weights_digest(directory, cache=cache),
        tokenizer=tokenizer_digest(directory),
        chat_template=digest_bytes(canonical_json([chat.template, chat.tool_template])),
        max_context_tokens=int(network.config.get_text_config().max_position_embeddings),
    )


def native_precision() -> str:
    """bf16 where the processor multiplies it natively; elsewhere fp32, which computes eight times as fast there."""
    return "bf16" if packs_bf16() else "fp32"


def _load(directory: Path, dtype: torch.dtype) -> tuple[Any, PreTrainedModel]:
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
            network, report = AutoModelForCausalLM.from_pretrained(
                directory,
                dtype=dtype,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # transformers and safetensors raise a dozen kinds; all mean that the files are broken
        raise BrokenModel(
            f"{directory} can't be loaded as a causal language model: {type(error).__name__}: {error}; "
            "delete that directory and fetch the model again, or name another one"
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise BrokenModel(
            f"{directory} lacks {len(missing)} tensors, such as {missing[0]!r}, which would be random; "
            "fetch the model again"
        )
    return tokenizer, network


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """transformers without its warnings and progress bars on stderr; leaving restores both."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _stop_tokens(network: PreTrainedModel) -> tuple[int, ...]:
    configured = network.generation_config.eos_token_id if network.generation_config else None
    if configured is None:
        return ()
    return tuple(configured) if isinstance(configured, list) else (int(configured),)


def parameter_digest(network: nn.Module) -> str:
    """sha256 over every parameter's name, dtype, shape and bytes, in the order of names; tied parameters count once.

    Equal digests mean bit-identical parameters.
    """
    return _tensors_digest((name, p.detach()) for name, p in sorted(network.named_parameters()))


def weights_digest(directory: Path, *, cache: Path | None = None) -> str:
    """The digest of a directory's safetensors, whatever their division into files.

    Remembered in `cache` under the files' paths, sizes and times, since hashing takes a second for each gigabyte or so.
    """
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise BrokenModel(f"{directory} holds no .safetensors file; convert the model to safetensors first")
    stamp = canonical_json([(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files])
    note = cache / "digests" / digest_bytes(stamp) if cache else None
    if note and note.exists():
        return note.read_text("ascii")
    digest = _tensors_digest(_tensors_in(files))
    if note:
        note.parent.mkdir(parents=True, exist_ok=True)
        part = note.with_name(f"{note.name}.{id(note):x}.part")
        part.write_text(digest, "ascii")
        part.replace(note)
    return digest


def _tensors_in(files: Iterable[Path]) -> Iterator[tuple[str, Tensor]]:
    with contextlib.ExitStack() as stack:
        place = {}
        for file in files:
            opened = stack.enter_context(safe_open(file, framework="pt"))
            place.update(dict.fromkeys(opened.keys(), opened))
        for name in sorted(place):
            yield name, place[name].get_tensor(name)


def _tensors_digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    total = sha256()
    for name, tensor in tensors:
        head = json.dumps([name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)])
        total.update(head.encode("utf8"))
        flat = tensor.contiguous().cpu().reshape(-1).view(torch.uint8).numpy()
        for start in range(0, flat.size, HASHED_AT_ONCE_BYTES):
            total.update(flat[start : start + HASHED_AT_ONCE_BYTES].data)
    return total.hexdigest()


def tokenizer_digest(directory: Path) -> str:
    """sha256 over the files that make the tokenizer; the chat template has a digest of its own."""
    found = {
        name: digest_bytes((directory / name).read_bytes()) for name in TOKENIZER_FILES if (directory / name).exists()
    }
    return digest_bytes(canonical_json(found))
