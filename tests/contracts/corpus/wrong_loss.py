"""Wrong: losses and metrics."""

import torch
from jaxtyping import Bool, Float, Float32, Float64, Int
from torch import Tensor

from tests.contracts.corpus.registry import wrong


@wrong("broadcast")
def value_loss(values: Float[Tensor, "*batch 1"], returns: Float[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """Bug: [b, 1] - [b] is every pair; the mean hides it. Missed by shape checks, at any size."""
    return (values - returns).square().mean()


@wrong("broadcast")
def advantage_of_column(x: Float[Tensor, "*batch seq"], weight: Float[Tensor, "seq 1"]) -> Float[Tensor, "*batch"]:
    """Bug: a column of weights meets the positions it was made of; the sum hides it. Missed by shape checks."""
    return (x.unsqueeze(-1) * weight.mT).sum((-2, -1))


@wrong("broadcast")
def contrast_without_pairs(x: Float[Tensor, "n d_model"], y: Float[Tensor, "n d_model"]) -> Float[Tensor, ""]:
    """Bug: scores (n,) minus norms (n, 1) is n by n; the mean hides it. Missed by shape checks, at any size."""
    return ((x * y).sum(-1) - y.square().sum(-1, keepdim=True)).mean()


@wrong("error", batch=(5,), seq=5)
def sequence_weights_meet_positions(
    losses: Float[Tensor, "*batch seq"], weights: Float[Tensor, "*batch"]
) -> Float[Tensor, ""]:
    """Bug: weights of sequences lack a last axis; the mean hides it. Missed without batch, and where batch == seq."""
    return (losses * weights).mean()


@wrong("shape", batch=(5,))
def mean_over_first_axis_only(losses: Float[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """Bug: mean(0) where mean() is meant. Missed with one batch axis."""
    return losses.mean(0) if losses.ndim else losses


@wrong("shape", batch=())
def entropy_over_first_axis(logits: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch"]:
    """Bug: the entropy sums over axis 0. Missed by a test without batch."""
    log_p = logits.log_softmax(0)
    return -(log_p.exp() * log_p).sum(0)


@wrong("error", batch=(5,))
def picks_targets_of_a_flat_batch(
    logits: Float[Tensor, "*batch vocab"], targets: Int[Tensor, "*batch"]
) -> Float[Tensor, "*batch"]:
    """Bug: targets[:, None] fits one batch axis only. Missed by a test of (batch, vocab)."""
    return logits.logsumexp(-1) - logits.gather(-1, targets[:, None].long()).squeeze(-1)


@wrong("dtype", law="dtype")
def loss_in_the_logits_dtype(
    logits: Float[Tensor, "*batch vocab"], targets: Int[Tensor, "*batch"]
) -> Float32[Tensor, ""] | Float64[Tensor, ""]:
    """Bug: at least float32 is promised, the mean of bfloat16 comes back in bfloat16. Missed by tests in float32."""
    chosen = logits.gather(-1, targets.long().unsqueeze(-1)).squeeze(-1)
    return (logits.logsumexp(-1) - chosen).mean()


@wrong("host read")
def drops_ignored_targets(losses: Float[Tensor, "*batch"], ignored: Bool[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """Bug: boolean indexing makes the GPU tell its count. Missed by comparing values, at any size."""
    return losses[~ignored].mean()


@wrong("host read")
def logs_the_loss(loss: Float[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """Bug: .item() in the step, and the gradient is lost with it. Missed by comparing values, at any size."""
    return torch.full((), loss.mean().item(), dtype=loss.dtype, device=loss.device)


@wrong("host read")
def clips_where_large(grad: Float[Tensor, "*shape"], *, max_norm: float = 1.0) -> Float[Tensor, "*shape"]:
    """Bug: a branch on a value waits for the GPU at every step. Missed by comparing values, at any size."""
    norm = grad.square().sum().sqrt()
    if norm > max_norm:
        return grad * (max_norm / norm)
    return grad


@wrong("shape", batch=())
def smoothing_by_first_axis(
    losses: Float[Tensor, "*batch vocab"], *, smoothing: float = 0.1
) -> Float[Tensor, "*batch"]:
    """Bug: sums over the first axis, the batch, not over vocab. Missed without batch."""
    return smoothing * losses.sum(0) / losses.shape[0]


@wrong(law="batch")
def label_smoothing_divides_by_batch(
    log_p: Float[Tensor, "*batch vocab"], *, smoothing: float = 0.1
) -> Float[Tensor, "*batch"]:
    """Bug: divided by shape[0], the batch, where vocab is meant. Missed without batch, and by every shape check."""
    return -smoothing * log_p.sum(-1) / log_p.shape[0]


@wrong("edge", seq=8)
def position_weights_divide_by_seq_minus_one(losses: Float[Tensor, "*batch seq"]) -> Float[Tensor, "*batch"]:
    """Bug: 1 / (seq - 1) has no value for one position. Missed at every other length."""
    ramp = torch.arange(losses.shape[-1], device=losses.device) * (1.0 / (losses.shape[-1] - 1))
    return (losses * ramp.to(losses.dtype)).sum(-1)


@wrong("broadcast")
def accuracy_of_a_column(predicted: Int[Tensor, "n 1"], targets: Int[Tensor, "n"]) -> Float32[Tensor, ""]:
    """Bug: (n, 1) == (n,) compares every pair; the mean hides it. Missed by shape checks, at any size."""
    return (predicted == targets).float().mean()


@wrong("broadcast")
def huber_of_a_column(values: Float[Tensor, "n 1"], returns: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    """Bug: torch.where of (n,), (n, 1) is n by n; the mean hides it. Missed by shape checks, at any size."""
    return torch.where(returns > 0, values, 0.0).mean()


@wrong("host read")
def asserts_finite(losses: Float[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """Bug: the assertion waits for the GPU at every step. Missed by comparing values, at any size."""
    assert torch.isfinite(losses).all()
    return losses.mean()
