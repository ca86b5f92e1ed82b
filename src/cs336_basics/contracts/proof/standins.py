"""Operators whose kernels insist on numbers, done by others that take symbols: the same shape, dtype and device.

Values do not matter here, for there are none. Only `prove` imports this file, when it is called: it needs torch.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, Final

import beartype
import jaxtyping
import torch
from torch._decomp import get_decompositions
from torch._subclasses.fake_tensor import FakeTensor
from torch.overrides import TorchFunctionMode

TORCH: Final = str(Path(torch.__file__).parent)
CHECKS: Final = (str(Path(__file__).parents[1]), *(str(Path(m.__file__ or "").parent) for m in (jaxtyping, beartype)))
# In Python for tensors without values: unbinds every axis, as many times as its example is long.
TOLIST: Final = FakeTensor.tolist.__code__
# What shows or hands out a tensor's values, and of a tensor without values is no operator, or thousands.
READS: Final = frozenset(
    {
        torch.Tensor.__repr__,
        torch.Tensor.__format__,
        torch.Tensor.__array__,
        torch.Tensor.numpy,
    }
)


class StandIns(TorchFunctionMode):
    """Functions that ask for numbers before any operator runs; `read` is told of those that read values on the host."""

    def __init__(self, read: Callable[[str, torch.Tensor], None] | None = None) -> None:
        super().__init__()
        self._read = read

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call the function or what stands in for it."""
        caller = sys._getframe(1)
        if self._read and caller.f_code is TOLIST:
            self._read("Tensor.tolist", args[0])
        elif self._read and func in READS and _by_the_function(caller):
            self._read(f"Tensor.{func.__name__}", args[0])
        return FUNCTIONS.get(func, func)(*args, **dict(kwargs or {}))


def _by_the_function(frame: FrameType | None) -> bool:
    """Whether torch was called by neither a check of annotations nor its message, which show tensors as well."""
    while frame is not None and frame.f_code.co_filename.startswith(TORCH):
        frame = frame.f_back
    return frame is None or not frame.f_code.co_filename.startswith(CHECKS)


def operator(func: Any) -> Callable[..., Any]:
    """The operator itself, or what stands in for it: one that takes symbols, without a random generator."""
    name = func.name()
    if name == "aten::polar":
        return lambda size, angle: torch.view_as_complex(torch.stack((size * angle.cos(), size * angle.sin()), dim=-1))
    if name in BY_PARTS:
        found: Callable[..., Any] = get_decompositions([func])[func]
        return found
    if any(argument.name == "generator" for argument in func._schema.arguments):
        return _without_generator(func)
    return func  # type: ignore[no-any-return]  # an OpOverload


# Operators with a twin in Python that takes symbols, which FakeTensorMode passes by.
BY_PARTS: Final = frozenset({"aten::constant_pad_nd"})


def _without_generator(func: Any) -> Callable[..., Any]:
    """The same draw from no generator: kernels for symbols take none."""
    overload = func._schema.overload_name
    plain = overload.replace("_generator", "").replace("generator", "") or "default"
    other = getattr(func.overloadpacket, plain) if "generator" in overload else func
    takes = {argument.name for argument in other._schema.arguments}

    def draw(*args: Any, **kwargs: Any) -> Any:
        args = tuple(None if isinstance(item, torch.Generator) else item for item in args)
        kwargs = {key: None if key == "generator" else item for key, item in kwargs.items()}
        return other(*args, **{key: item for key, item in kwargs.items() if key in takes})

    return draw


def _take_along_dim(input: torch.Tensor, indices: torch.Tensor, dim: int | None = None) -> torch.Tensor:  # noqa: A002  # named as in torch
    """torch.take_along_dim: indices and input are broadcast to each other in every axis but dim."""
    if dim is None:
        return input.flatten().gather(0, indices.flatten())
    dim %= input.ndim
    sizes: list[Any] = list(torch.broadcast_shapes(_without(input, dim), _without(indices, dim)))  # type: ignore[no-untyped-call]  # torch's
    wide = [*sizes[:dim], input.shape[dim], *sizes[dim:]]
    return input.expand(wide).gather(dim, indices.expand([*sizes[:dim], indices.shape[dim], *sizes[dim:]]))


def _without(tensor: torch.Tensor, dim: int) -> list[Any]:
    return [*tensor.shape[:dim], *tensor.shape[dim + 1 :]]


def _linspace(start: Any, end: Any, steps: Any, *, dtype: torch.dtype | None = None, **kwargs: Any) -> torch.Tensor:  # noqa: ARG001  # values do not matter
    return torch.empty(steps, dtype=dtype or torch.get_default_dtype(), **kwargs)


FUNCTIONS: Final[Mapping[Any, Callable[..., Any]]] = {
    torch.take_along_dim: _take_along_dim,
    torch.Tensor.take_along_dim: _take_along_dim,
    torch.linspace: _linspace,
}
