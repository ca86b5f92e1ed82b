"""Scaled dot-product attention in blocks: the scores of all pairs are never there at once."""

import math
from typing import Any, Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cs336_basics.contracts import contract, require
from cs336_basics.kernels._dtype import in_product_dtype, refuse_second
from cs336_basics.ops._dtype import at_least_float32, require_one_dtype

LOG2_E: Final = math.log2(math.e)
LONG: Final = 1024  # the long side of a tile of scores
SHORT: Final = ((512, 32), (1 << 62, 64))  # its short side, by how many queries there are at most
IN_CACHE: Final = 1 << 18  # scores of a tile, all its heads together


@contract
def scaled_dot_product_attention(
    q: Float[Tensor, "*batch queries d_k"],
    k: Float[Tensor, "*batch keys d_k"],
    v: Float[Tensor, "*batch keys d_v"],
    mask: Bool[Tensor, "*#batch queries keys"] | None = None,
    *,
    is_causal: bool = False,
) -> Float[Tensor, "*batch queries d_v"]:
    """`ops.attention.scaled_dot_product_attention`, tile by tile, with memory linear in the length.

    A tile is a few rows of scores (backward: a few columns) of as many heads as a cache holds; tiles that is_causal
    hides are left out. The backward pass makes the scores again from what the forward pass kept: the output and the
    logarithm of each row's sum.

    Shapes: q (*batch, queries, d_k), k (*batch, keys, d_k), v (*batch, keys, d_v), mask (*batch, queries, keys)
        or broadcastable to it -> (*batch, queries, d_v), in q's dtype.
    Raises: ContractError as `ops.attention.scaled_dot_product_attention` does; NotImplementedError for a second
        derivative.
    Source: Dao et al. 2022, arXiv:2205.14135, and 2023, arXiv:2307.08691; the sum over parts of a row: Milakov &
        Gimelshein 2018, arXiv:1805.02867. In base 2, whose exponential is quicker; a row is rescaled only where
        its keys do not fit in one tile.
    """
    queries, keys = q.shape[-2], k.shape[-2]
    require(keys > 0, "scaled_dot_product_attention: k must hold at least one key")
    require(q.shape[-1] > 0, "scaled_dot_product_attention: q must be at least 1 wide")
    require_one_dtype("scaled_dot_product_attention: k must have q's dtype {}, got {}", q, k)
    if is_causal:
        require(keys >= queries, "causal_mask: keys must be at least queries = {}, got {}", queries, keys)
    wide_q, wide_k, wide_v = in_product_dtype(q, k, v)
    return _attention(wide_q, wide_k, wide_v, mask, is_causal)[0].to(q.dtype)


@torch.library.custom_op("cs336_basics::attention", mutates_args=())
def _attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, is_causal: bool) -> tuple[Tensor, Tensor]:
    """The output, and log₂ Σ 2^score of each row; an opaque operator, so that compile meets no loop."""
    batch, (queries, keys) = q.shape[:-2], (q.shape[-2], k.shape[-2])
    q, k, v = (t.reshape(-1, *t.shape[-2:]) for t in (q, k, v))
    out = q.new_empty(len(q), queries, v.shape[-1])
    log_sums = q.new_empty(len(q), queries, 1, dtype=torch.promote_types(q.dtype, torch.float32))
    rows, tiles = _short_side(queries), _Tiles(q, k, mask, batch, is_causal)
    for heads in tiles.groups(rows, min(LONG, keys)):
        for start in range(0, queries, rows):
            end = min(start + rows, queries)
            top = total = mixed = None
            for first in range(0, tiles.visible(end), LONG):
                last = min(first + LONG, tiles.visible(end))
                scores = tiles.scores(heads, start, end, first, last)
                new = scores.amax(-1, keepdim=True).clamp_(min=torch.finfo(scores.dtype).min)  # -inf: all is hidden
                if top is not None:
                    new = torch.maximum(new, top)
                weights = scores.sub_(new).exp2_()
                part = torch.bmm(weights.to(v.dtype), v[heads, first:last])
                sums = weights.sum(-1, keepdim=True)
                if top is None:
                    mixed, total = at_least_float32(part), sums
                else:
                    shrink = (top - new).exp2_()
                    mixed, total = mixed.mul_(shrink).add_(part), total.mul_(shrink).add_(sums)
                top = new
            if mask is not None:  # a row without a key: 0 / 1, and weights of 2^-inf when they are made again
                dead = total == 0
                total.masked_fill_(dead, 1.0)
                top.masked_fill_(dead, torch.inf)
            torch.div(mixed, total, out=out[heads, start:end])
            torch.add(top, total.log2_(), out=log_sums[heads, start:end])
    return out.reshape(*batch, *out.shape[1:]), log_sums


