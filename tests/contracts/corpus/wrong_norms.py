"""Wrong: norms, pooling, maps and experts."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cs336_basics.contracts import contract, require
from tests.contracts.corpus.registry import wrong


@wrong(law="batch")
def rms_over_the_first_axis(
    x: Float[Tensor, "*batch d_model"], weight: Float[Tensor, "d_model"]
) -> Float[Tensor, "*batch d_model"]:
    """Bug: the mean runs over axis 0, the batch; a broadcast hides it. Missed by one vector, and by shape checks."""
    return x * torch.rsqrt(x.square().mean(0, keepdim=True) + 1e-5) * weight


@wrong("error", batch=(6,), d_model=6)
def rms_without_keepdim(x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    """Bug: without keepdim the norms stand on the features. Missed without batch, and where batch == d_model."""
    return x * torch.rsqrt(x.square().mean(-1) + 1e-5)


@wrong(law="batch")
def rms_of_the_whole_tensor(x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    """Bug: one mean for the whole batch. Missed by a test with one vector, and by every shape check."""
    return x * torch.rsqrt(x.square().mean() + 1e-5)


@wrong("error", batch=(6,), d_model=6)
def layer_norm_variance_over_batch(x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    """Bug: the mean loses its axis, the variance keeps it. Missed without batch, and where batch == d_model."""
    return (x - x.mean(-1)) * torch.rsqrt(x.var(-1, keepdim=True, correction=0) + 1e-5)


@wrong(law="batch")
def group_norm_over_batch(x: Float[Tensor, "*batch d_model"], *, groups: int = 1) -> Float[Tensor, "*batch d_model"]:
    """Bug: reshape(groups, -1) takes the batch into the groups. Missed without batch, and by every shape check."""
    grouped = x.reshape(groups, -1)
    normed = grouped * torch.rsqrt(grouped.square().mean(-1, keepdim=True) + 1e-5)
    return normed.reshape(x.shape)


@wrong("error", batch=(6,), d_model=6)
def mean_pool_by_lengths(
    x: Float[Tensor, "*batch seq d_model"], lengths: Int[Tensor, "*batch"]
) -> Float[Tensor, "*batch d_model"]:
    """Bug: lengths lack a last axis. Missed without batch, and where batch == d_model."""
    return x.sum(-2) / lengths


@wrong("error", d_model=6, d_ff=6)
def down_projection_not_transposed(
    x: Float[Tensor, "*batch d_model"], w1: Float[Tensor, "d_ff d_model"], w2: Float[Tensor, "d_model d_ff"]
) -> Float[Tensor, "*batch d_model"]:
    """Bug: h W instead of h Wᵀ in the second map. Missed where d_ff == d_model."""
    return torch.relu(x @ w1.mT) @ w2


@wrong("error", d_model=6, vocab=6)
def tied_head_not_transposed(
    x: Float[Tensor, "*batch d_model"], embedding: Float[Tensor, "vocab d_model"]
) -> Float[Tensor, "*batch vocab"]:
    """Bug: the shared embedding is used as it is. Missed where vocab == d_model."""
    return x @ embedding


@wrong("error", batch=(6,), d_out=6)
def low_rank_gate_meets_batch(
    x: Float[Tensor, "*batch d_in"], weight: Float[Tensor, "d_out d_in"], gate: Float[Tensor, "*batch"]
) -> Float[Tensor, "*batch d_out"]:
    """Bug: the gate of each token lacks a last axis. Missed without batch, and where batch == d_out."""
    return (x @ weight.mT) * gate


@contract
def _projected(x: Float[Tensor, "*batch d_in"], weight: Float[Tensor, "d_out d_in"]) -> Float[Tensor, "*batch d_out"]:
    return x @ weight.mT


@wrong("contract", d_model=6, d_ff=6)
def calls_a_map_with_the_wrong_weight(
    x: Float[Tensor, "*batch d_model"], w1: Float[Tensor, "d_ff d_model"], w2: Float[Tensor, "d_model d_ff"]
) -> Float[Tensor, "*batch d_model"]:
    """Bug: w1 and w2 are swapped in calls of a function under contract. Missed where d_ff == d_model."""
    return _projected(torch.relu(_projected(x, w2)), w1)  # type: ignore[shape]  # the bug


@wrong("specialises", d_k=64)
def requires_one_width(x: Float[Tensor, "*batch d_k"]) -> Float[Tensor, "*batch d_k"]:
    """Bug: the promise is any d_k, the body takes 64 alone. Missed by a test of the usual model."""
    require(x.shape[-1] == 64, "requires_one_width: d_k must be 64, got {}", x.shape[-1])
    return x * 0.125


@wrong("shape", batch=(2,))
def experts_chosen_on_axis_one(
    scores: Float[Tensor, "*batch experts"], *, k: int = 1
) -> tuple[Float[Tensor, "*batch k"], Int[Tensor, "*batch k"]]:
    """Bug: topk over dim=min(1, last), right for one batch axis. Missed by tests of (batch, experts)."""
    values, ids = scores.topk(k, dim=min(1, scores.ndim - 1))
    return values, ids


@wrong("shape", batch=())
def top_scores_over_first_axis(scores: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch"]:
    """Bug: amax over axis 0. Missed by a test without batch."""
    return scores.amax(0)


@wrong("edge")
def reward_squeezed(x: Float[Tensor, "*batch d_model"], weight: Float[Tensor, "1 d_model"]) -> Float[Tensor, "*batch"]:
    """Bug: squeeze() takes the batch along where it is 1. Missed at every other batch."""
    return (x @ weight.mT).squeeze()


@wrong("edge")
def last_positions_squeezed(x: Float[Tensor, "*batch seq d_model"]) -> Float[Tensor, "*batch d_model"]:
    """Bug: squeeze() of the last position, where squeeze(-2) is meant. Missed unless an axis is 1."""
    return x[..., -1:, :].squeeze()


@wrong("error", batch=(2,))
def unpacks_three_axes(x: Float[Tensor, "*batch seq d_model"]) -> Float[Tensor, "*batch d_model"]:
    """Bug: any batch is promised, three axes are unpacked. Missed by a test of (batch, seq, d_model)."""
    _, seq, _ = x.shape
    return x.sum(-2) / seq


@wrong("shape", batch=(2,))
def heads_flattened_from_axis_one(x: Float[Tensor, "*batch heads d_v"]) -> Float[Tensor, "*batch heads*d_v"]:
    """Bug: flatten(1) is right for one batch axis only. Missed by a test of (batch, heads, d_v)."""
    return x.flatten(min(1, x.ndim - 1))


@wrong("error", batch=(6,), seq=6)
def positions_counted_on_first_axis(
    x: Float[Tensor, "*batch seq d_model"], table: Float[Tensor, "positions d_model"]
) -> Float[Tensor, "*batch seq d_model"]:
    """Bug: shape[0] positions, where shape[-2] is meant. Missed without batch, and where batch == seq."""
    return x + table.index_select(0, torch.arange(x.shape[0], device=x.device) % table.shape[0])


@wrong("error", d_model=512)
def reshapes_to_eight_heads(x: Float[Tensor, "*batch seq d_model"]) -> Float[Tensor, "*batch 8 seq 64"]:
    """Bug: 8 heads of 64, whatever d_model. Missed by a test of the usual model."""
    return torch.unflatten(x, -1, (8, 64)).transpose(-3, -2)


@wrong("specialises")
def long_sequences_take_another_path(x: Float[Tensor, "*batch seq d_model"]) -> Float[Tensor, "*batch d_model"]:
    """Bug: beyond 128 positions the axis is kept. Missed by tests with short sequences."""
    if x.shape[-2] > 128:
        return x[..., -128:, :].mean(-2, keepdim=True)
    return x.mean(-2)


@wrong(law="strides")
def windows_by_as_strided(x: Float[Tensor, "seq d_model"]) -> Float[Tensor, "seq-1 2 d_model"]:
    """Bug: strides are computed, not asked for. Missed where x is contiguous."""
    seq, width = x.shape
    return x.as_strided((seq - 1, 2, width), (width, width, 1))


@wrong(law="strides")
def tokens_flattened_by_view(
    x: Float[Tensor, "*batch seq d_model"], weight: Float[Tensor, "d_ff d_model"]
) -> Float[Tensor, "*batch seq d_ff"]:
    """Bug: view where reshape is meant. Missed where x is contiguous, as fresh tensors are."""
    return (x.view(-1, x.shape[-1]) @ weight.mT).view(*x.shape[:-1], weight.shape[0])


@wrong(law="vmap")
def accumulates_into_a_plain_buffer(x: Float[Tensor, "*batch seq d_model"]) -> Float[Tensor, "*batch d_model"]:
    """Bug: vmap cannot write batched values into a buffer that is not batched. Missed until per-sample gradients."""
    total = torch.zeros(x.shape[:-2] + x.shape[-1:], device=x.device, dtype=x.dtype)
    return total.add_(x.sum(-2))
