"""What every update asks of its tensors and rates, and the one rule of precision."""

import math

import torch
from torch import Tensor

from cs336_basics.contracts import require


def moment_dtype(param: Tensor) -> torch.dtype:
    """The dtype of a parameter's state and of the arithmetic of its update: float32, or its own where wider."""
    return torch.promote_types(param.dtype, torch.float32)


def require_dense(function: str, name: str, tensor: Tensor) -> None:
    """Raises: ContractError if the tensor is sparse."""
    mend = "; make it dense (an embedding with sparse=False)"
    require(tensor.layout == torch.strided, "{}: {} must be dense, got {}" + mend, function, name, tensor.layout)


def require_moment(function: str, name: str, moment: Tensor, param: Tensor) -> None:
    """Raises: ContractError unless the state tensor has the parameter's shape and the dtype of moments."""
    dtype = moment_dtype(param)
    require(
        moment.shape == param.shape and moment.dtype == dtype,
        "{}: state.{} must be {} of shape {}, got {} of shape {}",
        *(function, name, dtype, tuple(param.shape), moment.dtype, tuple(moment.shape)),
    )


def require_rates(function: str, *, lr: float, weight_decay: float) -> None:
    """Raises: ContractError unless both are finite and at least 0."""
    require(0 <= lr < math.inf, "{}: lr must be at least 0 and finite, got {}", function, lr)
    require(
        0 <= weight_decay < math.inf, "{}: weight_decay must be at least 0 and finite, got {}", function, weight_decay
    )
