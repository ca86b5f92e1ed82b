"""SiLU and the two feed-forward layers built on it."""

import torch
from jaxtyping import Float
from torch import Tensor

from cs336_basics.contracts import contract
from cs336_basics.ops.linear import linear


@contract(held_by="proof")
def silu(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """y = x · sigmoid(x).

    Shapes: x (*shape) -> (*shape), in x's dtype.
    Raises: ContractError on dtype.
    Source: Hendrycks & Gimpel 2016, arXiv:1606.08415; also called Swish.

    >>> silu(torch.tensor([-1.0, 0.0, 1.0]))
    tensor([-0.2689,  0.0000,  0.7311])
    """
    return x * torch.sigmoid(x)


@contract(held_by="proof")
def swiglu(
    x: Float[Tensor, "*batch d_model"],
    w1: Float[Tensor, "d_ff d_model"],
    w2: Float[Tensor, "d_model d_ff"],
    w3: Float[Tensor, "d_ff d_model"],
) -> Float[Tensor, "*batch d_model"]:
    """y = W2 (SiLU(W1 x) ⊙ W3 x): a feed-forward layer whose hidden units are gated.

    Shapes: x (*batch, d_model), w1 and w3 (d_ff, d_model), w2 (d_model, d_ff) -> (*batch, d_model).
    Raises: ContractError on shape or dtype.
    Source: Shazeer 2020, arXiv:2002.05202, without biases.
    """
    return linear(silu(linear(x, w1)) * linear(x, w3), w2)


@contract(held_by="proof")
def silu_feed_forward(
    x: Float[Tensor, "*batch d_model"], w1: Float[Tensor, "d_ff d_model"], w2: Float[Tensor, "d_model d_ff"]
) -> Float[Tensor, "*batch d_model"]:
    """y = W2 SiLU(W1 x): the feed-forward layer without a gate.

    Shapes: x (*batch, d_model), w1 (d_ff, d_model), w2 (d_model, d_ff) -> (*batch, d_model).
    Raises: ContractError on shape or dtype.
    Source: Vaswani et al. 2017, arXiv:1706.03762, with SiLU for ReLU and without biases.
    """
    return linear(silu(linear(x, w1)), w2)
