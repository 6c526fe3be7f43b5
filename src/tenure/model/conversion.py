"""GGUF to transformers layout: bf16 safetensors, tokenizer and configuration, written once.

transformers reads the GGUF but refuses to save what it read, so the parameters move into a fresh model of the same
configuration. The result is compared with the gguf library's own reading. Called by `catalog.py`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader, dequantize
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers import modeling_gguf_pytorch_utils as gguf_reading
from transformers.utils import logging as transformers_logging
from transformers.utils.quantization_config import GgufConfig

from tenure.errors import BrokenModel
from tenure.model.language_model import quiet
from tenure.model.progress import Progress

# GGUF names of tensors that llama-like architectures store as they are (llama's attn_q and attn_k are permuted).
PLAIN_TENSORS = {
    "token_embd": "model.embed_tokens",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
STAGES = ("tokenizer", "weights", "checking", "saving")


def convert_gguf(gguf: Path, directory: Path, *, progress: Progress) -> None:
    """Write the model in `gguf` to the existing `directory` in transformers layout, bf16.

    Needs about three times the bf16 model in memory and, for a vocabulary of 50k to 260k tokens, 20 to 120 seconds.
    Raises BrokenModel when transformers can't read the file or reads it differently from the gguf library.
    """
    name = gguf.name.removesuffix(".gguf")

    def stage(number: int) -> None:
        progress(f"converting {name}: {STAGES[min(number, len(STAGES) - 1)]}", number, len(STAGES))

    stage(0)
    try:
        with quiet(), _bars_told(progress):
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name, local_files_only=True)
            stage(1)
            packed = AutoModelForCausalLM.from_pretrained(
                gguf.parent,
                gguf_file=gguf.name,
                dtype=torch.bfloat16,
                quantization_config=GgufConfig(dequantize=True),
                local_files_only=True,
            )
    except Exception as error:  # transformers raises many kinds for files that it can't read
        raise BrokenModel(
            f"{gguf.name} can't be converted: {type(error).__name__}: {error}; its architecture may be unsupported by "
            "this version of transformers"
        ) from error
    reader = GGUFReader(gguf)
    _restore_digits(tokenizer, reader)
    network = _fresh_copy(packed, name)
    stage(2)
    check_conversion(network, reader)
    stage(3)
    with quiet():
        network.save_pretrained(directory)
        tokenizer.save_pretrained(directory)
    stage(4)


def _fresh_copy(packed: PreTrainedModel, name: str) -> PreTrainedModel:
    config = packed.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.name_or_path = name
    with quiet(), torch.device("meta"):  # random numbers that are about to be overwritten take longer than the rest
        fresh: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    state = packed.state_dict()
    for key, value in fresh.state_dict().items():
        if key not in state or state[key].shape != value.shape or state[key].dtype != torch.bfloat16:
            found = f"{state[key].dtype} {tuple(state[key].shape)}" if key in state else "nothing"
            raise BrokenModel(f"{name}: {key} was read as {found}, expected bfloat16 {tuple(value.shape)}")
    fresh.load_state_dict(state, assign=True)
    fresh.tie_weights()
    fresh.generation_config = packed.generation_config
    return fresh


def check_conversion(network: PreTrainedModel, reader: GGUFReader) -> int:
    """Compare the first and last block and the embedding with the gguf library's reading; how many tensors were equal.

    Raises BrokenModel when one differs in any bit, or when there was none to compare.
    """
    parameters = dict(network.named_parameters())
    last = max((int(n) for t in reader.tensors for n in re.findall(r"^blk\.(\d+)\.", t.name)), default=0)
    num_equal = 0
    for tensor in reader.tensors:
        name = _plain_name(tensor.name, {0, last})
        if name is None or name not in parameters:
            continue
        expected = torch.tensor(dequantize(tensor.data, tensor.tensor_type), dtype=torch.bfloat16)
        if not torch.equal(expected, parameters[name].detach()):
            raise BrokenModel(f"{name} differs from {tensor.name} in the GGUF file after conversion; it is not used")
        num_equal += 1
    if not num_equal:
        raise BrokenModel("no tensor of the GGUF file could be compared after conversion; its names are unknown")
    return num_equal


def _plain_name(gguf_name: str, blocks: set[int]) -> str | None:
    match = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.weight", gguf_name)
    if match is None or match[2] not in PLAIN_TENSORS:
        return None
    if match[1] is None:
        return f"{PLAIN_TENSORS[match[2]]}.weight"
    return f"model.layers.{match[1]}.{PLAIN_TENSORS[match[2]]}.weight" if int(match[1]) in blocks else None


def _restore_digits(tokenizer: Any, reader: GGUFReader) -> None:
    """SmolLM splits digits off before anything else; transformers' reading of the GGUF loses that.

    Without it "\\n\\n1" becomes two newline tokens where the model was trained with one.
    """
    field = reader.fields.get("tokenizer.ggml.pre")
    if field is not None and field.contents() == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )


@contextlib.contextmanager
def _bars_told(progress: Progress) -> Iterator[None]:
    """transformers' own progress bars are told to `progress` instead of being drawn."""

    def hook(_factory: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _ToldBar:
        items = args[0] if args else kwargs.get("iterable")
        return _ToldBar(items, kwargs.get("total"), str(kwargs.get("desc") or "reading"), progress)

    def own_bar(items: Iterable[Any], desc: str = "", **_: object) -> _ToldBar:
        return _ToldBar(items, None, desc, progress)

    before, drawn = transformers_logging.set_tqdm_hook(hook), vars(gguf_reading).get("tqdm")
    # The reading of GGUF tensors draws its bar past transformers' own switch for bars.
    vars(gguf_reading)["tqdm"] = own_bar
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(before)
        vars(gguf_reading)["tqdm"] = drawn


class _ToldBar:
    """The part of a tqdm bar that transformers uses, without a bar."""

    def __init__(self, items: Iterable[Any] | None, total: int | None, description: str, progress: Progress) -> None:
        self._items = items
        self._total = total if total is not None else len(items) if hasattr(items, "__len__") else None  # type: ignore[arg-type]
        self._description = description.rstrip(". ").lower()
        self._progress = progress
        self._completed = 0

    def __iter__(self) -> Iterator[Any]:
        for item in self._items or ():
            yield item
            self.update()

    def __enter__(self) -> _ToldBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, num: int = 1) -> None:
        """So many more are done."""
        self._completed += num
        self._progress(self._description, self._completed, self._total)

    def set_postfix(self, *_: object, **__: object) -> None:
        """Nothing to draw."""

    def set_description(self, *_: object, **__: object) -> None:
        """Nothing to draw."""

    def refresh(self) -> None:
        """Nothing to draw."""

    def close(self) -> None:
        """Nothing to draw."""
