"""Right: attention, heads, masks, rotary tables and caches."""

import math
from typing import NamedTuple

import torch
from einops import einsum, rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tests.contracts.corpus.registry import right


class Cache(NamedTuple):
    keys: Float[Tensor, "*batch cached d_k"]
    values: Float[Tensor, "*batch cached d_v"]


@right
def attention(
    q: Float[Tensor, "*batch queries d_k"],
    k: Float[Tensor, "*batch keys d_k"],
    v: Float[Tensor, "*batch keys d_v"],
    mask: Bool[Tensor, "*#batch queries keys"] | None = None,
) -> Float[Tensor, "*batch queries d_v"]:
    """softmax(q kᵀ / sqrt(d_k)) v in float32, with an optional mask that broadcasts."""
    scale: float = q.shape[-1] ** -0.5
    scores = (q * scale @ k.mT).float()
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e9)
    return (scores.softmax(-1).to(v.dtype) @ v).to(q.dtype)


@right
def attention_by_einsum(
    q: Float[Tensor, "*batch queries d_k"], k: Float[Tensor, "*batch keys d_k"], v: Float[Tensor, "*batch keys d_v"]
) -> Float[Tensor, "*batch queries d_v"]:
    """The same with einops and any leading axes."""
    scale: float = q.shape[-1] ** -0.5
    scores = einsum(q * scale, k, "... queries d_k, ... keys d_k -> ... queries keys")
    return einsum(scores.softmax(-1), v, "... queries keys, ... keys d_v -> ... queries d_v")


@right
def causal_by_index_grid(scores: Float[Tensor, "*batch queries keys"]) -> Float[Tensor, "*batch queries keys"]:
    """Two index vectors of different axes make a grid."""
    rows = torch.arange(scores.shape[-2], device=scores.device) + (scores.shape[-1] - scores.shape[-2])
    columns = torch.arange(scores.shape[-1], device=scores.device)
    return scores.masked_fill(rows[:, None] < columns, -torch.inf)


@right
def causal_square(scores: Float[Tensor, "*batch seq seq"]) -> Float[Tensor, "*batch seq seq"]:
    """One index vector against itself: every pair is meant."""
    rows = torch.arange(scores.shape[-1], device=scores.device)
    return scores.masked_fill(~(rows[:, None] >= rows), -torch.inf)


@right
def same_document(segments: Int[Tensor, "*batch seq"]) -> Bool[Tensor, "*batch seq seq"]:
    """An argument against itself on purpose: the result has both axes."""
    return segments.unsqueeze(-1) == segments.unsqueeze(-2)


@right
def causal_by_tril(scores: Float[Tensor, "*batch queries keys"]) -> Float[Tensor, "*batch queries keys"]:
    """A factory that takes the device from its argument."""
    size = scores.shape[-2:]
    return scores.masked_fill(~torch.ones(size, dtype=torch.bool, device=scores.device).tril(), -torch.inf)


@right
def sliding_window(
    queries: Int[Tensor, "queries"], keys: Int[Tensor, "keys"], *, width: int = 4
) -> Bool[Tensor, "queries keys"]:
    """Position grids from two arguments."""
    distance = queries[:, None] - keys[None, :]
    return (distance >= 0) & (distance < width)


@right
def padding_mask(lengths: Int[Tensor, "*batch"], scores: Float[Tensor, "*batch keys"]) -> Float[Tensor, "*batch keys"]:
    """Lengths with a last axis, so they meet an index grid."""
    positions = torch.arange(scores.shape[-1], device=scores.device)
    return scores.masked_fill(positions >= lengths.unsqueeze(-1), -torch.inf)


@right
def alibi(
    scores: Float[Tensor, "*batch heads queries keys"], slopes: Float[Tensor, "heads"]
) -> Float[Tensor, "*batch heads queries keys"]:
    """An outer product of heads and a grid."""
    rows = torch.arange(scores.shape[-2], device=scores.device)
    columns = torch.arange(scores.shape[-1], device=scores.device)
    distance = (rows[:, None] - columns).abs().to(scores.dtype)
    return scores - slopes[:, None, None] * distance


@right
def heads_split_by_einops(
    x: Float[Tensor, "*batch seq heads*d_k"], *, heads: int
) -> Float[Tensor, "*batch heads seq d_k"]:
    """einops divides the product."""
    return rearrange(x, "... seq (heads d_k) -> ... heads seq d_k", heads=heads)


