"""Softmax and its logarithms, stable for any finite input."""

import torch
from jaxtyping import Float
from torch import Tensor

from cs336_basics.contracts import contract, require
from cs336_basics.ops._dtype import at_least_float32


@contract(held_by="proof")
def softmax(x: Float[Tensor, "*shape"], *, dim: int = -1) -> Float[Tensor, "*shape"]:
    """p_i = exp(x_i - max x) / Σ_j exp(x_j - max x) along `dim`.

    Shapes: x (*shape) -> (*shape), in x's dtype; computed in float32 at least. An entry of -inf has
        probability 0; a slice with nothing above -inf, or with +inf or NaN, is NaN.
    Raises: ContractError on dtype, or if `dim` is not an axis of x with at least one entry.
    Source: the subtract-max form, Blanchard, Higham & Higham 2021, doi:10.1093/imanum/draa038.

    >>> softmax(torch.tensor([1000.0, 1000.0]))
    tensor([0.5000, 0.5000])
    """
    _require_axis("softmax", x, dim)
    wide = at_least_float32(x)
    # The shift cancels, so its gradient is zero: detached, it costs nothing.
    weights = torch.exp(wide - wide.amax(dim, keepdim=True).detach())
    return (weights / weights.sum(dim, keepdim=True)).to(x.dtype)


@contract(held_by="proof")
def logsumexp(x: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch"]:
    """log Σ_i exp(x_i) over the last axis, as max x + log Σ_i exp(x_i - max x).

    Shapes: x (*batch, vocab) -> (*batch), in x's dtype; computed in float32 at least. Nothing above -inf
        gives -inf.
    Units:  nats.
    Raises: ContractError on dtype, on a scalar, or if the last axis is empty.
    Source: Blanchard, Higham & Higham 2021, doi:10.1093/imanum/draa038.

    >>> logsumexp(torch.zeros(4))
    tensor(1.3863)
    """
    _require_axis("logsumexp", x, -1)
    wide = at_least_float32(x)
    top = _finite_max(wide, -1)
    return (top.squeeze(-1) + torch.exp(wide - top).sum(-1).log()).to(x.dtype)


@contract(held_by="proof")
def log_softmax(x: Float[Tensor, "*shape"], *, dim: int = -1) -> Float[Tensor, "*shape"]:
    """log p_i = x_i - max x - log Σ_j exp(x_j - max x) along `dim`.

    Shapes: x (*shape) -> (*shape), in x's dtype; computed in float32 at least.
    Units:  nats.
    Raises: ContractError on dtype, or if `dim` is not an axis of x with at least one entry.
    Source: Blanchard, Higham & Higham 2021: never log(softmax), which loses all small probabilities.

    >>> log_softmax(torch.tensor([0.0, 200.0]))
    tensor([-200.,    0.])
    """
    _require_axis("log_softmax", x, dim)
    wide = at_least_float32(x)
    shifted = wide - _finite_max(wide, dim)
    return (shifted - shifted.exp().sum(dim, keepdim=True).log()).to(x.dtype)


def _finite_max(x: Tensor, dim: int) -> Tensor:
    top = x.amax(dim, keepdim=True).detach()
    # inf - inf would be NaN where the answer is plainly ±inf.
    return top.masked_fill(top.isinf(), 0.0)


def _require_axis(name: str, x: Tensor, dim: int) -> None:
    require(-x.ndim <= dim < x.ndim, "{}: dim must be an axis of x, which has {}, got {}", name, x.ndim, dim)
    require(x.shape[dim] > 0, "{}: axis {} of x must have at least one entry", name, dim)
