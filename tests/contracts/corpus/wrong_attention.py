"""Wrong: attention, heads, masks, rotary tables and caches."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tests.contracts.corpus.registry import wrong


@wrong("error", keys=8, d_k=8)
def keys_not_transposed(
    q: Float[Tensor, "*batch queries d_k"], k: Float[Tensor, "*batch keys d_k"], v: Float[Tensor, "*batch keys d_v"]
) -> Float[Tensor, "*batch queries d_v"]:
    """Bug: q k instead of q kᵀ. Missed where there are as many keys as features in a head."""
    weights = torch.softmax(q @ k * q.shape[-1] ** -0.5, dim=-1)
    return weights @ v


@wrong("error", seq=8, d_k=8)
def values_not_transposed_back(
    q: Float[Tensor, "*batch seq d_k"], k: Float[Tensor, "*batch seq d_k"], v: Float[Tensor, "*batch seq d_k"]
) -> Float[Tensor, "*batch seq d_k"]:
    """Bug: linear attention forms kᵀ v from the wrong side, k vᵀ. Missed where seq == d_k."""
    state = k @ v.mT
    return q @ state


@wrong("specialises")
def scale_by_math_sqrt(
    q: Float[Tensor, "*batch queries d_k"], k: Float[Tensor, "*batch keys d_k"]
) -> Float[Tensor, "*batch queries keys"]:
    """Bug: math.sqrt turns the width into a constant, one graph for each. Missed eagerly, at any size."""
    return q @ k.mT / math.sqrt(q.shape[-1])


@wrong("error", queries=6, keys=6)
def mask_transposed(
    scores: Float[Tensor, "*batch queries keys"], mask: Bool[Tensor, "*batch queries keys"]
) -> Float[Tensor, "*batch queries keys"]:
    """Bug: the mask is read as (keys, queries). Missed in training, where the two are as many."""
    return scores.masked_fill(~mask.mT, -torch.inf).softmax(dim=-1)


@wrong("error", queries=6, keys=6)
def causal_mask_is_square(scores: Float[Tensor, "*batch queries keys"]) -> Float[Tensor, "*batch queries keys"]:
    """Bug: the triangle has queries rows and columns. Missed until a cache makes keys outnumber queries."""
    rows = torch.arange(scores.shape[-2], device=scores.device)
    return scores.masked_fill(rows[:, None] < rows, -torch.inf)


@wrong("device")
def causal_mask_on_cpu(scores: Float[Tensor, "*batch queries keys"]) -> Float[Tensor, "*batch queries keys"]:
    """Bug: the triangle is built on the CPU. Missed by every test without a GPU."""
    allowed = torch.ones(scores.shape[-2], scores.shape[-1], dtype=torch.bool).tril()
    return scores.masked_fill(~allowed, -torch.inf)


@wrong("error", heads=5, seq=5)
def attends_across_heads(
    q: Float[Tensor, "*batch seq heads d_k"],
    k: Float[Tensor, "*batch seq heads d_k"],
    mask: Bool[Tensor, "seq seq"],
) -> Float[Tensor, "*batch seq heads d_k"]:
    """Bug: heads were never moved before seq, so heads attend to heads. Missed where heads == seq lets the mask fit."""
    scores = (q @ k.mT).masked_fill(~mask, -torch.inf)
    return scores.softmax(dim=-1) @ k


@wrong(law="batch")
def head_weights_interleaved(
    x: Float[Tensor, "*batch heads seq d_k"], weight: Float[Tensor, "heads d_k d_v"]
) -> Float[Tensor, "*batch heads seq d_v"]:
    """Bug: repeat_interleave where the flattened batch needs repeat. Missed at batch 1, and by every shape check."""
    flat = x.flatten(0, -3)
    copies = flat.shape[0] // weight.shape[0]
    return (flat @ weight.repeat_interleave(copies, dim=0)).reshape(*x.shape[:-1], weight.shape[-1])


@wrong(law="batch")
def heads_scrambled_with_batch(
    x: Float[Tensor, "*batch heads*d_k"], *, heads: int
) -> Float[Tensor, "*batch heads d_k"]:
    """Bug: a leftover transpose before the reshape mixes batch and heads. Missed at batch 1, and by shape checks."""
    return x.transpose(0, -1).reshape(*x.shape[:-1], heads, x.shape[-1] // heads)


@wrong("shape", kv_heads=1, groups=1)
def repeat_kv_along_seq(
    x: Float[Tensor, "*batch kv_heads seq d_k"], *, groups: int
) -> Float[Tensor, "*batch kv_heads*groups seq d_k"]:
    """Bug: keys are repeated along seq, not along heads. Missed without grouping (groups == 1)."""
    return x.repeat_interleave(groups, dim=-2)


@wrong("shape", groups=2, kv_heads=2)
def repeat_kv_by_kv_heads(
    x: Float[Tensor, "*batch kv_heads seq d_k"], *, groups: int
) -> Float[Tensor, "*batch kv_heads*groups seq d_k"]:
    """Bug: each head is repeated kv_heads times. Missed where there are as many groups as kv_heads (4 heads over 2)."""
    kv_heads = x.shape[-3]
    return x.repeat_interleave(kv_heads if groups > 0 else 1, dim=-3)


@wrong("error", seq=4, cached=4)
def cache_grows_along_heads(
    cached: Float[Tensor, "*batch kv_heads cached d_k"], new: Float[Tensor, "*batch kv_heads seq d_k"]
) -> Float[Tensor, "*batch kv_heads cached+seq d_k"]:
    """Bug: concatenated along heads. Runs where the cache holds as many positions as are new."""
    return torch.cat((cached, new), dim=-3)


@wrong("error", batch=())
def cache_grows_along_first_axis(
    cached: Float[Tensor, "*batch cached d_k"], new: Float[Tensor, "*batch seq d_k"]
) -> Float[Tensor, "*batch cached+seq d_k"]:
    """Bug: dim=0 where dim=-2 is meant. Missed by a test without batch."""
    if cached.shape[:-2] != new.shape[:-2]:
        raise ValueError("the cache is of another batch")
    return torch.cat((cached, new.expand(*cached.shape[:-2], *new.shape[-2:])), dim=0)


@wrong("error", heads=6, seq=6)
def rope_table_meets_heads(
    cos: Float[Tensor, "seq half"], sin: Float[Tensor, "seq half"], x: Float[Tensor, "*batch seq heads 2*half"]
) -> Float[Tensor, "*batch seq heads 2*half"]:
    """Bug: the tables lack an axis for heads, so position s of them meets head s. Missed where heads == seq."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