@right
def heads_split_by_unflatten(
    x: Float[Tensor, "*batch seq heads*d_k"], *, heads: int
) -> Float[Tensor, "*batch heads seq d_k"]:
    """A view, then a transpose."""
    return torch.unflatten(x, -1, (heads, x.shape[-1] // heads)).transpose(-3, -2)


@right
def heads_merged_by_reshape(x: Float[Tensor, "*batch heads seq d_v"]) -> Float[Tensor, "*batch seq heads*d_v"]:
    """A transpose, then reshape, which copies where it must."""
    turned = x.transpose(-3, -2)
    return turned.reshape(*turned.shape[:-2], turned.shape[-2] * turned.shape[-1])


@right
def heads_merged_by_einops(x: Float[Tensor, "*batch heads seq d_v"]) -> Float[Tensor, "*batch seq heads*d_v"]:
    """einops multiplies."""
    return rearrange(x, "... heads seq d_v -> ... seq (heads d_v)")


@right
def kv_repeated(
    x: Float[Tensor, "*batch kv_heads seq d_k"], *, groups: int = 3
) -> Float[Tensor, "*batch 3*kv_heads seq d_k"]:
    """Each head serves a group."""
    return x.repeat_interleave(groups, dim=-3)


@right
def kv_repeated_by_einops(
    x: Float[Tensor, "*batch kv_heads seq d_k"], *, groups: int
) -> Float[Tensor, "*batch kv_heads*groups seq d_k"]:
    """The same, the number of groups an axis."""
    return repeat(x, "... kv seq d_k -> ... (kv groups) seq d_k", groups=groups)


@right
def kv_repeated_by_expand(
    x: Float[Tensor, "*batch kv_heads seq d_k"], *, groups: int
) -> Float[Tensor, "*batch kv_heads*groups seq d_k"]:
    """A broadcast view, then one copy."""
    *batch, kv_heads, seq, d_k = x.shape
    return x.unsqueeze(-3).expand(*batch, kv_heads, groups, seq, d_k).reshape(*batch, kv_heads * groups, seq, d_k)


@right
def qkv_in_one_product(
    x: Float[Tensor, "*batch seq d_model"], weight: Float[Tensor, "3*d_k d_model"]
) -> tuple[Float[Tensor, "*batch seq d_k"], Float[Tensor, "*batch seq d_k"], Float[Tensor, "*batch seq d_k"]]:
    """One product, three views."""
    width = weight.shape[0] // 3
    q, k, v = torch.split(x @ weight.mT, [width, width, width], dim=-1)
    return q, k, v


@right
def rope_interleaved(
    cos: Float[Tensor, "seq half"], sin: Float[Tensor, "seq half"], x: Float[Tensor, "*batch seq 2*half"]
) -> Float[Tensor, "*batch seq 2*half"]:
    """Even and odd features are strided views."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


@right
def rope_half_split(
    cos: Float[Tensor, "seq half"], sin: Float[Tensor, "seq half"], x: Float[Tensor, "*batch seq 2*half"]
) -> Float[Tensor, "*batch seq 2*half"]:
    """The two halves, cut and joined again."""
    half = cos.shape[-1]
    first, second = x[..., :half], x[..., half:]
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


@right
def rope_rows(
    table: Float[Tensor, "positions half"], positions: Int[Tensor, "*batch seq"]
) -> Float[Tensor, "*batch seq half"]:
    """Rows of a table by index_select, in the shape of the positions."""
    return table.index_select(0, positions.reshape(-1).long()).reshape(*positions.shape, table.shape[-1])


@right
def rope_frequencies(x: Float[Tensor, "*batch seq d_k"], *, theta: float = 10_000.0) -> Float[Tensor, "seq d_k"]:
    """An outer product of positions and frequencies, in float64 and back."""
    positions = torch.arange(x.shape[-2], dtype=torch.float64, device=x.device)
    frequencies = theta ** -(torch.arange(x.shape[-1], dtype=torch.float64, device=x.device) / x.shape[-1])
    return torch.outer(positions, frequencies).cos().to(x.dtype)


@right
def cache_grown(
    cached: Float[Tensor, "*batch cached d_k"], new: Float[Tensor, "*batch seq d_k"]
) -> Float[Tensor, "*batch cached+seq d_k"]:
    """The cached positions, then the new ones."""
    return torch.cat((cached, new), dim=-2)


@right
def cache_as_a_value(
    cache: Cache | None, k: Float[Tensor, "*batch seq d_k"], v: Float[Tensor, "*batch seq d_v"]
) -> tuple[Float[Tensor, "*batch d_v"], Float[Tensor, "*batch d_k"]]:
    """A named tuple that may be absent; sums do not say how long it was."""
    if cache is not None:
        k, v = torch.cat((cache.keys, k), dim=-2), torch.cat((cache.values, v), dim=-2)
    return v.sum(-2), k.sum(-2)


@right
def cache_started(k: Float[Tensor, "*batch cached d_k"], v: Float[Tensor, "*batch cached d_v"]) -> Cache:
    """A named tuple as the result."""
    return Cache(k.contiguous(), v.contiguous())


@right
def scale_by_sqrt_of_a_constant(x: Float[Tensor, "*batch 64"]) -> Float[Tensor, "*batch 64"]:
    """math.sqrt of a width that the annotation fixes."""
    return x / math.sqrt(64)
