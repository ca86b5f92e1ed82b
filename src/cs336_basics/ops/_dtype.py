"""The rules of precision: reductions and normalisations run in float32 at least; products promote nothing unasked."""

import torch
from torch import Tensor

from cs336_basics.contracts import require


def at_least_float32(x: Tensor) -> Tensor:
    """x in float32, or as it is where it is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def require_one_dtype(message: str, x: Tensor, other: Tensor) -> None:
    """Refuse to multiply two dtypes, except under autocast, which brings both to its own."""
    same = x.dtype == other.dtype or torch.is_autocast_enabled(x.device.type)
    require(same, message, x.dtype, other.dtype)
