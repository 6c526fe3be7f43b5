"""Compiled products: right, the same to the bit whatever stands beside a row, and used for replies only."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from served import engine_of, prompt, request, tiny_of, write_adapter
from torch.nn import functional

from tenure.model import compiled, precision
from tenure.model.compiled import ROWS, added_product, can_compile, few_rows_product, gated_product, normed_product
from tenure.model.precision import NarrowWeight, PackedWeight, narrow, packing_of
from tenure.model.requests import GenerationRequest, Sampling
from tenure.types import AttachmentUse

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler: fp32 is served without them")
SHAPES = [(960, 576), (576, 1536), (320, 200), (77, 77), (4099, 33)]


@pytest.fixture(autouse=True)
def small_weights_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "LEAST_NARROW", 0)


def test_with_a_compiler_products_are_compiled() -> None:
    """Else everything works, slowly, and nobody notices."""
    assert can_compile()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("num_rows", [1, 3, 8, 19])
def test_a_product_is_the_one_of_fp32(shape: tuple[int, int], num_rows: int) -> None:
    with torch.inference_mode():
        weight_OI = torch.randn(shape).bfloat16()
        x_NI = torch.randn(num_rows, shape[1])
        exact = (x_NI.double() @ weight_OI.double().T).float()
        assert torch.allclose(few_rows_product(x_NI, weight_OI), exact, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_row_has_the_same_bits_in_any_company(shape: tuple[int, int]) -> None:
    with torch.inference_mode():
        weight_OI, x_NI = torch.randn(shape).bfloat16(), torch.randn(2 * ROWS[-1] + 3, shape[1])
        alone = torch.cat([few_rows_product(row[None], weight_OI) for row in x_NI])
        for num_rows in range(1, len(x_NI) + 1):
            assert torch.equal(few_rows_product(x_NI[:num_rows], weight_OI), alone[:num_rows]), num_rows


def test_only_what_bf16_holds_exactly_is_read_so() -> None:
    rounded = torch.randn(64, 32).bfloat16().float()
    assert isinstance(narrow(rounded), NarrowWeight)
    assert not isinstance(narrow(rounded + 1e-4), NarrowWeight)


def test_replies_are_multiplied_narrow_and_prompts_wide() -> None:
    with torch.inference_mode():
        weight_OI, bias_O, x_NI = torch.randn(64, 32).bfloat16().float(), torch.randn(64), torch.randn(5, 32)
        weight = narrow(weight_OI)
        assert isinstance(weight, NarrowWeight)
        replies_NO, prompts_NO = weight.product(x_NI, bias_O, replying=True), weight.product(x_NI, bias_O)
        assert torch.equal(replies_NO, few_rows_product(x_NI, weight.weight_OI) + bias_O)
        assert torch.equal(prompts_NO, weight.wide.product(x_NI, bias_O))


@pytest.mark.parametrize("shape", SHAPES)
def test_what_stands_around_a_product_is_computed_right_and_row_by_row(shape: tuple[int, int]) -> None:
    num_outputs, num_inputs = shape
    with torch.inference_mode():
        weight_OI, norm_I = torch.randn(shape).bfloat16(), torch.randn(num_inputs)
        x_NI, before_NO = torch.randn(19, num_inputs), torch.randn(19, num_outputs)
        both_N2I, eps = torch.randn(19, 2, num_inputs), torch.tensor(1e-5)
        h_NI = functional.rms_norm(x_NI, (num_inputs,), norm_I, 1e-5)
        a_NI = functional.silu(both_N2I[:, 0]) * both_N2I[:, 1]

        def computed(rows: slice) -> tuple[torch.Tensor, ...]:
            return (
                added_product(x_NI[rows], before_NO[rows], weight_OI),
                *normed_product(x_NI[rows], norm_I, eps, weight_OI),
                *gated_product(both_N2I[rows], before_NO[rows], weight_OI),
            )

        wide_IO = weight_OI.float().T
        expected = (before_NO + x_NI @ wide_IO, h_NI, h_NI @ wide_IO, a_NI, before_NO + a_NI @ wide_IO)
        for found, wanted in zip(computed(slice(19)), expected, strict=True):
            torch.testing.assert_close(found, wanted, atol=5e-4, rtol=1e-4)
        alone = [torch.cat(parts) for parts in zip(*(computed(slice(i, i + 1)) for i in range(19)), strict=True)]
        for number in (2, 3, 5, 8, 9, 17):
            for found, own in zip(computed(slice(number)), alone, strict=True):
                assert torch.equal(found, own[:number]), number


def test_without_a_compiler_fp32_is_served_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str, __: int) -> None:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(compiled, "_compiled", broken)
    can_compile.cache_clear()
    try:
        assert isinstance(narrow(torch.randn(64, 32).bfloat16().float()), PackedWeight)
    finally:
        can_compile.cache_clear()


def test_a_compiler_that_computes_nonsense_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        compiled, "_compiled", lambda *_: lambda x_NI, weight_OI: x_NI.new_zeros(len(x_NI), len(weight_OI))
    )
    can_compile.cache_clear()
    try:
        assert not can_compile()
    finally:
        can_compile.cache_clear()


def test_the_setting_switches_it_off() -> None:
    weight_OI = torch.randn(64, 32).bfloat16().float()
    assert isinstance(packing_of("fp32", torch.float32)(weight_OI), NarrowWeight)
    assert isinstance(packing_of("fp32", torch.float32, compiled=False)(weight_OI), PackedWeight)


@pytest.mark.parametrize("length", [33, 64, 65])
def test_where_a_prompt_ends_changes_no_bit_of_its_reply(
    tiny_model_directory: Path, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its prefix kept only a token of it is read: a row of its own, and still a prompt's."""
    engine = engine_of(tiny_of(tiny_model_directory, "compiled", monkeypatch))
    assert engine.compiles
    asked = GenerationRequest(prompt(length, length), Sampling(max_tokens=8, logprobs=2))
    first = engine.submit(asked).result()
    again = engine.submit(asked).result()
    assert again.num_cached_tokens > 0
    assert (again.tokens, again.logprobs, again.top) == (first.tokens, first.logprobs, first.top)


