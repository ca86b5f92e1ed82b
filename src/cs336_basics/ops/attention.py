"""Scaled dot-product attention, heads, and the key/value cache as a value."""

from typing import Annotated, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cs336_basics.contracts import Axes, contract, require
from cs336_basics.ops._dtype import at_least_float32, require_one_dtype
from cs336_basics.ops.linear import linear
from cs336_basics.ops.norm import rms_norm
from cs336_basics.ops.rope import rope
from cs336_basics.ops.softmax import softmax


class KVCache(NamedTuple):
    """The keys and values of the positions seen so far; a new one is made, none is written."""

    keys: Float[Tensor, "*batch kv_heads cached d_k"]
    values: Float[Tensor, "*batch kv_heads cached d_v"]

    @property
    def length(self) -> int:
        """Positions held."""
        return self.keys.shape[-2]


GrownKVCache: TypeAlias = Annotated[KVCache, Axes(cached="cached+seq")]
"""A cache with the positions of this call behind those it held."""


class RopeTables(NamedTuple):
    """What `rope_tables` returns: one angle for each position and pair."""

    cos: Float[Tensor, "positions half"]
    sin: Float[Tensor, "positions half"]


@runtime_checkable
class AttentionFn(Protocol):
    """Any function with the signature and the meaning of `scaled_dot_product_attention`."""

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, is_causal: bool = False
    ) -> Tensor: ...


@contract(held_by="proof")
def scaled_dot_product_attention(
    q: Float[Tensor, "*batch queries d_k"],
    k: Float[Tensor, "*batch keys d_k"],
    v: Float[Tensor, "*batch keys d_v"],
    mask: Bool[Tensor, "*#batch queries keys"] | None = None,
    *,
    is_causal: bool = False,
) -> Float[Tensor, "*batch queries d_v"]:
    """softmax(q kᵀ / sqrt(d_k)) v, over the keys that the mask allows (True = attend).

    Shapes: q (*batch, queries, d_k), k (*batch, keys, d_k), v (*batch, keys, d_v), mask (*batch, queries, keys)
        or broadcastable to it -> (*batch, queries, d_v), in q's dtype; the softmax in float32 at least. The
        scores are products in q's dtype: float16 holds them up to 65,504.
        is_causal adds the mask of `causal_mask`: the last query sees every key. A query with no allowed key
        gets zeros, and passes back no gradient.
    Raises: ContractError on shape or dtype (q and k of two dtypes, outside autocast), with no key or no width at
        all, or with is_causal and fewer keys than queries.
    Source: Vaswani et al. 2017, arXiv:1706.03762, equation 1. Zeros for a fully masked row is our choice: the
        limit does not exist, and the mean of all values (what a large negative number instead of -inf gives)
        would leak what the mask hides.

    >>> q, k, v = torch.zeros(1, 2), torch.zeros(2, 2), torch.tensor([[1.0], [3.0]])
    >>> scaled_dot_product_attention(q, k, v)
    tensor([[2.]])
    >>> scaled_dot_product_attention(q, k, v, torch.tensor([[True, False]]))
    tensor([[1.]])
    """
    queries, keys = q.shape[-2], k.shape[-2]
    require(keys > 0, "scaled_dot_product_attention: k must hold at least one key")
    require(q.shape[-1] > 0, "scaled_dot_product_attention: q must be at least 1 wide")
    require_one_dtype("scaled_dot_product_attention: k must have q's dtype {}, got {}", q, k)
    if is_causal:
        causal = causal_mask(queries, keys, device=q.device)
        mask = causal if mask is None else mask & causal
    scores = at_least_float32(q * q.shape[-1] ** -0.5 @ k.mT)
    if mask is None:
        return (softmax(scores).to(v.dtype) @ v).to(q.dtype)
    # A row with no key gets equal scores, whatever it had, and is then zeroed: no NaN arises, forward or backward.
    alive = mask.any(-1, keepdim=True)
    scores = torch.where(mask, scores, torch.where(alive, -torch.inf, 0.0))
    return (softmax(scores).to(v.dtype) @ v).masked_fill(~alive, 0.0).to(q.dtype)


@contract(held_by="proof")
def causal_mask(queries: int, keys: int, *, device: torch.device | str | None = None) -> Bool[Tensor, "queries keys"]:
    """mask[i, j] = (j <= i + keys - queries): no query sees a later key, and the last query sees them all.

    Shapes: -> (queries, keys), boolean, True = attend.
    Raises: ContractError if queries < 0, or if there are fewer keys than queries, since the first queries would see
        nothing.

    >>> causal_mask(2, 3)
    tensor([[ True,  True, False],
            [ True,  True,  True]])
    """
    require(queries >= 0, "causal_mask: queries must be at least 0, got {}", queries)
    require(keys >= queries, "causal_mask: keys must be at least queries = {}, got {}", queries, keys)
    row = torch.arange(queries, device=device).unsqueeze(-1) + (keys - queries)
    return torch.arange(keys, device=device) <= row


@contract(held_by="proof")
def split_heads(x: Float[Tensor, "*batch seq heads*d_k"], *, heads: int) -> Float[Tensor, "*batch heads seq d_k"]:
    """y[..., h, t, i] = x[..., t, h · d_k + i], with d_k = d_model / heads.

    Shapes: x (*batch, seq, heads · d_k) -> (*batch, heads, seq, d_k), a view.
    Raises: ContractError on shape or dtype, or if heads does not divide the last axis.
    """
    require(heads >= 1 and x.shape[-1] % heads == 0, "split_heads: heads must divide {}, got {}", x.shape[-1], heads)
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads).transpose(-3, -2)


