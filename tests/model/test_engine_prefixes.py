"""Prefixes are computed once and reused only where weights, adapters, tenant and tokens are the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from served import engine_of, prompt, tiny, tiny_of, write_adapter

from tenure.model.cache import BLOCK_TOKENS, PrefixCache, Slots, block_names, prefix_root
from tenure.model.engine import Engine
from tenure.model.language_model import LanguageModel
from tenure.model.requests import GenerationRequest, Sampling
from tenure.types import AttachmentUse

SHARED = prompt(1, 3 * BLOCK_TOKENS + 5)


@pytest.fixture(scope="module")
def model(tiny_model_directory: Path) -> LanguageModel:
    return tiny(tiny_model_directory)


@pytest.fixture(scope="module")
def adapter(tiny_model_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(tiny_model_directory, tmp_path_factory.mktemp("adapter"), seed=3)


def asked(end: int, **more: object) -> GenerationRequest:
    return GenerationRequest((*SHARED, *prompt(end, 7)), Sampling(max_tokens=8), **more)  # type: ignore[arg-type]


def test_a_reused_prefix_changes_nothing_but_the_work(model: LanguageModel) -> None:
    engine, plain = engine_of(model), engine_of(model, prefix_cache_bytes=0)
    for end in range(2, 6):
        got, expected = engine.submit(asked(end)).result(), plain.submit(asked(end)).result()
        assert got.tokens == expected.tokens
        assert expected.num_cached_tokens == 0
        assert got.num_cached_tokens == (0 if end == 2 else 3 * BLOCK_TOKENS)
    assert engine.counters.num_prompt_tokens < plain.counters.num_prompt_tokens


@pytest.mark.parametrize("kind", ["fp32", "bf16", "compiled"])
def test_chunks_reuse_and_neighbours_change_no_bit(
    tiny_model_directory: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_of(tiny_model_directory, kind, monkeypatch)

    def heard(engine: Engine, end: int) -> tuple[float, ...]:
        sampling = Sampling(max_tokens=6, logprobs=0)
        return engine.submit(GenerationRequest((*SHARED, *prompt(end, 7)), sampling)).result().logprobs

    whole = engine_of(model, prefix_cache_bytes=0, prefill_chunk_tokens=512)
    chunked, reusing = engine_of(model, prefix_cache_bytes=0, prefill_chunk_tokens=32), engine_of(model)
    for end in range(2, 6):
        expected = heard(whole, end)
        for neighbour in range(2):
            chunked.submit(GenerationRequest(prompt(neighbour, 9 + 40 * neighbour), Sampling(max_tokens=30)))
        assert heard(chunked, end) == expected
        assert heard(reusing, end) == expected
    assert reusing.counters.num_cached_tokens == 3 * 3 * BLOCK_TOKENS


def test_the_next_turn_reuses_the_reply_too(model: LanguageModel) -> None:
    engine = engine_of(model)
    first = engine.submit(GenerationRequest(SHARED, Sampling(max_tokens=40))).result()
    second = GenerationRequest((*SHARED, *first.tokens, *prompt(9, 6)), Sampling(max_tokens=5))
    got = engine.submit(second).result()
    kept = len(SHARED) + len(first.tokens) - 1
    assert got.num_cached_tokens == kept // BLOCK_TOKENS * BLOCK_TOKENS > 3 * BLOCK_TOKENS - 1
    assert got.tokens == engine_of(model, prefix_cache_bytes=0).submit(second).result().tokens


def test_nothing_is_shared_across_tenants_weights_or_adapters(model: LanguageModel, adapter: Path) -> None:
    engine, plain = engine_of(model), engine_of(model, prefix_cache_bytes=0)
    for e in (engine, plain):
        e.add_attachment("a", adapter)
        e.add_weights("w", [(adapter, 1.0)])
    variants = [
        {},
        {"tenant": "other"},
        {"weights": "w"},
        {"attachments": (AttachmentUse("a"),)},
        {"attachments": (AttachmentUse("a", 0.5),)},
    ]
    for more in variants:
        got = engine.submit(asked(2, **more)).result()
        assert got.num_cached_tokens == 0, more
        assert got.tokens == plain.submit(asked(2, **more)).result().tokens
    for more in variants:
        got = engine.submit(asked(3, **more)).result()
        assert got.num_cached_tokens == 3 * BLOCK_TOKENS
        assert got.tokens == plain.submit(asked(3, **more)).result().tokens


def test_generate_does_not_depend_on_what_was_served_before(model: LanguageModel) -> None:
    engine = engine_of(model)
    engine.submit(asked(2)).result()
    first, second, third = engine.generate([asked(i) for i in (2, 3, 4)])
    assert first.num_cached_tokens == 0, "what earlier requests left must not decide how a list is computed"
    assert second.num_cached_tokens == third.num_cached_tokens == 3 * BLOCK_TOKENS, "the list shares its prefix"
    plain = engine_of(model, prefix_cache_bytes=0)
    assert [c.tokens for c in (first, second, third)] == [
        c.tokens for c in plain.generate([asked(i) for i in (2, 3, 4)])
    ]


def test_a_prompt_that_is_cached_whole_still_gets_its_last_token_computed(model: LanguageModel) -> None:
    engine = engine_of(model)
    exact = GenerationRequest(prompt(4, 2 * BLOCK_TOKENS), Sampling(max_tokens=4))
    first, second = engine.submit(exact).result(), engine.submit(exact).result()
    assert second.num_cached_tokens == BLOCK_TOKENS
    assert first.tokens == second.tokens


def slots() -> Slots:
    return Slots(num_layers=2, num_slots=2, length=128, num_heads=1, head_dim=4, dtype=torch.float32)


def test_the_least_recently_used_blocks_leave_and_the_limit_is_kept() -> None:
    store = slots()
    block_bytes = 2 * 2 * BLOCK_TOKENS * 4 * 4
    cache = PrefixCache(3 * block_bytes)
    root = prefix_root("", (), "t")
    old, new = prompt(1, 2 * BLOCK_TOKENS), prompt(2, 2 * BLOCK_TOKENS)
    cache.keep(root, old, store, 0)
    cache.keep(root, new, store, 1)
    assert cache.num_bytes == 3 * block_bytes
    assert len(cache.find(block_names(root, new))) == 2
    assert len(cache.find(block_names(root, old))) == 1, "the end of a prefix leaves before its beginning"


def test_blocks_hold_what_was_written() -> None:
    store = slots()
    for layer in range(2):
        store.keys[layer].copy_(torch.randn_like(store.keys[layer]))
        store.values[layer].copy_(torch.randn_like(store.values[layer]))
    store.copy_in(1, 0, store.copy_out(0, 32, 64))
    assert all(torch.equal(kv[1, :32], kv[0, 32:64]) for kv in (*store.keys, *store.values))


def test_names_of_blocks_cover_everything_before_them() -> None:
    tokens = prompt(1, 4 * BLOCK_TOKENS)
    names = block_names(b"root", tokens)
    changed = block_names(b"root", (tokens[0] + 1, *tokens[1:]))
    assert len(names) == 4
    assert not set(names) & set(changed)
    assert not set(names) & set(block_names(b"other", tokens))


def test_slots_are_handed_out_lowest_first_and_only_once() -> None:
    store = slots()
    assert (store.take(), store.take(), store.num_free) == (0, 1, 0)
    store.give_back(0)
    assert store.take() == 0
