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
SHORT: Final = (
    (512, 32),
    (1 << 62, 64),
)  # its short side, by how many queries there are at most; of two bytes a number, the last
IN_CACHE: Final = 1 << 18  # float32 scores of a tile, all its heads together


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
    out: Tensor = _attention(wide_q, wide_k, wide_v, mask, is_causal)[0]
    return out.to(q.dtype)


@torch.library.custom_op("cs336_basics::attention", mutates_args=())
def _attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, is_causal: bool) -> tuple[Tensor, Tensor]:
    """The output, and log₂ Σ 2^score of each row; an opaque operator, so that compile meets no loop."""
    batch, (queries, keys) = q.shape[:-2], (q.shape[-2], k.shape[-2])
    q, k, v = map(_one_batch_axis, (q, k, v))
    out = q.new_empty(len(q), queries, v.shape[-1])
    log_sums = q.new_empty(len(q), queries, 1, dtype=torch.promote_types(q.dtype, torch.float32))
    rows, tiles = _short_side(q), _Tiles(q, k, mask, batch, is_causal)
    for heads in tiles.groups(rows, min(LONG, keys)):
        for start in range(0, queries, rows):
            end = min(start + rows, queries)
            mixed, top, total = _part_of_row(
                tiles, v, heads, slice(start, end), slice(0, min(LONG, tiles.visible(end)))
            )
            for first in range(LONG, tiles.visible(end), LONG):
                cols = slice(first, min(first + LONG, tiles.visible(end)))
                more, new, sums = _part_of_row(tiles, v, heads, slice(start, end), cols, top)
                shrink = top.sub_(new).exp2_()
                mixed, top, total = mixed.mul_(shrink).add_(more), new, total.mul_(shrink).add_(sums)
            if mask is not None:  # a row without a key is 0 / 1, and its weights 2^-inf when they are made again
                total.masked_fill_(total == 0, 1.0)
            torch.div(mixed, total, out=out[heads, start:end])
            torch.add(top, total.log2_(), out=log_sums[heads, start:end])
    return out.reshape(*batch, *out.shape[1:]), log_sums


def _part_of_row(
    tiles: "_Tiles", v: Tensor, heads: slice, rows: slice, cols: slice, top: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Of one tile Σ_j w_j v_j, the greatest score m of each row (or `top`, where that is greater), and Σ_j w_j,
    with w_j = 2^(score_j - m)."""
    scores = tiles(heads, rows, cols)
    most = scores.amax(-1, keepdim=True).clamp_(min=torch.finfo(scores.dtype).min)  # -inf: all is hidden
    if top is not None:
        most = torch.maximum(most, top)
    weights = scores.sub_(most).exp2_()
    return at_least_float32(torch.bmm(weights.to(v.dtype), v[heads, cols])), most, weights.sum(-1, keepdim=True)


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
    q, k, v, grad, out = map(_one_batch_axis, (q, k, v, grad, out))
    wide = log_sums.dtype
    grad_q, grad_k, grad_v = (torch.zeros_like(t, dtype=wide) for t in (q, k, v))
    # Σ_j p_ij dp_ij of each row is also the product of its output and the gradient of that.
    shift = (at_least_float32(grad) * out).sum(-1, keepdim=True)
    width, scale, tiles = _short_side(q), q.shape[-1] ** -0.5, _Tiles(q, k, mask, batch, is_causal)
    for heads in tiles.groups(width, min(LONG, queries)):
        for first in range(0, keys, width):
            cols = slice(first, min(first + width, keys))
            for start in range(tiles.first_to_see(first), queries, LONG):
                rows = slice(start, min(start + LONG, queries))
                weights = tiles(heads, rows, cols).sub_(log_sums[heads, rows]).exp2_()
                asked = grad[heads, rows]
                grad_v[heads, cols].add_(torch.bmm(weights.to(v.dtype).mT, asked))
                pulled = at_least_float32(torch.bmm(asked, v[heads, cols].mT))
                pulled = pulled.sub_(shift[heads, rows]).mul_(weights).to(q.dtype)
                grad_k[heads, cols].add_(torch.bmm(pulled.mT, q[heads, rows]), alpha=scale)
                grad_q[heads, rows].add_(torch.bmm(pulled, k[heads, cols]), alpha=scale)
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
        self.hidden = None if mask is None else _one_batch_axis(mask.logical_not())
        if mask is not None:  # which of the masks is each head's
            owners = torch.arange(mask.shape[:-2].numel(), device=q.device)
            self.owner = owners.reshape(mask.shape[:-2]).expand(batch).reshape(-1)

    def groups(self, rows: int, cols: int) -> list[slice]:
        step = max(1, IN_CACHE * 4 // max(1, rows * cols * self.q.element_size()))
        return [slice(start, start + step) for start in range(0, len(self.q), step)]

    def visible(self, end: int) -> int:
        """How many keys some query before `end` sees."""
        return end + self.ahead if self.is_causal else self.k.shape[1]

    def first_to_see(self, key: int) -> int:
        return max(0, key - self.ahead) if self.is_causal else 0

    def __call__(self, heads: slice, rows: slice, cols: slice) -> Tensor:
        q, k = self.q[heads, rows], self.k[heads, cols]
        tile = q.new_empty(len(q), q.shape[1], k.shape[1])
        tile = at_least_float32(torch.baddbmm(tile, q, k.mT, beta=0, alpha=LOG2_E * q.shape[-1] ** -0.5, out=tile))
        if self.hidden is not None:
            hidden = self.hidden[:, rows, cols]
            tile.masked_fill_(hidden if len(hidden) == 1 else hidden[self.owner[heads]], -torch.inf)
        # Of a tile on the diagonal some rows from the top, and some columns from the right, hold hidden pairs.
        last = rows.start + self.ahead - cols.start  # the last column that the first row sees
        left, hiding = max(0, last), k.shape[1] - 1 - last
        if self.is_causal and hiding > 0:
            corner = tile[:, :hiding, left:]
            ceiling = self.ceiling[: corner.shape[1], left - last : k.shape[1] - last]
            torch.minimum(corner, ceiling, out=corner)
        return tile


def _one_batch_axis(x: Tensor) -> Tensor:
    return x.reshape(x.shape[:-2].numel(), *x.shape[-2:])  # -1 has no meaning where an axis is 0


def _short_side(q: Tensor) -> int:
    return SHORT[-1][1] if q.element_size() == 2 else next(side for most, side in SHORT if q.shape[-2] < most)


@_attention.register_fake
def _shapes(q: Tensor, _: Tensor, v: Tensor, *__: Any) -> tuple[Tensor, Tensor]:
    log_sums = q.new_empty(q.shape[:-2].numel(), q.shape[-2], 1, dtype=torch.promote_types(q.dtype, torch.float32))
    return q.new_empty(*q.shape[:-1], v.shape[-1]), log_sums


@_attention_backward.register_fake
def _backward_shapes(_: Tensor, q: Tensor, k: Tensor, v: Tensor, *__: Any) -> tuple[Tensor, Tensor, Tensor]:
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
