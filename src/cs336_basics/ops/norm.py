"""Normalisation."""

import torch
from jaxtyping import Float
from torch import Tensor

from cs336_basics.contracts import contract, require
from cs336_basics.ops._dtype import at_least_float32


@contract(held_by="proof")
def rms_norm(
    x: Float[Tensor, "*batch d_model"], weight: Float[Tensor, "d_model"], *, eps: float = 1e-5
) -> Float[Tensor, "*batch d_model"]:
    """y = x / sqrt(mean(x²) + eps) · weight, the mean over the last axis.

    Shapes: x (*batch, d_model), weight (d_model,) -> (*batch, d_model), in x's dtype; computed in float32 at least.
        Squares must be float32 numbers: of entries beyond 1e19 the result is 0, of entries below 1e-19 eps decides.
    Raises: ContractError on shape or dtype, or if eps < 0.
    Source: Zhang & Sennrich 2019, arXiv:1910.07467; eps inside the root as in Llama.

    >>> rms_norm(torch.tensor([3.0, 4.0]), torch.ones(2), eps=0.0)
    tensor([0.8485, 1.1314])
    """
    require(eps >= 0, "rms_norm: eps must be at least 0, got {}", eps)
    wide = at_least_float32(x)
    inverse_rms = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (wide * inverse_rms * weight).to(x.dtype)