@wrong("shape", seq=6, positions=6, half=6)
def rope_table_indexed_by_wrong_axis(
    cos: Float[Tensor, "positions half"], token_positions: Int[Tensor, "seq"]
) -> Float[Tensor, "seq half"]:
    """Bug: positions select columns (pairs) of the table, not rows. Missed where the table is square."""
    return cos.index_select(1, token_positions.long())


@wrong("error", batch=(7,), keys=7)
def lengths_meet_keys(
    scores: Float[Tensor, "*batch keys"], lengths: Int[Tensor, "*batch"]
) -> Float[Tensor, "*batch keys"]:
    """Bug: lengths lack a last axis. Missed without batch, and where batch == keys."""
    positions = torch.arange(scores.shape[-1], device=scores.device)
    return scores.masked_fill(positions >= lengths, -torch.inf)


@wrong("error", heads=6, keys=6)
def alibi_slopes_meet_keys(
    scores: Float[Tensor, "*batch heads queries keys"], slopes: Float[Tensor, "heads"]
) -> Float[Tensor, "*batch heads queries keys"]:
    """Bug: slopes lack two axes, so each key gets a slope. Missed where heads == keys."""
    return scores - slopes * torch.arange(scores.shape[-1], device=scores.device)


@wrong(law="batch")
def softmax_over_first_axis(
    q: Float[Tensor, "*batch d_k"], k: Float[Tensor, "keys d_k"], v: Float[Tensor, "keys d_v"]
) -> Float[Tensor, "*batch d_v"]:
    """Bug: softmax over axis 0, the batch. Missed by a test with one query, and by every shape check."""
    return torch.softmax(q @ k.mT, dim=0) @ v


