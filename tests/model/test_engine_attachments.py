"""Rows with different adapters share a step; weight sets stand side by side and leave when their memory is needed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from served import engine_of, greedy, prompt, quiet_peft, request, tiny, with_peft, write_adapter

from tenure.errors import BrokenModel, ModelError, NotFound
from tenure.model.engine import Engine
from tenure.model.language_model import LanguageModel
from tenure.model.precision import PackedWeight, PlainWeight
from tenure.model.requests import GenerationRequest, Sampling, ScoreRequest
from tenure.types import AttachmentUse


@pytest.fixture(scope="module")
def model(tiny_model_directory: Path) -> LanguageModel:
    return tiny(tiny_model_directory)


@pytest.fixture(scope="module")
def adapters(tiny_model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eight adapters of different ranks, some on a few layers only."""
    root = tmp_path_factory.mktemp("adapters")
    some: list[dict[str, Any]] = [{}, {"rank": 2}, {"target_modules": ["down_proj"]}, {"use_rslora": True}]
    some += [{"rank": 8, "target_modules": ["q_proj", "v_proj", "up_proj"]}, {"rank_pattern": {"q_proj": 2}}]
    some += [{"alpha_pattern": {"v_proj": 32}}, {"layers_to_transform": [1]}]
    return [write_adapter(tiny_model_directory, root / f"a{i}", seed=i, **more) for i, more in enumerate(some)]


def uses(i: int, scale: float = 1.0) -> tuple[AttachmentUse, ...]:
    return (AttachmentUse(f"a{i}", scale),)


def with_all(model: LanguageModel, adapters: list[Path], **settings: int) -> Engine:
    engine = engine_of(model, **settings)
    for i, directory in enumerate(adapters):
        engine.add_attachment(f"a{i}", directory)
    return engine


