"""Support for the tests of ops: exact references, ULPs, and the laws that every op keeps."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from mpmath import MPContext
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
INT_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8)

mp = MPContext()
mp.prec = 200  # far beyond float64's 53 bits, so that a reference counts as exact


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers that depend on nothing but the arguments."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def exact(x: Tensor) -> list[Any]:
    """The entries of x in order, as numbers of mpmath."""
    return [mp.mpf(value) for value in x.detach().double().flatten().tolist()]


def ulps(actual: Tensor, reference: Iterable[Any], *, least: float = 0.0) -> Tensor:
    """How far each entry is from the reference, in units in the last place of `actual`'s dtype there.

    `least` is the smallest magnitude whose last place counts, for sums in which terms cancel.
    """
    info = torch.finfo(actual.dtype)
    errors = []
    for value, truth in zip(exact(actual), reference, strict=True):
        size = max(abs(truth), mp.mpf(info.tiny), mp.mpf(least))
        one = mp.ldexp(mp.mpf(info.eps), mp.frexp(size)[1] - 1)
        errors.append(float(abs(value - truth) / one))
    return torch.tensor(errors, dtype=torch.float64).reshape(actual.shape)


def assert_within(actual: Tensor, reference: Iterable[Any], budget: Tensor | float, *, least: float = 0.0) -> None:
    """Every entry is within `budget` ULPs of the reference."""
    errors = ulps(actual, reference, least=least)
    excess = errors - budget
    message = f"{actual.dtype}: off by {errors.max().item():.3f} ULPs, {excess.max().item():.3f} more than allowed"
    assert (excess <= 0).all(), message


def assert_gradients(fn: Callable[..., Any], *args: Tensor, second: bool = False) -> None:
    """Derivatives agree with finite differences, and torch.func.grad with backward. All args are float64."""
    inputs = tuple(arg.detach().clone().requires_grad_() for arg in args)
    assert torch.autograd.gradcheck(fn, inputs)
    if second:
        assert torch.autograd.gradgradcheck(fn, inputs)

    def total(*values: Tensor) -> Tensor:
        # Unequal weights: the plain sum of a softmax has no gradient at all.
        parts = [out * torch.linspace(0.5, 2, out.numel(), dtype=out.dtype).view_as(out) for out in leaves(*values)]
        return torch.stack([part.sum() for part in parts]).sum()

    def leaves(*values: Tensor) -> list[Tensor]:
        return [leaf for leaf in tree_leaves(fn(*values)) if isinstance(leaf, Tensor)]

    backward = torch.autograd.grad(total(*inputs), inputs)
    functional = torch.func.grad(total, argnums=tuple(range(len(args))))(*args)
    torch.testing.assert_close(functional, backward, rtol=1e-12, atol=1e-12)


def assert_compiles(fn: Callable[..., Any], *args: Any, **options: Any) -> None:
    """One graph without breaks, and the same bits as without compilation."""
    torch._dynamo.reset()
    compiled = torch.compile(fn, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*args, **options), fn(*args, **options), rtol=0, atol=0, equal_nan=True)


def assert_maps(fn: Callable[..., Any], *args: Tensor, mapped: tuple[bool, ...] | None = None, **options: Any) -> None:
    """vmap over the first axis of the mapped arguments (all, unless told) is a loop over it."""
    mapped = mapped or (True,) * len(args)
    one = partial(fn, **options)
    together = torch.func.vmap(one, in_dims=tuple(0 if is_mapped else None for is_mapped in mapped))(*args)
    torch.testing.assert_close(together, _loop(one, args, mapped), rtol=1e-12, atol=1e-12)


def assert_batches(
    fn: Callable[..., Any], *args: Tensor, mapped: tuple[bool, ...] | None = None, **options: Any
) -> None:
    """Any leading axes, none or empty ones included, are a loop over the first one; so is vmap."""
    mapped = mapped or (True,) * len(args)
    assert_maps(fn, *args, mapped=mapped, **options)
    one = partial(fn, **options)
    torch.testing.assert_close(one(*args), _loop(one, args, mapped), rtol=1e-12, atol=1e-12)

    def with_axes(*lead: int) -> list[Tensor]:
        return [a.expand(*lead, *a.shape) if is_mapped else a for a, is_mapped in zip(args, mapped, strict=True)]

    plain, empty, double = tree_leaves(one(*args)), tree_leaves(one(*with_axes(0))), tree_leaves(one(*with_axes(2, 1)))
    for usual, none, two in zip(plain, empty, double, strict=True):
        assert none.shape == (0, *usual.shape)
        assert none.dtype == usual.dtype
        torch.testing.assert_close(two, usual.expand(2, 1, *usual.shape), rtol=1e-12, atol=1e-12)


def assert_strides(fn: Callable[..., Any], *args: Tensor, **options: Any) -> None:
    """The layout in memory does not matter, and the arguments are left as they were."""
    scattered = [_scatter(arg) for arg in args]
    got = fn(*scattered, **options)
    torch.testing.assert_close(got, fn(*args, **options), rtol=1e-12, atol=1e-12)
    for before, after in zip(args, scattered, strict=True):
        assert torch.equal(before, after), "an argument was written to"


def _loop(fn: Callable[..., Any], args: tuple[Tensor, ...], mapped: tuple[bool, ...]) -> Any:
    (size,) = {len(arg) for arg, is_mapped in zip(args, mapped, strict=True) if is_mapped}
    each = [
        fn(*(arg[i] if is_mapped else arg for arg, is_mapped in zip(args, mapped, strict=True))) for i in range(size)
    ]
    return tree_map(lambda *leaves: torch.stack(leaves), *each)


def _scatter(x: Tensor) -> Tensor:
    """The same values with every axis strided, the last one slowest."""
    room = x.new_empty([2 * size + 1 for size in reversed(x.shape)]).permute(*reversed(range(x.ndim)))
    view = room[tuple(slice(1, None, 2) for _ in x.shape)]
    view.copy_(x)
    return view
