"""In which dtype a kernel multiplies: it calls no operator that autocast would see, so it asks autocast itself."""

import functools

import torch
from torch import Tensor


def in_product_dtype(*operands: Tensor) -> tuple[Tensor, ...]:
    """The operands in autocast's dtype where that is on (float64 stays), in the widest of theirs where it is off."""
    kind = operands[0].device.type
    dtypes = {operand.dtype for operand in operands}
    autocast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    if autocast and torch.float64 not in dtypes:
        dtypes = {torch.get_autocast_dtype(kind)}
    widest = functools.reduce(torch.promote_types, sorted(dtypes, key=str))
    return tuple(operand.to(widest) for operand in operands)


def refuse_second(ctx: object, *gradients: Tensor) -> None:
    """The backward of a backward, which no kernel here has."""
    raise NotImplementedError("kernels: no second derivatives; take them of the function of the same name in ops")
