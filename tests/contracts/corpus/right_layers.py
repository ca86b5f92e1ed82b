"""Right: norms, maps, losses, state, configuration, precision."""

import dataclasses
from typing import Literal

import torch
from einops import pack, rearrange, reduce
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor

from cs336_basics.contracts import contract
from tests.contracts.corpus.registry import right


@dataclasses.dataclass(frozen=True)
class Moments:
    first: Float[Tensor, "*shape"]
    second: Float[Tensor, "*shape"]


@right
def rms_norm(
    x: Float[Tensor, "*batch d_model"], weight: Float[Tensor, "d_model"] | None = None
) -> Float[Tensor, "*batch d_model"]:
    """float32 inside, back in x's dtype; the gain may be absent."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    normed = (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-5)).to(x.dtype)
    return normed if weight is None else normed * weight


@right
def layer_norm(
    x: Float[Tensor, "*batch d_model"], weight: Float[Tensor, "d_model"], bias: Float[Tensor, "d_model"]
) -> Float[Tensor, "*batch d_model"]:
    """Mean and variance over the last axis, kept."""
    centred = x - x.mean(-1, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + 1e-5) * weight + bias


@right
def group_norm(x: Float[Tensor, "*batch 4*width"]) -> Float[Tensor, "*batch 4*width"]:
    """A view by groups and back."""
    grouped = torch.unflatten(x, -1, (4, x.shape[-1] // 4))
    return (grouped * torch.rsqrt(grouped.square().mean(-1, keepdim=True) + 1e-5)).flatten(-2)


@right
def linear(
    x: Float[Tensor, "*batch d_in"], weight: Float[Tensor, "d_out d_in"], bias: Float[Tensor, "d_out"] | None = None
) -> Float[Tensor, "*batch d_out"]:
    """A bias that may be absent."""
    y = x @ weight.mT
    return y if bias is None else y + bias


@right
def low_rank(
    x: Float[Tensor, "*batch d_in"], down: Float[Tensor, "low_rank d_in"], up: Float[Tensor, "d_out low_rank"]
) -> Float[Tensor, "*batch d_out"]:
    """Two products."""
    return x @ down.mT @ up.mT


@right
def bilinear(
    x: Float[Tensor, "*batch n"], y: Float[Tensor, "*batch width"], weight: Float[Tensor, "n width"]
) -> Float[Tensor, "*batch"]:
    """An outer product of two axes that differ, summed away."""
    return (x.unsqueeze(-1) * y.unsqueeze(-2) * weight).sum((-2, -1))


@right
def gated(
    x: Float[Tensor, "*batch d_model"],
    gate_and_up: Float[Tensor, "2*d_ff d_model"],
    down: Float[Tensor, "d_model d_ff"],
) -> Float[Tensor, "*batch d_model"]:
    """One product, then two halves."""
    gate, up = torch.unflatten(x @ gate_and_up.mT, -1, (2, down.shape[-1])).unbind(-2)
    return (torch.sigmoid(gate) * gate * up) @ down.mT


@right
def activation_by_name(
    x: Float[Tensor, "*shape"], *, kind: Literal["relu", "silu", "none"] = "silu"
) -> Float[Tensor, "*shape"]:
    """A branch on configuration."""
    if kind == "relu":
        return x.relu()
    return x * torch.sigmoid(x) if kind == "silu" else x


@right
def pooled(x: Float[Tensor, "*batch seq d_model"], *, use_last: bool = False) -> Float[Tensor, "*batch d_model"]:
    """A branch on a bool; the index takes an axis away."""
    return x[..., -1, :] if use_last else x.mean(-2)


@right
def pooled_by_einops(x: Float[Tensor, "*batch seq d_model"]) -> Float[Tensor, "*batch d_model"]:
    """einops reduces."""
    return reduce(x, "... seq d_model -> ... d_model", "mean")


@right
def masked_mean(
    x: Float[Tensor, "*batch seq d_model"], mask: Bool[Tensor, "*batch seq"]
) -> Float[Tensor, "*batch d_model"]:
    """Weights with a last axis; never divided by 0."""
    weights = mask.unsqueeze(-1).to(x.dtype)
    return (x * weights).sum(-2) / weights.sum(-2).clamp(min=1)


@right
def patches(x: Float[Tensor, "*batch 4*rows 4*cols"]) -> Float[Tensor, "*batch rows*cols 16"]:
    """einops divides and multiplies."""
    return rearrange(x, "... (r a) (c b) -> ... (r c) (a b)", a=4, b=4)


@right
def packed(
    x: Float[Tensor, "*batch d_model"], y: Float[Tensor, "*batch 2 d_model"]
) -> Float[Tensor, "*batch 3 d_model"]:
    """A row and two rows, one after the other."""
    return torch.cat((x.unsqueeze(-2), y), dim=-2)


@right
def packed_by_einops(
    x: Float[Tensor, "n d_model"], y: Float[Tensor, "rows d_model"]
) -> Float[Tensor, "n+rows d_model"]:
    """einops packs along the first axis."""
    both, _ = pack([x, y], "* d_model")
    return both


@right
def applied_by_parts(x: Float[Tensor, "*batch 4*part"]) -> Float[Tensor, "*batch 4*part"]:
    """A loop over a fixed number of parts."""
    part = x.shape[-1] // 4
    pieces = [x[..., i * part : (i + 1) * part].softmax(-1) for i in range(4)]
    return torch.cat(pieces, dim=-1)


@right
def applied_by_chunks(
    x: Float[Tensor, "*batch 2*part d_in"], weight: Float[Tensor, "d_out d_in"], *, n_chunks: int = 2
) -> Float[Tensor, "*batch 2*part d_out"]:
    """Chunks of rows, so that the product of one fits: the number is a setting."""
    rows = torch.unflatten(x, -2, (n_chunks, x.shape[-2] // n_chunks)).unbind(-3)
    return torch.cat([chunk @ weight.mT for chunk in rows], dim=-2)


@right
def log_partition_by_vocabulary_chunks(
    x: Float[Tensor, "*batch d_model"], weight: Float[Tensor, "3*part d_model"]
) -> Float[Tensor, "*batch"]:
    """A running logsumexp over thirds of the vocabulary."""
    total = torch.full(x.shape[:-1], -torch.inf, dtype=x.dtype, device=x.device)
    for piece in torch.unflatten(weight, 0, (3, weight.shape[0] // 3)).unbind(0):
        total = torch.logaddexp(total, (x @ piece.mT).logsumexp(-1))
    return total


@right
def mean_squared_error(x: Float[Tensor, "*batch"], y: Float[Tensor, "*batch"]) -> Float32[Tensor, ""]:
    """A scalar in float32."""
    return (x - y).square().mean().float()


@right
def value_loss_of_a_column(values: Float[Tensor, "*batch 1"], returns: Float[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """The column is squeezed by name of its axis before it meets a vector."""
    return (values.squeeze(-1) - returns).square().mean()


@right
def pairwise_distances(x: Float[Tensor, "n d_model"], y: Float[Tensor, "width d_model"]) -> Float[Tensor, "n width"]:
    """All pairs of two sets."""
    return (x[:, None, :] - y[None, :, :]).square().sum(-1)


@right
def contrastive(x: Float[Tensor, "n d_model"], y: Float[Tensor, "n d_model"]) -> Float[Tensor, "n"]:
    """A batch against itself by a product: every pair is meant."""
    scores = x @ y.mT
    return scores.logsumexp(-1) - scores.diagonal()


@right
def clipped(grad: Float[Tensor, "*shape"], *, max_norm: float = 1.0) -> Float[Tensor, "*shape"]:
    """No branch: the factor is clamped."""
    return grad * (max_norm / (grad.float().square().sum().sqrt() + 1e-6)).clamp(max=1.0).to(grad.dtype)


@right
def moments_after(state: Moments, grad: Float[Tensor, "*shape"], *, beta: float = 0.9) -> Moments:
    """A dataclass in, a new one out."""
    return Moments(state.first.lerp(grad, 1 - beta), state.second.lerp(grad.square(), 1 - beta))


@right
def clone_then_write(x: Float[Tensor, "*batch seq d_model"]) -> Float[Tensor, "*batch seq d_model"]:
    """In place on a copy."""
    y = x.clone()
    y[..., :1, :] = 0.0
    y.mul_(2.0)
    return y


@right
def filled_row_by_row(x: Float[Tensor, "*batch 2 d_model"]) -> Float[Tensor, "*batch 2 d_model"]:
    """In place on a new tensor of x's dtype and device."""
    y = torch.empty_like(x)
    y[..., 0, :] = x[..., 1, :]
    y[..., 1, :] = x[..., 0, :]
    return y


