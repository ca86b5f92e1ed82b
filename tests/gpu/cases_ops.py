"""The table of `ops`: for every public function, calls that together reach each of its branches; losses beside it."""

from typing import Any, Final

import torch
from torch import Tensor

from cs336_basics.ops.attention import (
    KVCache,
    RopeTables,
    causal_mask,
    merge_heads,
    multihead_self_attention,
    repeat_kv,
    scaled_dot_product_attention,
    split_heads,
)
from cs336_basics.ops.feed_forward import silu, silu_feed_forward, swiglu
from cs336_basics.ops.linear import embedding, linear
from cs336_basics.ops.norm import rms_norm
from cs336_basics.ops.rope import rope, rope_tables
from cs336_basics.ops.sampling import keep_min_p, keep_top_k, keep_top_p, sample
from cs336_basics.ops.softmax import log_softmax, logsumexp, softmax
from cs336_basics.ops.transformer import post_norm_block, pre_norm_block, transformer_lm
from tests.gpu.compare import Case, Tensors, covers, integers, normal, wider

covers(KVCache, RopeTables)  # the values that the cases of attention pass

D_MODEL, D_FF, HEADS, D_K, SEQ, VOCAB = 64, 96, 4, 16, 12, 50


def x_inputs(t: torch.dtype) -> Tensors:
    return (normal(2, SEQ, D_MODEL, dtype=t),)


def matrix(d_out: int, d_in: int, t: torch.dtype, *, seed: int) -> Tensor:
    """A weight that keeps the variance of what it maps."""
    return normal(d_out, d_in, seed=seed).div(d_in**0.5).to(t)


def linear_inputs(t: torch.dtype) -> Tensors:
    return *x_inputs(t), matrix(D_FF, D_MODEL, t, seed=1)


def gate_inputs(t: torch.dtype) -> Tensors:
    down = matrix(D_MODEL, D_FF, t, seed=6)
    return *x_inputs(t), matrix(D_FF, D_MODEL, t, seed=5), down, matrix(D_FF, D_MODEL, t, seed=7)


def embedding_inputs(t: torch.dtype) -> Tensors:
    return integers(VOCAB, 2, SEQ), normal(VOCAB, D_MODEL, dtype=t)


def norm_inputs(t: torch.dtype) -> Tensors:
    return *x_inputs(t), normal(D_MODEL, seed=1, dtype=t)


def filter_inputs(t: torch.dtype) -> Tensors:
    """Logits half a nat apart in mixed order: exact in every dtype, so that a filter meets no tie and no near miss."""
    orders = (torch.randperm(VOCAB, generator=torch.Generator().manual_seed(row)) for row in range(3))
    return (-0.5 * torch.stack(list(orders)).to(t),)


def tables(t: torch.dtype) -> Tensors:
    return rope_tables(40, D_K, dtype=wider(t))


def rope_inputs(t: torch.dtype) -> Tensors:
    return normal(2, HEADS, SEQ, D_K, dtype=t), *tables(t), integers(40, 2, 1, SEQ)


def sdpa_inputs(t: torch.dtype) -> Tensors:
    q, k, v = (normal(2, HEADS, SEQ, D_K, seed=seed, dtype=t) for seed in range(3))
    return q, k, v


