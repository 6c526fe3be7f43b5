"""Loading, precision, and digests that name exactly what was loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tenure.errors import BrokenModel, ModelError
from tenure.model.language_model import load_language_model, parameter_digest, weights_digest


@pytest.fixture
def copy(tiny_model_directory: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model to change."""
    return Path(shutil.copytree(tiny_model_directory, tmp_path / "model"))


def test_a_model_is_loaded_frozen_and_quietly(tiny_model_directory: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = load_language_model(tiny_model_directory, precision="fp32", threads=1)
    assert capfd.readouterr() == ("", "")
    assert not model.network.training
    assert not any(p.requires_grad for p in model.network.parameters())
    assert {p.dtype for p in model.network.parameters()} == {torch.float32}
    assert model.max_context_tokens == model.network.config.max_position_embeddings
    assert model.name == tiny_model_directory.name
    assert 2 in model.chat.stop_tokens


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("int8", torch.bfloat16)])
def test_precision_is_recorded_in_the_version(tiny_model_directory: Path, precision: str, dtype: torch.dtype) -> None:
    model = load_language_model(tiny_model_directory, precision=precision)
    assert {p.dtype for p in model.network.parameters()} == {dtype}
    version = model.version()
    assert (version.base, version.precision, version.deltas) == (model.base, precision, ())
    assert version.base == load_language_model(tiny_model_directory, precision="fp32").base


def test_auto_takes_what_the_processor_multiplies_natively(
    tiny_model_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for native, precision in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr("tenure.model.language_model.packs_bf16", lambda native=native: native)
        assert load_language_model(tiny_model_directory, precision="auto").precision == precision


def test_an_unknown_precision_is_refused(tiny_model_directory: Path) -> None:
    with pytest.raises(ModelError, match="fp32, bf16, int8"):
        load_language_model(tiny_model_directory, precision="fp8")


def test_the_base_digest_is_that_of_the_parameters(tiny_model_directory: Path) -> None:
    model = load_language_model(tiny_model_directory, precision="fp32")
    assert parameter_digest(model.network) == model.base
    weight = model.network.get_parameter("model.layers.1.mlp.down_proj.weight")
    before = weight[3, 5].item()
    with torch.no_grad():
        weight[3, 5] = torch.nextafter(weight[3, 5], torch.tensor(9.0))
        assert parameter_digest(model.network) != model.base
        weight[3, 5] = before
    assert parameter_digest(model.network) == model.base


def test_the_base_digest_does_not_depend_on_the_division_into_files(copy: Path, tiny_model_directory: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    names = sorted(tensors)
    (copy / "model.safetensors").unlink()
    shards = {"model-00002-of-00002.safetensors": names[::2], "model-00001-of-00002.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: tensors[name] for name in part}, copy / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, part in shards.items() for name in part}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert load_language_model(copy).base == load_language_model(tiny_model_directory).base


def test_shape_and_type_are_part_of_the_digest(tmp_path: Path) -> None:
    digests = set()
    for number, tensor in enumerate(
        [torch.zeros(4), torch.zeros(2, 2), torch.zeros(8, dtype=torch.float16), torch.zeros(4, dtype=torch.int32)]
    ):
        (tmp_path / str(number)).mkdir()
        save_file({"w": tensor}, tmp_path / str(number) / "model.safetensors")
        digests.add(weights_digest(tmp_path / str(number)))
    assert len(digests) == 4


def test_the_weights_digest_is_remembered_until_the_file_changes(copy: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = weights_digest(copy, cache=cache)
    (note,) = (cache / "digests").iterdir()
    note.write_text("remembered")
    assert weights_digest(copy, cache=cache) == "remembered"
    tensors = load_file(copy / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    assert weights_digest(copy, cache=cache) not in {first, "remembered"}


def test_tokenizer_and_template_have_digests_of_their_own(copy: Path) -> None:
    before = load_language_model(copy)
    (copy / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    after = load_language_model(copy)
    assert (after.base, after.tokenizer) == (before.base, before.tokenizer)
    assert after.chat_template != before.chat_template
    tokenizer = copy / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + "\n")
    assert load_language_model(copy).tokenizer != before.tokenizer


def test_missing_tensors_are_broken_not_random(copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BrokenModel, match=r"layers\.0\.mlp\.up_proj"):
        load_language_model(copy)


def test_tensors_of_another_shape_are_broken(copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    tensors["model.norm.weight"] = torch.zeros(3)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BrokenModel, match="can't be loaded"):
        load_language_model(copy)


def test_a_garbled_tokenizer_is_broken(copy: Path) -> None:
    (copy / "tokenizer.json").write_text("{")
    with pytest.raises(BrokenModel, match="can't be loaded"):
        load_language_model(copy)


def test_an_empty_directory_is_broken(tmp_path: Path) -> None:
    with pytest.raises(BrokenModel):
        load_language_model(tmp_path)
    with pytest.raises(BrokenModel, match=r"no \.safetensors"):
        weights_digest(tmp_path)