@contract(held_by="proof")
def merge_heads(x: Float[Tensor, "*batch heads seq d_v"]) -> Float[Tensor, "*batch seq heads*d_v"]:
    """The inverse of `split_heads`: y[..., t, h · d_v + i] = x[..., h, t, i].

    Shapes: x (*batch, heads, seq, d_v) -> (*batch, seq, heads · d_v).
    Raises: ContractError on shape or dtype.
    """
    return x.transpose(-3, -2).flatten(-2)


@contract(held_by="proof")
def repeat_kv(x: Float[Tensor, "*batch kv_heads seq d_k"], *, heads: int) -> Float[Tensor, "*batch heads seq d_k"]:
    """y[..., h, :, :] = x[..., h // (heads / kv_heads), :, :]: each key/value head serves a group of query heads.

    Shapes: x (*batch, kv_heads, seq, d_k) -> (*batch, heads, seq, d_k); x itself where the two are equal.
    Raises: ContractError on shape or dtype, or if kv_heads does not divide heads.
    Source: Ainslie et al. 2023, arXiv:2305.13245.
    """
    kv_heads = x.shape[-3]
    divides = kv_heads >= 1 and heads >= 1 and heads % kv_heads == 0
    require(divides, "repeat_kv: heads must be a multiple of kv_heads = {}, got {}", kv_heads, heads)
    return x if heads == kv_heads else x.repeat_interleave(heads // kv_heads, dim=-3)


@contract(held_by="proof")
def multihead_self_attention(
    x: Float[Tensor, "*batch seq d_model"],
    q_weight: Float[Tensor, "heads*d_k d_model"],
    k_weight: Float[Tensor, "kv_heads*d_k d_model"],
    v_weight: Float[Tensor, "kv_heads*d_v d_model"],
    output_weight: Float[Tensor, "d_model heads*d_v"],
    *,
    heads: int,
    kv_heads: int | None = None,
    tables: RopeTables | None = None,
    token_positions: Int[Tensor, "*#batch seq"] | None = None,
    q_norm: Float[Tensor, "d_k"] | None = None,
    k_norm: Float[Tensor, "d_k"] | None = None,
    norm_eps: float = 1e-5,
    fuse_qkv: bool = False,
    cache: KVCache | None = None,
    attention_fn: AttentionFn = scaled_dot_product_attention,
) -> tuple[Float[Tensor, "*batch seq d_model"], GrownKVCache]:
    """W_O · concat_h attention(q_h, k_g(h), v_g(h)), causal, where q, k, v = W_Q x, W_K x, W_V x split into heads.

    Shapes: x (*batch, seq, d_model), q_weight (heads · d_k, d_model), k_weight (kv_heads · d_k, d_model), v_weight
        (kv_heads · d_v, d_model), output_weight (d_model, heads · d_v) -> y (*batch, seq, d_model) and the cache
        grown by seq positions.
        Queries and keys are normalised per head where q_norm and k_norm are given, then turned where
        tables are given. Positions count on from the cache; token_positions (*batch, seq) overrides them.
        fuse_qkv computes q, k, v by one matrix product; the result is the same up to rounding.
    Raises: ContractError on shape or dtype, if heads or kv_heads do not divide, where the tables are too short, or
        where the cache was made for another batch or other heads.
    Source: Vaswani et al. 2017; grouped heads: Ainslie et al. 2023, arXiv:2305.13245; normalised queries and keys:
        Dehghani et al. 2023, arXiv:2302.05442, with RMSNorm.
    """
    kv_heads = heads if kv_heads is None else kv_heads
    weights = (q_weight, k_weight, v_weight)
    if fuse_qkv:
        projected = torch.split(linear(x, torch.cat(weights)), [w.shape[0] for w in weights], dim=-1)
    else:
        projected = tuple(linear(x, w) for w in weights)
    q = split_heads(projected[0], heads=heads)
    k = split_heads(projected[1], heads=kv_heads)
    v = split_heads(projected[2], heads=kv_heads)
    if q_norm is not None:
        q = rms_norm(q, q_norm, eps=norm_eps)
    if k_norm is not None:
        k = rms_norm(k, k_norm, eps=norm_eps)
    if tables is not None:
        half, d_k = tables.cos.shape[-1], q.shape[-1]
        require(2 * half == d_k, "multihead_self_attention: tables must be {} / 2 wide, got {}", d_k, half)
        positions = _positions(x, tables, token_positions, cache)
        q, k = rope(q, *tables, positions), rope(k, *tables, positions)
    if cache is not None:
        k, v = torch.cat((cache.keys, k), dim=-2), torch.cat((cache.values, v), dim=-2)
    attended = attention_fn(q, repeat_kv(k, heads=heads), repeat_kv(v, heads=heads), is_causal=True)
    shape = (*q.shape[:-1], v.shape[-1])
    require(
        attended.shape == shape,
        "multihead_self_attention: attention_fn must return (*batch, heads, queries, d_v) = {}, got {}",
        shape,
        attended.shape,
    )
    return linear(merge_heads(attended), output_weight), KVCache(k, v)


def _positions(x: Tensor, tables: RopeTables, token_positions: Tensor | None, cache: KVCache | None) -> Tensor:
    """Positions of x's tokens, with an axis for the heads."""
    if token_positions is not None:
        return token_positions.unsqueeze(-2)
    start = 0 if cache is None else cache.length
    end, room = start + x.shape[-2], tables.cos.shape[0]
    require(
        end <= room, "multihead_self_attention: x must end within the {} positions of the tables, got {}", room, end
    )
    return torch.arange(start, end, device=x.device)