@wrong("error", seq=1)
def heads_merged_by_view(x: Float[Tensor, "*batch heads seq d_v"]) -> Float[Tensor, "*batch seq heads*d_v"]:
    """Bug: .view on a transposed tensor. Missed in decoding, one position at a time."""
    turned = x.transpose(-3, -2)
    return turned.view(*turned.shape[:-2], turned.shape[-2] * turned.shape[-1])


@wrong("host read")
def skips_an_empty_mask(
    scores: Float[Tensor, "*batch queries keys"], mask: Bool[Tensor, "*batch queries keys"]
) -> Float[Tensor, "*batch queries keys"]:
    """Bug: `if mask.all()` waits for the GPU and breaks the graph. Missed by comparing values, at any size."""
    if mask.all():
        return scores
    return scores.masked_fill(~mask, -torch.inf)


@wrong("writes", law="arguments")
def masks_scores_in_place(
    scores: Float[Tensor, "*batch queries keys"], mask: Bool[Tensor, "*batch queries keys"]
) -> Float[Tensor, "*batch queries keys"]:
    """Bug: masked_fill_ writes into the caller's scores. Missed by a test that looks at the result only."""
    return scores.masked_fill_(~mask, -torch.inf).softmax(dim=-1)


@wrong("error", batch=(3,), heads=3)
def sink_logits_meet_batch(
    scores: Float[Tensor, "*batch heads queries keys"], sinks: Float[Tensor, "heads"]
) -> Float[Tensor, "*batch heads queries keys"]:
    """Bug: the sinks get one axis too many, so they stand on batch. Missed where batch == heads."""
    sink = sinks[:, None, None, None].expand(*scores.shape[:-1], 1)
    return torch.cat((scores, sink), dim=-1).softmax(dim=-1)[..., :-1]


@wrong("specialises")
def heads_split_without_transpose(
    x: Float[Tensor, "*batch seq heads*d_k"], *, heads: int
) -> Float[Tensor, "*batch heads seq d_k"]:
    """Bug: one reshape for a split and a transpose scrambles heads and positions. Missed by shape checks."""
    return x.reshape(*x.shape[:-2], heads, x.shape[-2], x.shape[-1] // heads)


@wrong("specialises")
def heads_merged_without_transpose(x: Float[Tensor, "*batch heads seq d_v"]) -> Float[Tensor, "*batch seq heads*d_v"]:
    """Bug: merged without the transpose back, which scrambles heads and positions. Missed by every shape check."""
    return x.reshape(*x.shape[:-3], x.shape[-2], x.shape[-3] * x.shape[-1])


@wrong("error", batch=(6,), seq=6, d_v=6)
def optional_gate_meets_positions(
    x: Float[Tensor, "*batch seq d_v"], gate: Float[Tensor, "*batch seq"] | None = None
) -> Float[Tensor, "*batch seq d_v"]:
    """Bug: the gate lacks a last axis. Missed by a test that leaves it out, and where all axes are equal."""
    return x if gate is None else x * gate


@wrong("shape")
def keeps_the_axis_when_asked_to_normalise(
    weights: Float[Tensor, "*batch queries keys"], *, normalise: bool = False
) -> Float[Tensor, "*batch queries"]:
    """Bug: keepdim is right for the division only, yet comes back. Missed by every test of the default."""
    total = weights.sum(-1, keepdim=normalise)
    return total / total.amax(-1, keepdim=True) if normalise else total
