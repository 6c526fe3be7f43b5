"""What a model directory must look like before anything of it is loaded: transformers layout with safetensors.

Reads headers only, so it takes milliseconds whatever the model's size. Pickled weights are refused: loading them can
run code. Knows nothing of where directories come from; called by `catalog.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tenure.errors import BrokenModel

PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
INDEX = "model.safetensors.index.json"
LARGEST_HEADER_BYTES = 100_000_000


def check_layout(directory: Path) -> None:
    """Raise BrokenModel unless `directory` holds a causal language model that can be loaded.

    Checked are the architecture, the presence of a tokenizer, and that every safetensors file is as long as its header
    says and has the tensors that the index names.
    """
    if not directory.is_dir():
        raise BrokenModel(f"{directory} is not a directory; name one that holds config.json and *.safetensors")
    _check_architecture(directory)
    if not any((directory / name).exists() for name in TOKENIZERS):
        raise BrokenModel(f"{directory} has no tokenizer (one of {', '.join(TOKENIZERS)}); copy it beside the weights")
    names = {file.name: tensor_names(file) for file in sorted(directory.glob("*.safetensors"))}
    if not names:
        raise BrokenModel(_without_safetensors(directory))
    index = directory / INDEX
    if index.exists():
        for tensor, file in _read_json(index).get("weight_map", {}).items():
            if tensor not in names.get(file, ()):
                raise BrokenModel(f"{index} promises {tensor!r} in {file}, which isn't there; fetch the model again")


def _check_architecture(directory: Path) -> None:
    config = _read_json(directory / "config.json")
    kind = config.get("model_type")
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return
    own_code = " (its own code, which auto_map names, is never run)" if "auto_map" in config else ""
    raise BrokenModel(
        f"{directory} has the architecture {kind!r}, which transformers can't run as a causal language model{own_code};"
        " choose a model of a supported architecture, such as llama, qwen3 or gemma3_text"
    )


def _without_safetensors(directory: Path) -> str:
    pickled = sorted(file.name for pattern in PICKLED for file in directory.glob(pattern))
    if pickled:
        return (
            f"{directory} holds pickled weights only ({', '.join(pickled[:3])}), which can run code when loaded and "
            "are refused; convert them to safetensors (save_pretrained writes it)"
        )
    return f"{directory} holds no *.safetensors file; fetch the model again"


def tensor_names(file: Path) -> frozenset[str]:
    """Names of the tensors in a safetensors file; BrokenModel when it is cut short or no safetensors at all."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        num_header_bytes = int.from_bytes(opened.read(8), "little")
        if size < 8 or num_header_bytes > min(size - 8, LARGEST_HEADER_BYTES):
            raise BrokenModel(f"{file} ({size} bytes) is cut short or no safetensors file; fetch the model again")
        try:
            header = json.loads(opened.read(num_header_bytes))
            ends = {name: int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"}
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise BrokenModel(f"{file} has an unreadable header ({error}); fetch the model again") from error
    expected = 8 + num_header_bytes + max(ends.values(), default=0)
    if size != expected:
        raise BrokenModel(f"{file} has {size} bytes where its header says {expected}; fetch the model again")
    return frozenset(ends)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text("utf8"))
    except FileNotFoundError as error:
        raise BrokenModel(f"{file} is missing; name a directory in transformers layout") from error
    except (OSError, ValueError) as error:
        raise BrokenModel(f"{file} can't be read: {error}; fetch the model again") from error
    if not isinstance(value, dict):
        raise BrokenModel(f"{file} holds no JSON object; fetch the model again")
    return value