@torch.library.custom_op("cs336_basics::attention_backward", mutates_args=())
def _attention_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    out: Tensor,
    log_sums: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k, v, by columns of tiles: those of k and v are then whole after one column."""
    shapes, batch, queries, keys = (q.shape, k.shape, v.shape), q.shape[:-2], q.shape[-2], k.shape[-2]
    q, k, v, grad, out = (t.reshape(-1, *t.shape[-2:]) for t in (q, k, v, grad, out))
    wide = log_sums.dtype
    grad_q, grad_k, grad_v = (torch.zeros_like(t, dtype=wide) for t in (q, k, v))
    # Σ_j p_ij dp_ij of each row is also the product of its output and the gradient of that.
    shift = (at_least_float32(grad) * out).sum(-1, keepdim=True)
    cols, scale, tiles = _short_side(queries), q.shape[-1] ** -0.5, _Tiles(q, k, mask, batch, is_causal)
    for heads in tiles.groups(cols, min(LONG, queries)):
        for first in range(0, keys, cols):
            last = min(first + cols, keys)
            for start in range(tiles.first_to_see(first), queries, LONG):
                end = min(start + LONG, queries)
                weights = tiles.scores(heads, start, end, first, last)
                weights.sub_(log_sums[heads, start:end]).exp2_()
                asked = grad[heads, start:end]
                grad_v[heads, first:last].add_(torch.bmm(weights.to(v.dtype).mT, asked))
                pulled = at_least_float32(torch.bmm(asked, v[heads, first:last].mT))
                pulled = pulled.sub_(shift[heads, start:end]).mul_(weights).to(q.dtype)
                grad_k[heads, first:last].add_(torch.bmm(pulled.mT, q[heads, start:end]), alpha=scale)
                grad_q[heads, start:end].add_(torch.bmm(pulled, k[heads, first:last]), alpha=scale)
    grads = (grad_q, grad_k, grad_v)
    grad_q, grad_k, grad_v = (g.to(q.dtype).reshape(shape) for g, shape in zip(grads, shapes, strict=True))
    return grad_q, grad_k, grad_v


class _Tiles:
    """Tiles of scores in base 2, hidden pairs at -inf; batch axes are one, and called heads."""

    def __init__(self, q: Tensor, k: Tensor, mask: Tensor | None, batch: torch.Size, is_causal: bool) -> None:
        self.q, self.k, self.is_causal = q, k, is_causal
        self.ahead = k.shape[1] - q.shape[1]  # the keys that the first query sees beyond its own
        side = max(SHORT)[1]
        later = torch.ones(side, side, dtype=torch.bool, device=q.device).triu_(1)
        # The lesser of a score and ∓inf: several times quicker than masked_fill_ with one mask for many heads.
        wide = torch.promote_types(q.dtype, torch.float32)
        self.ceiling = torch.where(later, -torch.inf, torch.inf).to(wide)
        self.hidden, self.owner = None, None
        if mask is not None:
            self.hidden = mask.logical_not().reshape(-1, *mask.shape[-2:])
            owners = torch.arange(len(self.hidden), device=q.device)
            self.owner = owners.reshape(mask.shape[:-2]).expand(batch).reshape(-1)

    def groups(self, rows: int, cols: int) -> list[slice]:
        step = max(1, IN_CACHE // (rows * cols))
        return [slice(start, start + step) for start in range(0, len(self.q), step)]

    def visible(self, end: int) -> int:
        """How many keys some query before `end` sees."""
        return end + self.ahead if self.is_causal else self.k.shape[1]

    def first_to_see(self, key: int) -> int:
        return max(0, key - self.ahead) if self.is_causal else 0

    def scores(self, heads: slice, start: int, end: int, first: int, last: int) -> Tensor:
        q, k = self.q[heads, start:end], self.k[heads, first:last]
        tile = q.new_empty(len(q), end - start, last - first)
        tile = at_least_float32(torch.baddbmm(tile, q, k.mT, beta=0, alpha=LOG2_E * q.shape[-1] ** -0.5, out=tile))
        if self.hidden is not None:
            hidden = self.hidden[:, start:end, first:last]
            tile.masked_fill_(hidden if len(self.hidden) == 1 else hidden[self.owner[heads]], -torch.inf)
        # Of a tile on the diagonal some rows from the top, and some columns from the right, hold hidden pairs.
        diagonal = start + self.ahead - first  # the last column that the first row sees
        rows, left = last - first - diagonal, max(0, diagonal)
        if self.is_causal and rows > 1:
            corner = tile[:, :rows, left:]
            ceiling = self.ceiling[: corner.shape[1], left - diagonal : last - first - diagonal]
            torch.minimum(corner, ceiling, out=corner)
        return tile


def _short_side(queries: int) -> int:
    return next(side for most, side in SHORT if queries < most)


@_attention.register_fake
def _shapes(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, is_causal: bool) -> tuple[Tensor, Tensor]:
    log_sums = q.new_empty(q.shape[:-2].numel(), q.shape[-2], 1, dtype=torch.promote_types(q.dtype, torch.float32))
    return q.new_empty(*q.shape[:-1], v.shape[-1]), log_sums


@_attention_backward.register_fake
def _backward_shapes(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    out: Tensor,
    log_sums: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, mask, ctx.is_causal = inputs
    ctx.save_for_backward(q, k, v, mask, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 5
    q, k, v, mask, out, log_sums = ctx.saved_tensors
    return *_attention_backward(grad, q, k, v, mask, ctx.is_causal, out, log_sums), None, None


_attention.register_autograd(_backward, setup_context=_keep)
_attention_backward.register_autograd(refuse_second)
