"""Wrong: dtypes that drift, and arguments that are written."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tests.contracts.corpus.registry import wrong


@wrong("dtype", law="dtype")
def norm_stays_in_float32(
    x: Float[Tensor, "*batch d_model"], weight: Float[Tensor, "d_model"]
) -> Float[Tensor, "*batch d_model"]:
    """Bug: never brought back from float32. Missed by tests in float32."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-5) * weight


@wrong("dtype", law="dtype")
def rope_angles_in_float64(x: Float[Tensor, "*batch seq d_k"]) -> Float[Tensor, "*batch seq d_k"]:
    """Bug: angles in float64 promote x. Runs in float32 too; missed by comparing values with a tolerance."""
    angles = torch.arange(x.shape[-2], dtype=torch.float64, device=x.device)
    return x * angles.cos()[:, None]


@wrong("dtype", law="dtype")
def additive_mask_in_float32(
    scores: Float[Tensor, "*batch queries keys"], mask: Bool[Tensor, "*batch queries keys"]
) -> Float[Tensor, "*batch queries keys"]:
    """Bug: the additive mask is float32, and so is the sum. Missed by tests in float32."""
    return scores + (1.0 - mask.float()) * -1e9


@wrong("dtype", law="dtype")
def pads_with_default_dtype(x: Float[Tensor, "*batch seq d_model"]) -> Float[Tensor, "*batch seq+1 d_model"]:
    """Bug: zeros of the default dtype turn the whole sequence into float32. Missed by tests in float32."""
    zeros = torch.zeros(*x.shape[:-2], 1, x.shape[-1], device=x.device)
    return torch.cat((zeros, x), dim=-2)


@wrong("dtype", law="dtype")
def one_hot_by_default_dtype(
    ids: Int[Tensor, "*batch"], weight: Float[Tensor, "vocab d_model"]
) -> Float[Tensor, "*batch d_model"]:
    """Bug: the table is weighed by float32 sums. Missed by tests in float32."""
    hot = (ids.unsqueeze(-1) == torch.arange(weight.shape[0], device=ids.device)).float()
    return (hot.unsqueeze(-1) * weight).sum(-2)


@wrong("dtype", law="dtype")
def computes_in_half(x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    """Bug: bfloat16 for speed, never brought back. Missed by tests in bfloat16."""
    return torch.sigmoid(x.bfloat16()) * x.bfloat16()


@wrong("dtype", law="dtype")
def accumulates_in_default_dtype(x: Float[Tensor, "*batch seq d_model"]) -> Float[Tensor, "*batch d_model"]:
    """Bug: a float32 total; the sum of bfloat16 positions comes back in float32. Missed by tests in float32."""
    total = torch.zeros(*x.shape[:-2], x.shape[-1], device=x.device)
    return total + x.sum(-2)


@wrong("dtype", law="dtype")
def scales_by_a_float32_parameter(
    x: Float[Tensor, "*batch d_model"], *, gain: float = 2.0
) -> Float[Tensor, "*batch d_model"]:
    """Bug: a scale with one axis takes part in promotion, a Python number does not. Missed by tests in float32."""
    return x * torch.full((1,), gain, device=x.device)


@wrong("writes", law="arguments")
def adds_residual_in_place(
    x: Float[Tensor, "*batch d_model"], update: Float[Tensor, "*batch d_model"]
) -> Float[Tensor, "*batch d_model"]:
    """Bug: += writes into the caller's residual stream. Missed by a test that looks at the result only."""
    x += update
    return x


@wrong("writes", law="arguments")
def scales_rows_in_place(x: Float[Tensor, "*batch d_k"], gain: Float[Tensor, "d_k"]) -> Float[Tensor, "*batch d_k"]:
    """Bug: reshape gives a view of x, which is then written. Missed by a test that looks at the result only."""
    rows = x.reshape(-1, x.shape[-1])
    rows.mul_(gain)
    return x


@wrong("writes", law="arguments")
def writes_into_an_argument_by_out(
    x: Float[Tensor, "*batch d_model"], buffer: Float[Tensor, "*batch d_model"]
) -> Float[Tensor, "*batch d_model"]:
    """Bug: out= writes into an argument. Missed by a test that looks at the result only."""
    return torch.mul(x, x, out=buffer)


@wrong("writes", law="arguments")
def updates_average_in_place(
    average: Float[Tensor, "*shape"], value: Float[Tensor, "*shape"], *, decay: float = 0.9
) -> Float[Tensor, "*shape"]:
    """Bug: lerp_ into the caller's average, so a second call starts elsewhere. Missed by one call."""
    return average.lerp_(value, 1 - decay)


@wrong("writes", law="arguments")
def puts_new_keys_into_the_cache(
    cached: Float[Tensor, "*batch cached d_k"], new: Float[Tensor, "*batch 1 d_k"]
) -> Float[Tensor, "*batch cached d_k"]:
    """Bug: an assignment by index writes into the caller's cache. Missed by a test that looks at the result only."""
    cached[..., -1:, :] = new
    return cached


@wrong("writes", law="arguments")
def zeroes_padding_of_the_embedding(
    ids: Int[Tensor, "*batch"], weight: Float[Tensor, "vocab d_model"]
) -> Float[Tensor, "*batch d_model"]:
    """Bug: the padding row is zeroed in the caller's weight, past autograd. Missed by a look at the result."""
    weight.data.select(0, 0).zero_()
    return weight.index_select(0, ids.reshape(-1).long()).reshape(*ids.shape, weight.shape[-1])


@wrong("writes", law="arguments")
def writes_and_restores(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Bug: shifts the caller's tensor and back, which rounds, races and breaks gradients. Missed by a look at x."""
    x.add_(1.0)
    y = x.log()
    x.sub_(1.0)
    return y