@right
def eye_in_x_dtype(x: Float[Tensor, "*batch n n"], *, damping: float = 0.1) -> Float[Tensor, "*batch n n"]:
    """A factory with dtype and device of its argument."""
    return x + damping * torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)


@right
def sum_of_three(
    parts: tuple[Float[Tensor, "*batch d_model"], Float[Tensor, "*batch d_model"]], x: Float[Tensor, "*batch d_model"]
) -> Float[Tensor, "*batch d_model"]:
    """A tuple of tensors."""
    first, second = parts
    return first + second + x


@right
def zeros_of_size(
    seq: int, d_model: int, *, dtype: torch.dtype = torch.float32, device: torch.device | None = None
) -> Float[Tensor, "seq d_model"]:
    """Sizes as arguments, the device too."""
    return torch.zeros(seq, d_model, dtype=dtype, device=device)


@right
def position_ids(tokens: Int[Tensor, "*batch seq"]) -> Int[Tensor, "*batch seq"]:
    """An index vector broadcast as a view."""
    return torch.arange(tokens.shape[-1], device=tokens.device).to(tokens.dtype).expand(tokens.shape)


@contract
def _projected(x: Float[Tensor, "*batch d_in"], weight: Float[Tensor, "d_out d_in"]) -> Float[Tensor, "*batch d_out"]:
    return x @ weight.mT


@right
def calls_maps_under_contract(
    x: Float[Tensor, "*batch d_model"], w1: Float[Tensor, "d_ff d_model"], w2: Float[Tensor, "d_model d_ff"]
) -> Float[Tensor, "*batch d_model"]:
    """Inner contracts that hold for every size."""
    return _projected(_projected(x, w1).relu(), w2)


@right
def cumulative_mean(x: Float[Tensor, "*batch seq d_model"]) -> Float[Tensor, "*batch seq d_model"]:
    """cumsum over positions, divided by an index grid."""
    counts = torch.arange(1, x.shape[-2] + 1, device=x.device, dtype=x.dtype)
    return x.cumsum(-2) / counts[:, None]


@right
def scalar_gate(x: Float[Tensor, "*batch d_model"], gate: Float[Tensor, ""]) -> Float[Tensor, "*batch d_model"]:
    """A scalar tensor meets everything."""
    return x * torch.sigmoid(gate)