def sdpa_masked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Only strictly earlier keys: the first query is allowed none."""
    at = torch.arange(SEQ, device=q.device)
    return scaled_dot_product_attention(q, k, v, at.unsqueeze(-1) > at)


def heads_inputs(t: torch.dtype) -> Tensors:
    """x, matrices for four query heads on two key and value heads, norms of queries and keys, rotary tables."""
    widths = (D_MODEL, D_MODEL // 2, D_MODEL // 2, D_MODEL)
    matrices = (matrix(width, D_MODEL, t, seed=seed) for seed, width in enumerate(widths))
    return *x_inputs(t), *matrices, *(normal(D_K, seed=seed, dtype=t) for seed in (5, 6)), *tables(t)


def heads_plain(x: Tensor, *rest: Tensor) -> Tensors:
    y, cache = multihead_self_attention(x, *rest[:4], heads=HEADS, kv_heads=2)
    return y, *cache


def heads_full(x: Tensor, *rest: Tensor) -> Tensors:
    """Every option at once: one product for q, k and v, their norms, positions from outside."""
    *weights, q_norm, k_norm, cos, sin = rest
    options: dict[str, Any] = {"q_norm": q_norm, "k_norm": k_norm, "tables": RopeTables(cos, sin), "fuse_qkv": True}
    positions = torch.arange(20, 20 + SEQ, device=x.device)
    y, cache = multihead_self_attention(x, *weights, heads=HEADS, kv_heads=2, token_positions=positions, **options)
    return y, *cache


def heads_cached(x: Tensor, *rest: Tensor) -> Tensors:
    """In two parts, the second through the cache of the first."""
    *weights, _, _, cos, sin = rest
    options: dict[str, Any] = {"heads": HEADS, "kv_heads": 2, "tables": RopeTables(cos, sin)}
    first, cache = multihead_self_attention(x[:, :5], *weights, **options)
    second, cache = multihead_self_attention(x[:, 5:], *weights, cache=cache, **options)
    return first, second, *cache


def block_inputs(t: torch.dtype) -> Tensors:
    squares = (matrix(D_MODEL, D_MODEL, t, seed=seed) for seed in range(1, 5))
    x, *gate = gate_inputs(t)
    return x, *squares, *gate, normal(D_MODEL, seed=8, dtype=t)


def block_parts(*weights: Tensor) -> dict[str, Any]:
    *squares, w1, w2, w3, norm = weights
    return {
        "attention": lambda x, cache: multihead_self_attention(x, *squares, heads=HEADS, cache=cache),
        "feed_forward": lambda x: swiglu(x, w1, w2, w3),
        "ln1": lambda x: rms_norm(x, norm),
        "ln2": lambda x: rms_norm(x, norm),
    }


def pre_norm(x: Tensor, *weights: Tensor) -> Tensors:
    y, cache = pre_norm_block(x, None, **block_parts(*weights))
    return y, *cache


def post_norm(x: Tensor, *weights: Tensor) -> Tensors:
    y, cache = post_norm_block(x, None, **block_parts(*weights))
    return y, *cache


def model_inputs(t: torch.dtype) -> Tensors:
    return *embedding_inputs(t), *block_inputs(t)[1:]


def model(ids: Tensor, table: Tensor, *weights: Tensor) -> Tensors:
    """Two blocks that share their weights, and the table as the head."""
    parts = block_parts(*weights)
    logits, (first, second) = transformer_lm(
        ids,
        None,
        embed=lambda ids: embedding(ids, table),
        blocks=[lambda x, cache: pre_norm_block(x, cache, **parts)] * 2,
        final_norm=lambda x: rms_norm(x, weights[-1]),
        head=lambda x: linear(x, table) * D_MODEL**-0.5,
    )
    return logits, *first, *second


# A matrix product, a norm or an elementwise function rounds its result once; what is chained adds up.
ATTENTION: Final = 5  # scaled queries, scores, probabilities, values, result
HEADS_ALL: Final = ATTENTION + 5  # projections, their norms, rotation, output
GATE: Final = 6
BLOCK: Final = HEADS_ALL + GATE + 4  # two norms, two sums
BLOCK_TERMS: Final = 4 * D_MODEL + D_FF + D_K + 2 * SEQ
MODEL: Final = 2 * BLOCK + 3  # two blocks, the last norm, the head, the loss
MODEL_TERMS: Final = 2 * BLOCK_TERMS + D_MODEL + VOCAB

OPS: Final = (
    # cuBLAS may cut a sum in two and round both parts.
    Case(of=linear, name="linear", inputs=linear_inputs, call=linear, roundings=2, terms=D_MODEL),
    Case(of=embedding, name="embedding", inputs=embedding_inputs, call=embedding, roundings=1),
    Case(of=rms_norm, name="rms_norm", inputs=norm_inputs, call=rms_norm, roundings=1, terms=D_MODEL),
    Case(of=silu, name="silu", inputs=x_inputs, call=silu, roundings=2, terms=2),
    Case(of=swiglu, name="swiglu", inputs=gate_inputs, call=swiglu, roundings=GATE, terms=D_MODEL + D_FF),
    Case(
        of=silu_feed_forward,
        name="silu_feed_forward",
        inputs=lambda t: gate_inputs(t)[:3],
        call=silu_feed_forward,
        roundings=GATE - 1,
        terms=D_MODEL + D_FF,
    ),
    Case(of=softmax, name="softmax", inputs=x_inputs, call=softmax, roundings=1, terms=D_MODEL),
    Case(
        of=softmax,
        name="softmax over axis 1",
        inputs=x_inputs,
        call=lambda x: softmax(x, dim=1),
        roundings=1,
        terms=SEQ,
    ),
    Case(of=log_softmax, name="log_softmax", inputs=x_inputs, call=log_softmax, roundings=1, terms=D_MODEL),
    Case(of=logsumexp, name="logsumexp", inputs=x_inputs, call=logsumexp, roundings=1, terms=D_MODEL),
    Case(
        of=rope_tables,
        name="rope_tables",
        inputs=x_inputs,
        call=lambda x: rope_tables(131_072, D_K, device=x.device, dtype=x.dtype),
        roundings=1,
    ),
    Case(of=rope, name="rope", inputs=rope_inputs, call=rope, roundings=3, terms=HEADS * SEQ),
    Case(
        of=causal_mask,
        name="causal_mask",
        inputs=x_inputs,
        call=lambda x: causal_mask(5, SEQ, device=x.device),
        roundings=0,
    ),
    Case(of=split_heads, name="split_heads", inputs=x_inputs, call=lambda x: split_heads(x, heads=HEADS), roundings=0),
    Case(of=merge_heads, name="merge_heads", inputs=x_inputs, call=merge_heads, roundings=0),
    Case(
        of=repeat_kv,
        name="repeat_kv",
        inputs=x_inputs,
        call=lambda x: repeat_kv(x.unsqueeze(1), heads=HEADS),
        roundings=1,
    ),
    Case(
        of=scaled_dot_product_attention,
        name="attention to all",
        inputs=sdpa_inputs,
        call=scaled_dot_product_attention,
        roundings=ATTENTION,
        terms=D_K + 2 * SEQ,
    ),
    Case(
        of=scaled_dot_product_attention,
        name="attention to the past",
        inputs=sdpa_inputs,
        call=lambda q, k, v: scaled_dot_product_attention(q[..., -5:, :], k, v, is_causal=True),
        roundings=ATTENTION,
        terms=D_K + 2 * SEQ,
    ),
    Case(
        of=scaled_dot_product_attention,
        name="attention with a row that may attend to nothing",
        inputs=sdpa_inputs,
        call=sdpa_masked,
        roundings=ATTENTION,
        terms=D_K + 2 * SEQ,
    ),
    *(
        Case(
            of=multihead_self_attention,
            name=name,
            inputs=heads_inputs,
            call=call,
            roundings=HEADS_ALL,
            terms=2 * D_MODEL + D_K + 2 * SEQ,
        )
        for name, call in (("heads", heads_plain), ("heads, all options", heads_full), ("heads, cached", heads_cached))
    ),
    *(
        Case(of=of, name=of.__name__, inputs=block_inputs, call=call, roundings=BLOCK, terms=BLOCK_TERMS)
        for of, call in ((pre_norm_block, pre_norm), (post_norm_block, post_norm))
    ),
    Case(
        of=transformer_lm,
        name="transformer_lm",
        inputs=model_inputs,
        call=model,
        roundings=MODEL,
        terms=MODEL_TERMS,
    ),
    Case(of=keep_top_k, name="keep_top_k", inputs=filter_inputs, call=lambda x: keep_top_k(x, k=7), roundings=0),
    Case(of=keep_top_p, name="keep_top_p", inputs=filter_inputs, call=lambda x: keep_top_p(x, p=0.9), roundings=0),
    Case(of=keep_min_p, name="keep_min_p", inputs=filter_inputs, call=lambda x: keep_min_p(x, min_p=0.05), roundings=0),
    Case(of=sample, name="greedy sample", inputs=filter_inputs, call=lambda x: sample(x, temperature=0.0), roundings=0),
)
