"""The same values in other storage: what a tensor is must not depend on how it lies in memory."""

from collections.abc import Callable, Mapping
from typing import Any, Final


def transposed(x: Any) -> Any:
    """The last axis laid out first: what `.mT` and `permute` leave behind."""
    backwards = tuple(reversed(range(x.ndim)))
    return x.permute(backwards).contiguous().permute(backwards)


def stepped(x: Any) -> Any:
    """Every second entry of each axis of a larger tensor, the others filled with what must not be read."""
    import torch

    whole = torch.full([2 * size for size in x.shape], _poison(x), dtype=x.dtype)
    view = whole[tuple(slice(None, None, 2) for _ in x.shape)]
    return view.copy_(x)


def offset(x: Any) -> Any:
    """Contiguous, but not from the start of its storage, which goes on after it."""
    import torch

    whole = torch.full((x.numel() + 3,), _poison(x), dtype=x.dtype)
    return whole[2 : 2 + x.numel()].view(x.shape).copy_(x)


def expanded(x: Any, choice: int) -> Any:
    """The first entry along one axis, for all of it: a stride of 0. Other values, so it needs its own reference."""
    if x.numel() == 0 or x.ndim == 0:
        return x
    axis = choice % x.ndim
    return x.narrow(axis, 0, 1).expand(x.shape)


def contiguous(x: Any) -> Any:
    """A copy of its own, laid out in order."""
    import torch

    return x.clone(memory_format=torch.contiguous_format)


LAYOUTS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "transposed": transposed,
    "stepped": stepped,
    "offset": offset,
}


def _poison(x: Any) -> Any:
    """A value that shows where it is read."""
    if x.dtype.is_floating_point or x.dtype.is_complex:
        return float("nan")
    return 1 if str(x.dtype) == "torch.bool" else 113
