"""When two results count as one: the same bits, or within the rounding of their inputs."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

SLACK_ULPS = 2.0**8


def same_bits(one: Any, other: Any) -> bool:
    """Whether two tensors hold the same bits: -0.0 is not 0.0, and a NaN is itself."""
    import torch

    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(_bytes(one), _bytes(other))


def difference(got: Any, want: Any, *, eps: float, largest: float) -> str | None:
    """How `got` differs from `want` by more than rounding; None where it does not.

    Allowed: 2⁸ · eps · max(1, m)² · max(1, |want|), m the largest input. A product of two inputs is off by eps · m²,
    and where it stands in an exponent the result is off by that share of itself. Integers and booleans: nothing.
    """
    import torch

    if got.shape != want.shape:
        return f"has shape {tuple(got.shape)}, not {tuple(want.shape)}"
    if got.dtype != want.dtype:
        return f"is {got.dtype}, not {want.dtype}".replace("torch.", "")
    got, want = got.detach(), want.detach()
    if not (got.is_floating_point() or got.is_complex()):
        return None if torch.equal(got, want) else f"differs in {int((got != want).sum())} of {got.numel()} entries"
    wide = torch.complex128 if got.is_complex() else torch.float64
    got, want = got.to(wide), want.to(wide)
    same = (got == want) | (got.isnan() & want.isnan())
    off = torch.where(same, 0.0, (got - want).abs())
    size = torch.where(want.isfinite(), want.abs(), 0.0).clamp(min=1.0)
    allowed = SLACK_ULPS * eps * max(1.0, largest) ** 2 * size
    broken = ~same & ~(off <= allowed)
    if not bool(broken.any()):
        return None
    worst = off[broken].nan_to_num(nan=float("inf"), posinf=float("inf")).max()
    return f"differs by {float(worst):.3g} where rounding allows {float(allowed[broken].min()):.3g}"


def _bytes(tensor: Any) -> Any:
    import torch

    flat = tensor.detach().resolve_conj().reshape(-1)
    # A copy even where contiguous: a single entry may have any stride, and view asks for 1.
    return flat.clone(memory_format=torch.contiguous_format).view(torch.uint8)


def coarsest(call: Callable[[], object]) -> float:
    """The epsilon of the narrowest floating dtype that any step of a call computes in, float64's at the least."""
    import torch

    watch = _watch()()
    with watch:
        call()
    return max((torch.finfo(dtype).eps for dtype in watch.seen), default=0.0)


@functools.cache
def _watch() -> Any:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        """Remembers the floating dtypes that operators return."""

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
            self.seen: set[torch.dtype] = {torch.float64}

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            for tensor in inside(result):
                if isinstance(tensor, torch.Tensor) and tensor.dtype.is_floating_point:
                    self.seen.add(tensor.dtype)
            return result

    return Watch


def inside(value: Any) -> Iterator[Any]:
    """A value and everything in it, where it is a list, a tuple, a dict or a dataclass."""
    yield value
    parts: Any = ()
    if isinstance(value, list | tuple | set | frozenset):
        parts = value
    elif isinstance(value, dict):
        parts = value.values()
    elif hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        parts = (getattr(value, name) for name in value.__dataclass_fields__)
    for part in parts:
        yield from inside(part)
