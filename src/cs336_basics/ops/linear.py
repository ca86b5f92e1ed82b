"""The linear map and the table look-up: the two ways weights meet data."""

from jaxtyping import Float, Int
from torch import Tensor

from cs336_basics.contracts import ContractError, contract
from cs336_basics.ops._dtype import require_one_dtype


@contract(held_by="proof")
def linear(x: Float[Tensor, "*batch d_in"], weight: Float[Tensor, "d_out d_in"]) -> Float[Tensor, "*batch d_out"]:
    """y = x Wᵀ, without bias.

    Shapes: x (*batch, d_in), weight (d_out, d_in) -> (*batch, d_out), in the dtype of both.
    Raises: ContractError on shape or dtype, or if the two dtypes differ (outside autocast).
    Source: row vectors times Wᵀ, so that a weight's rows are its outputs, as in torch.

    >>> import torch
    >>> linear(torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 1.0], [0.0, 3.0]]))
    tensor([3., 6.])
    """
    require_one_dtype("linear: weight must have x's dtype {}, got {}", x, weight)
    return x @ weight.mT


@contract(held_by="proof")
def embedding(ids: Int[Tensor, "*batch"], weight: Float[Tensor, "vocab d_model"]) -> Float[Tensor, "*batch d_model"]:
    """y[i] = weight[ids[i]]: the row of each id.

    Shapes: ids (*batch), any signed integer dtype; weight (vocab, d_model) -> (*batch, d_model), in weight's dtype.
    Raises: ContractError on shape or dtype, and on the CPU for an id outside [0, vocab); on a GPU such an
        id is a device-side assertion, since looking would stop the stream.
    Source: Bengio et al. 2003. index_select, whose gradient is one scatter-add.

    >>> import torch
    >>> embedding(torch.tensor([1, 0, 1]), torch.tensor([[0.5, 0.5], [2.0, 3.0]]))
    tensor([[2.0000, 3.0000],
            [0.5000, 0.5000],
            [2.0000, 3.0000]])
    """
    try:
        rows = weight.index_select(0, ids.reshape(-1).long())
    except IndexError as error:
        raise ContractError(f"embedding: ids must be in [0, {weight.shape[0]}), the rows of weight: {error}") from None
    return rows.reshape(*ids.shape, weight.shape[1])
