"""The arrangements of a block and of the language model, written out with parts whose every number is exact."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from cs336_basics.contracts import ContractError
from cs336_basics.ops.attention import KVCache, RopeTables, multihead_self_attention
from cs336_basics.ops.feed_forward import swiglu
from cs336_basics.ops.linear import embedding, linear
from cs336_basics.ops.norm import rms_norm
from cs336_basics.ops.rope import rope_tables
from cs336_basics.ops.transformer import BlockFn, Cached, post_norm_block, pre_norm_block, transformer_lm
from tests.ops.numerics import assert_compiles, assert_gradients, assert_maps, normal


def mix(x: Tensor, cache: KVCache | None) -> tuple[Tensor, KVCache]:
    """Stands for attention: each position gets the sum of those so far, which the cache holds as its keys."""
    seen = x.unsqueeze(-3)
    if cache is not None:
        seen = torch.cat((cache.keys, seen), dim=-2)
    return seen.squeeze(-3).cumsum(-2)[..., -x.shape[-2] :, :], KVCache(seen, -seen)


# No two of these commute, so the order shows in the result.
PARTS: dict[str, Any] = {
    "attention": mix,
    "feed_forward": lambda x: x * x,
    "ln1": lambda x: 2 * x + 1,
    "ln2": lambda x: 3 * x - 5,
}
BLOCKS: list[BlockFn] = [pre_norm_block, post_norm_block]


def whole(*shape: int, seed: int = 0) -> Tensor:
    """Small whole numbers: sums and products of them are exact."""
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).double()


def total(x: Tensor) -> Tensor:
    return x.cumsum(-2)


def test_pre_norm_block_by_hand() -> None:
    x = whole(2, 4, 3)
    y, cache = pre_norm_block(x, None, **PARTS)
    h = x + total(2 * x + 1)
    assert torch.equal(y, h + (3 * h - 5) * (3 * h - 5))
    assert torch.equal(cache.keys, (2 * x + 1).unsqueeze(-3))


def test_post_norm_block_by_hand() -> None:
    x = whole(2, 4, 3)
    y, cache = post_norm_block(x, None, **PARTS)
    h = 2 * (x + total(x)) + 1
    assert torch.equal(y, 3 * (h + h * h) - 5)
    assert torch.equal(cache.keys, x.unsqueeze(-3))


@pytest.mark.parametrize("block", BLOCKS)
def test_without_norms_the_two_arrangements_are_one(block: BlockFn) -> None:
    x = whole(2, 4, 3)
    y, _ = block(x, None, **{**PARTS, "ln1": lambda x: x, "ln2": lambda x: x})
    h = x + total(x)
    assert torch.equal(y, h + h * h)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_block_hands_its_cache_to_attention(block: BlockFn, cut: int) -> None:
    x = whole(2, 4, 3)
    y, cache = block(x, None, **PARTS)
    first, held = block(x[:, :cut], None, **PARTS)
    second, held = block(x[:, cut:], held, **PARTS)
    assert torch.equal(torch.cat((first, second), dim=1), y)
    assert torch.equal(held.keys, cache.keys)
    assert torch.equal(held.values, cache.values)


D_MODEL, D_FF, VOCAB, LAYERS = 4, 6, 7, 2


def layer(index: int, block: BlockFn = pre_norm_block) -> Cached:
    """A whole block of ops with its own weights."""
    ln1, ln2 = normal(2, D_MODEL, seed=10 * index + 2)
    projections = normal(4, D_MODEL, D_MODEL, seed=10 * index)
    (w1, w3), w2 = normal(2, D_FF, D_MODEL, seed=10 * index + 3), normal(D_MODEL, D_FF, seed=10 * index + 4)
    tables = RopeTables(*rope_tables(16, 2, dtype=torch.float64))

    def attention(x: Tensor, cache: KVCache | None) -> tuple[Tensor, KVCache]:
        q, k, v, out = projections
        return multihead_self_attention(x, q, k, v, out, heads=2, tables=tables, cache=cache)

    def run(x: Tensor, cache: KVCache | None) -> tuple[Tensor, KVCache]:
        return block(
            x,
            cache,
            attention=attention,
            feed_forward=lambda x: swiglu(x, w1, w2, w3),
            ln1=lambda x: rms_norm(x, ln1),
            ln2=lambda x: rms_norm(x, ln2),
        )

    return run


TABLE, FINAL = normal(VOCAB, D_MODEL, seed=6), normal(D_MODEL, seed=7)


def model(block: BlockFn = pre_norm_block) -> dict[str, Any]:
    return {
        "embed": lambda ids: embedding(ids, TABLE),
        "blocks": [layer(i, block) for i in range(LAYERS)],
        "final_norm": lambda x: rms_norm(x, FINAL),
        "head": lambda x: linear(x, TABLE),
    }


IDS = torch.tensor([[3, 0, 6, 6, 1], [2, 5, 4, 0, 0]])


def test_the_language_model_by_hand() -> None:
    logits, caches = transformer_lm(IDS, None, **model())
    first, second = layer(0), layer(1)
    h, cache0 = first(TABLE[IDS], None)
    h, cache1 = second(h, None)
    assert torch.equal(logits, rms_norm(h, FINAL) @ TABLE.T)
    assert logits.shape == (2, 5, VOCAB)
    torch.testing.assert_close(caches, (cache0, cache1), rtol=0, atol=0)


def test_no_blocks_leave_embedding_norm_and_head() -> None:
    for cache in (None, ()):
        logits, caches = transformer_lm(IDS, cache, **{**model(), "blocks": []})
        assert caches == ()
        assert torch.equal(logits, rms_norm(TABLE[IDS], FINAL) @ TABLE.T)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("edges", [[0, 1, 2, 3, 4, 5], [0, 3, 5], [0, 4, 5]])
def test_a_cached_model_gives_the_same_logits(block: BlockFn, edges: list[int]) -> None:
    logits, _ = transformer_lm(IDS, None, **model(block))
    caches: tuple[KVCache, ...] | None = None
    parts = []
    for start, end in itertools.pairwise(edges):
        part, caches = transformer_lm(IDS[:, start:end], caches, **model(block))
        assert [cache.length for cache in caches] == [end] * LAYERS
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=1), logits, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("block", BLOCKS)
def test_laws(block: BlockFn) -> None:
    parts = model(block)

    def logits(ids: Tensor, table: Tensor) -> Tensor:
        tied = {"embed": lambda ids: embedding(ids, table), "head": lambda x: linear(x, table)}
        return transformer_lm(ids, None, **{**parts, **tied})[0]

    assert_gradients(lambda table: logits(IDS[:, :3], table), TABLE)
    assert_gradients(lambda x: parts["blocks"][0](x, None)[0], normal(2, D_MODEL))
    assert_maps(logits, IDS, TABLE, mapped=(True, False))
    assert_compiles(logits, IDS, TABLE)
    assert logits(IDS[0], TABLE).shape == (5, VOCAB)
    assert logits(IDS[:0], TABLE).shape == (0, 5, VOCAB)


X = whole(2, 4, 3)
_, CACHES = transformer_lm(IDS, None, **model())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        *[
            (lambda b=block, x=x: b(x, None, **PARTS), rf"^{block.__name__}: x must be {message}")
            for block in (pre_norm_block, post_norm_block)
            for x, message in [(X[0, 0], r".*'\*batch seq d_model'.*\(3,\)$"), (X.long(), r"Float.*int64\(2, 4, 3\)$")]
        ],
        (lambda: pre_norm_block(X, (X, X), **PARTS), r"^pre_norm_block: cache must be .*KVCache \| None"),  # type: ignore[arg-type]
        (
            lambda: pre_norm_block(X, None, **{**PARTS, "feed_forward": None}),
            r"^pre_norm_block: feed_forward must be .*Callable.*None$",
        ),
        (
            lambda: pre_norm_block(X, None, **{**PARTS, "feed_forward": lambda x: x.unsqueeze(0)}),
            r"^pre_norm_block: the result\[0\] must be .*'\*batch seq d_model'",
        ),
        (
            lambda: post_norm_block(X, None, **{**PARTS, "ln2": lambda x: x.mean(-1)}),
            r"^post_norm_block: the result\[0\] must be .*'\*batch seq d_model'",
        ),
        (
            lambda: transformer_lm(IDS, CACHES[:1], **model()),
            r"^transformer_lm: cache must have 2 layers, got 1$",
        ),
        (
            lambda: transformer_lm(IDS, (*CACHES, CACHES[0]), **model()),
            r"^transformer_lm: cache must have 2 layers, got 3$",
        ),
        (lambda: transformer_lm(IDS, (), **model()), r"^transformer_lm: cache must have 2 layers, got 0$"),
        (lambda: transformer_lm(IDS, (None,) * 2, **model()), r"^transformer_lm: cache\[0\] must be .*KVCache"),  # type: ignore[arg-type]
        (lambda: transformer_lm(IDS[0, 0], None, **model()), r"^transformer_lm: ids must be .*'\*batch seq'.*\(\)$"),
        (lambda: transformer_lm(IDS.double(), None, **model()), r"^transformer_lm: ids must be Int.*float64\(2, 5\)$"),
        (lambda: transformer_lm(IDS + 4, None, **model()), r"^embedding: ids must be in \[0, 7\)"),
        (
            lambda: transformer_lm(IDS, None, **{**model(), "head": lambda x: x.mean(-2)}),
            r"^transformer_lm: the result\[0\] must be .*'\*batch seq vocab'",
        ),
    ],
)
def test_refusals(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        call()