class BaseProducts:
    """Within, counts products with the base's weights, however they are laid out."""

    def __init__(self, engine: Engine, patch: pytest.MonkeyPatch) -> None:
        self._keys = {id(layer._weight): layer.key for layer in engine._network.layers.values()}
        self._patch = patch
        self.calls: Counter[str] = Counter()
        self.expected = set(self._keys.values())

    def __enter__(self) -> BaseProducts:
        for kind in (PlainWeight, PackedWeight):
            self._patch.setattr(kind, "product", self._counting(kind.product))
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()

    def _counting(self, product: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def counted(weight: Any, *args: Any, **more: Any) -> torch.Tensor:
            if id(weight) in self._keys:
                self.calls[self._keys[id(weight)]] += 1
            return product(weight, *args, **more)

        return counted


def test_eight_adapters_share_one_product_a_layer(
    model: LanguageModel, adapters: list[Path], tiny_model_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = with_all(model, adapters, max_batch=9)
    requests = [request(i, 5 + i, 12, attachments=uses(i)) for i in range(8)] + [request(9)]
    generations = [engine.submit(r) for r in requests]
    for mixed in ("prompts", "decoding"):
        with BaseProducts(engine, monkeypatch) as counted:
            engine.step()
        assert engine.num_running == 9, mixed
        assert set(counted.calls) == counted.expected
        assert set(counted.calls.values()) == {1}
    said = [g.result().tokens for g in generations]
    stops = model.chat.stop_tokens
    for i, directory in enumerate(adapters):
        expected = greedy(with_peft(tiny_model_directory, directory), requests[i].tokens, 12, stops)
        assert said[i] == expected, f"adapter {i}"
    assert said[8] == engine_of(model).generate([requests[8]])[0].tokens
    assert len(set(said)) > 6, "the adapters don't change anything: this test would not notice a mixture"


def test_logits_with_an_adapter_are_pefts(
    model: LanguageModel, adapters: list[Path], tiny_model_directory: Path
) -> None:
    engine = with_all(model, adapters)
    tokens, said = prompt(3, 30), prompt(4, 6)
    for i, directory in enumerate(adapters):
        with torch.no_grad():
            logits = with_peft(tiny_model_directory, directory)(torch.tensor([[*tokens, *said]])).logits[0, 29:-1]
        ours = engine.distributions(tokens, said, attachments=uses(i))
        torch.testing.assert_close(ours, logits.log_softmax(-1), rtol=1e-4, atol=1e-4)


def test_scale_and_several_adapters_on_one_row(model: LanguageModel, adapters: list[Path]) -> None:
    engine = with_all(model, adapters)
    tokens, said = prompt(3, 20), prompt(4, 3)

    def seen(*attached: AttachmentUse) -> torch.Tensor:
        return engine.distributions(tokens, said, attachments=attached)

    assert torch.equal(seen(AttachmentUse("a0", 0.0)), seen())
    torch.testing.assert_close(seen(*uses(0), *uses(0)), seen(*uses(0, 2.0)), rtol=1e-4, atol=1e-4)
    both = seen(*uses(0), *uses(4))
    torch.testing.assert_close(both, seen(*uses(4), *uses(0)), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(both, seen(*uses(0)), atol=1e-2)


def test_a_dropped_adapter_finishes_what_it_began(model: LanguageModel, adapters: list[Path]) -> None:
    expected = with_all(model, adapters).generate([request(1, attachments=uses(0))])[0]
    engine = with_all(model, adapters)
    generation = engine.submit(request(1, attachments=uses(0)))
    engine.step()
    engine.drop_attachment("a0")
    assert generation.result().tokens == expected.tokens
    with pytest.raises(NotFound, match="a0"):
        engine.submit(request(1, attachments=uses(0)))
    assert "a0" not in engine.attachments


@pytest.mark.parametrize(
    ("change", "said"),
    [({"use_dora": True}, "use_dora"), ({"bias": "all"}, "all"), ({"peft_type": "IA3"}, "IA3")],
)
def test_adapters_that_would_be_applied_wrongly_are_refused(
    model: LanguageModel, adapters: list[Path], tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    settings = json.loads((adapters[0] / "adapter_config.json").read_text("utf8"))
    (tmp_path / "adapter_config.json").write_text(json.dumps({**settings, **change}), "utf8")
    (tmp_path / "adapter_model.safetensors").write_bytes((adapters[0] / "adapter_model.safetensors").read_bytes())
    with pytest.raises(BrokenModel, match=said):
        engine_of(model).add_attachment("x", tmp_path)


def test_adapters_of_another_base_or_torn_files_are_refused(
    model: LanguageModel, adapters: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(BrokenModel, match="can't read"):
        engine_of(model).add_attachment("x", tmp_path)
    tensors = load_file(adapters[0] / "adapter_model.safetensors")
    wide = {key: t.repeat(1, 2) if "lora_A" in key else t for key, t in tensors.items()}
    (tmp_path / "adapter_config.json").write_bytes((adapters[0] / "adapter_config.json").read_bytes())
    save_file(wide, tmp_path / "adapter_model.safetensors")
    with pytest.raises(BrokenModel, match="doesn't fit"):
        engine_of(model).add_attachment("x", tmp_path)
    with pytest.raises(BrokenModel, match="doesn't fit"):
        engine_of(model).add_weights("x", [(tmp_path, 1.0)])


def test_two_weight_sets_side_by_side(model: LanguageModel, adapters: list[Path], tiny_model_directory: Path) -> None:
    engine = engine_of(model)
    engine.add_weights("night", [(adapters[0], 1.0), (adapters[4], 0.5)])
    both = [request(2, 30, weights=w) for w in ("", "night", "", "night")]
    said = [c.tokens for c in engine.generate(both)]
    network = with_peft(tiny_model_directory, adapters[0]).merge_and_unload()
    with quiet_peft():
        half = PeftModel.from_pretrained(network, adapters[4])
    for module in half.modules():
        if isinstance(getattr(module, "scaling", None), dict):
            module.scaling = {name: value * 0.5 for name, value in module.scaling.items()}
    expected = greedy(half.eval(), both[1].tokens, 10, model.chat.stop_tokens)
    assert said[1] == said[3] == expected
    assert said[0] == said[2] == engine_of(model).generate([both[0]])[0].tokens
    assert said[0] != said[1]


def test_requests_finish_on_the_weights_that_they_began_with(model: LanguageModel, adapters: list[Path]) -> None:
    engine = engine_of(model)
    engine.add_weights("night", [(adapters[0], 1.0)])
    expected = engine.generate([request(2, 30, weights="night")])[0]
    generation = engine.submit(request(2, 30, weights="night"))
    for _ in range(3):
        engine.step()
    engine.drop_weights("night")
    assert engine._weight_sets.num_bytes > 0
    assert generation.result().tokens == expected.tokens
    assert engine._weight_sets.num_bytes == 0
    assert engine.weight_sets == {""}
    with pytest.raises(NotFound, match="night"):
        engine.submit(request(2, weights="night"))


def test_weight_sets_keep_to_their_memory(model: LanguageModel, adapters: list[Path]) -> None:
    engine = engine_of(model)
    engine.add_weights("one", [(adapters[0], 1.0)])
    size = engine._weight_sets.num_bytes
    engine = engine_of(model, weight_sets_bytes=2 * size)
    for name in ("one", "two"):
        engine.add_weights(name, [(adapters[0], 1.0)])
    engine.generate([request(1, weights="one")])
    engine.add_weights("three", [(adapters[0], 1.0)])
    assert engine.weight_sets == {"", "one", "three"}, "the least recently used idle set leaves first"
    running = [engine.submit(request(1, weights=name)) for name in ("one", "three")]
    with pytest.raises(ModelError, match="weight_sets_bytes"):
        engine.add_weights("four", [(adapters[0], 1.0)])
    assert all(g.result().finish_reason in ("stop", "length") for g in running)
    engine.add_weights("four", [(adapters[0], 1.0)])
    assert engine._weight_sets.num_bytes <= 2 * size


def test_weights_and_adapters_together_equal_their_sum(model: LanguageModel, adapters: list[Path]) -> None:
    engine = with_all(model, adapters)
    engine.add_weights("merged", [(adapters[0], 1.0)])
    engine.add_weights("both", [(adapters[0], 1.0), (adapters[1], 1.0)])
    item = ScoreRequest(prompt(5, 25), (prompt(6, 4), prompt(7, 2)))
    mixed = [
        ScoreRequest(item.tokens, item.continuations, "both"),
        ScoreRequest(item.tokens, item.continuations, "merged", uses(1)),
        ScoreRequest(item.tokens, item.continuations, "", (*uses(0), *uses(1))),
    ]
    both, split, attached = engine.score(mixed)
    assert both.log_likelihoods == pytest.approx(split.log_likelihoods, abs=1e-3)
    assert both.log_likelihoods == pytest.approx(attached.log_likelihoods, abs=1e-3)
    assert engine.score([item])[0].log_likelihoods != pytest.approx(both.log_likelihoods, abs=1e-2)


def test_the_loaded_network_is_left_as_it_was(model: LanguageModel, adapters: list[Path]) -> None:
    before = {name: p.clone() for name, p in model.network.named_parameters()}
    engine = with_all(model, adapters)
    engine.add_weights("night", [(adapters[0], 1.0)])
    engine.generate([GenerationRequest(prompt(1, 9), Sampling(max_tokens=3), "night", uses(1))])
    assert all(torch.equal(before[name], p) for name, p in model.network.named_parameters())
    assert not any("Attachable" in type(m).__name__ for m in model.network.modules())
    with torch.no_grad():
        assert model.network(torch.tensor([prompt(1, 9)])).logits.shape[-1] == 259