def test_eight_adapters_share_one_product_of_each_kind(
    tiny_model_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replies read the narrow weight once a step and layer, prompts the wide one, whatever adapters they have."""
    engine = engine_of(tiny_of(tiny_model_directory, "compiled", monkeypatch), max_batch=9)
    for i in range(8):
        engine.add_attachment(f"a{i}", write_adapter(tiny_model_directory, tmp_path / f"a{i}", seed=i))
    weights = {key: layer._weight for key, layer in engine._network.layers.items()}
    kind_of = {id(weight.weight_OI): ("narrow", key) for key, weight in weights.items()}
    kind_of |= {id(weight.wide): ("wide", key) for key, weight in weights.items()}
    calls: Counter[tuple[str, str]] = Counter()
    few, many = compiled._in_parts, PackedWeight.product

    def counted_few(name: str, rows: tuple[torch.Tensor, ...], fixed: tuple[torch.Tensor, ...]) -> Any:
        calls[kind_of[id(fixed[-1])]] += 1
        return few(name, rows, fixed)

    def counted_many(weight: PackedWeight, *given: Any, **more: Any) -> torch.Tensor:
        calls[kind_of[id(weight)]] += 1
        return many(weight, *given, **more)

    monkeypatch.setattr(compiled, "_in_parts", counted_few)
    monkeypatch.setattr(PackedWeight, "product", counted_many)

    def step() -> set[str]:
        calls.clear()
        engine.step()
        assert set(calls.values()) == {1}
        kinds = {kind for kind, _ in calls}
        assert set(calls) == {(kind, key) for kind in kinds for key in weights}
        return kinds

    for i in range(8):  # no prompt begins like another, so all are read in one step
        engine.submit(request(i, 5 + i, 12, attachments=(AttachmentUse(f"a{i}"),)))
    assert [step(), step()] == [{"wide"}, {"narrow"}]
    engine.submit(request(9))
    assert step() == {"narrow", "wide"}
