"""softmax, logsumexp and log_softmax against mpmath, and the properties that define them."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cs336_basics.contracts import ContractError
from cs336_basics.ops.softmax import log_softmax, logsumexp, softmax
from tests.ops.numerics import (
    DTYPES,
    assert_batches,
    assert_compiles,
    assert_gradients,
    assert_maps,
    assert_strides,
    assert_within,
    exact,
    mp,
    normal,
)

dtypes = st.sampled_from(DTYPES)
# float16 ends at 65504, so ±1e4 fits every dtype.
rows = st.lists(st.floats(-1e4, 1e4, width=16), min_size=1, max_size=40)
# One half of an ULP for the rounding to a narrow dtype, and what float32 lost before it: at most 1/2^13 of its own.
NARROW = {torch.bfloat16: 2.0**-16, torch.float16: 2.0**-13}


def budget(dtype: torch.dtype, wide: Tensor | float) -> Tensor:
    """`wide` ULPs where the dtype is computed in itself; in a narrow one, half an ULP and their remains."""
    wide = torch.as_tensor(wide, dtype=torch.float64)
    return 0.5 + wide * NARROW[dtype] if dtype in NARROW else wide


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("std", [1e-3, 1.0, 10.0, 100.0])
def test_softmax_within_ulps(dtype: torch.dtype, std: float) -> None:
    x = (normal(6, 50, seed=3) * std).to(dtype)
    for row in x:
        weights = [mp.exp(value) for value in exact(row)]
        # The difference from the maximum is rounded once, which exp turns into |x - max| half-ULPs and more.
        distance = (row - row.max()).abs().double()
        assert_within(softmax(row), [w / mp.fsum(weights) for w in weights], budget(dtype, 4 + distance))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("std", [1e-3, 1.0, 10.0, 1e3])
def test_logsumexp_within_ulps(dtype: torch.dtype, std: float) -> None:
    x = (normal(20, 50, seed=4) * std).to(dtype)
    reference = [mp.log(mp.fsum(mp.exp(value) for value in exact(row))) for row in x]
    assert_within(logsumexp(x), reference, budget(dtype, 1.5))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("std", [1e-3, 1.0, 10.0, 1e3])
def test_log_softmax_within_ulps(dtype: torch.dtype, std: float) -> None:
    x = (normal(6, 50, seed=5) * std).to(dtype)
    for row in x:
        log_total = mp.log(mp.fsum(mp.exp(value) for value in exact(row)))
        # Near log p = 0 the log of the sum cancels against nothing else: an absolute error of its last place, 1, stays.
        assert_within(log_softmax(row), [value - log_total for value in exact(row)], budget(dtype, 3.0), least=1.0)


@given(values=rows, dtype=dtypes)
@settings(deadline=None, max_examples=60)
def test_softmax_is_a_distribution(values: list[float], dtype: torch.dtype) -> None:
    p = softmax(torch.tensor(values, dtype=dtype))
    assert p.dtype == dtype
    assert p.isfinite().all()
    assert (p >= 0).all()
    # Each entry is off by half an ULP of at most 1, and they are off together by no more than their sum.
    assert abs(p.double().sum().item() - 1) <= len(values) * torch.finfo(dtype).eps


@given(values=rows, shift=st.integers(-(2**10), 2**10))
@settings(deadline=None, max_examples=60)
def test_softmax_ignores_a_shift(values: list[float], shift: int) -> None:
    # Sixteen-bit numbers and whole shifts: the sums are exact in float64, so the result is the same to the bit.
    x = torch.tensor(values, dtype=torch.float64)
    assert torch.equal(softmax(x + shift), softmax(x))


@given(values=rows, dtype=dtypes)
@settings(deadline=None, max_examples=60)
def test_softmax_keeps_the_order(values: list[float], dtype: torch.dtype) -> None:
    x = torch.tensor(values, dtype=dtype)
    assert (softmax(x)[x.argsort()].diff() >= 0).all()
    assert softmax(x).max() == softmax(x)[x.argmax()]


@given(values=rows, seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=25)
def test_softmax_follows_a_permutation(values: list[float], seed: int) -> None:
    x = torch.tensor(values, dtype=torch.float64)
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(softmax(x[order]), softmax(x)[order], rtol=1e-13, atol=0)


@given(values=rows, dtype=dtypes)
@settings(deadline=None, max_examples=60)
def test_logsumexp_is_between_the_maximum_and_log_n_above(values: list[float], dtype: torch.dtype) -> None:
    x = torch.tensor(values, dtype=dtype)
    total, top = logsumexp(x).item(), max(values)
    # Rounding is monotone, so the lower bound is exact; log n is rounded with the sum, to one ULP of it.
    assert x.max().item() <= total <= top + math.log(len(values)) + torch.finfo(dtype).eps * (abs(top) + 4)


@given(values=rows, dtype=dtypes)
@settings(deadline=None, max_examples=60)
def test_log_softmax_is_never_positive_and_finite(values: list[float], dtype: torch.dtype) -> None:
    y = log_softmax(torch.tensor(values, dtype=dtype))
    assert y.dtype == dtype
    assert y.isfinite().all()
    assert (y <= 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fn", [softmax, log_softmax])
def test_any_axis(fn: Callable[..., Tensor], dtype: torch.dtype) -> None:
    x = normal(2, 3, 4, dtype=dtype)
    for dim in range(-3, 3):
        assert torch.equal(fn(x, dim=dim), fn(x.movedim(dim, -1)).movedim(-1, dim))
        oracle = {softmax: torch.softmax, log_softmax: torch.log_softmax}[fn](x.double(), dim)
        torch.testing.assert_close(fn(x, dim=dim).double(), oracle, rtol=2 * torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_inputs(dtype: torch.dtype) -> None:
    largest, tiny = torch.finfo(dtype).max, torch.finfo(dtype).tiny
    extreme = torch.tensor([largest, -largest, largest], dtype=dtype)
    assert softmax(extreme).tolist() == [0.5, 0.0, 0.5]
    assert logsumexp(extreme).item() == largest
    small = torch.tensor([tiny, -tiny, 0.0, tiny], dtype=dtype)
    assert softmax(small).tolist() == [0.25] * 4
    assert logsumexp(small).item() == pytest.approx(math.log(4), rel=torch.finfo(dtype).eps)
    assert log_softmax(small).tolist() == [logsumexp(small).neg().item()] * 4
    assert softmax(torch.tensor([1e4, -1e4], dtype=dtype)).tolist() == [1.0, 0.0]
    assert softmax(torch.tensor([1e4, 1e4], dtype=dtype)).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("dtype", DTYPES)
def test_infinities(dtype: torch.dtype) -> None:
    inf = math.inf
    some = torch.tensor([0.0, -inf, 0.0], dtype=dtype)
    assert softmax(some).tolist() == [0.5, 0.0, 0.5]
    assert log_softmax(some)[1].item() == -inf
    assert logsumexp(some).item() == pytest.approx(math.log(2), rel=torch.finfo(dtype).eps)
    assert logsumexp(torch.tensor([-inf, -inf], dtype=dtype)).item() == -inf
    assert logsumexp(torch.tensor([inf, 0.0], dtype=dtype)).item() == inf
    assert softmax(torch.tensor([-inf, -inf], dtype=dtype)).isnan().all()


def test_an_entry_of_minus_infinity_gives_and_takes_no_gradient() -> None:
    x = torch.tensor([0.0, -math.inf, 1.0], dtype=torch.float64, requires_grad=True)
    for fn in (softmax, logsumexp):
        out = fn(x)
        (grad,) = torch.autograd.grad(out if out.ndim == 0 else out[0], x)
        assert grad.isfinite().all()
        assert grad[1] == 0


def test_the_gradient_of_logsumexp_is_softmax() -> None:
    x = normal(3, 7).requires_grad_()
    (grad,) = torch.autograd.grad(logsumexp(x).sum(), x)
    torch.testing.assert_close(grad, softmax(x), rtol=1e-14, atol=0)


@pytest.mark.parametrize("fn", [softmax, logsumexp, log_softmax])
def test_laws(fn: Callable[..., Tensor]) -> None:
    x = normal(2, 3, 4, seed=6)
    assert_gradients(fn, x, second=True)
    assert_batches(fn, x)
    assert_strides(fn, x)
    assert_compiles(fn, x)


@pytest.mark.parametrize("fn", [softmax, log_softmax])
def test_laws_on_another_axis(fn: Callable[..., Tensor]) -> None:
    x = normal(2, 3, 4, seed=6)
    assert_gradients(lambda x: fn(x, dim=0), x, second=True)
    assert_maps(fn, x, dim=0)
    assert_strides(fn, x, dim=1)
    assert_compiles(fn, x, dim=1)
    assert fn(x[:0], dim=1).shape == (0, 3, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: softmax(torch.arange(3)), r"^softmax: x must be Float\[Tensor, '\*shape'\], got tensor int64\(3,\)$"),
        (lambda: softmax(torch.ones(3, dtype=torch.complex64)), r"^softmax: x must be Float.*complex64"),
        (lambda: softmax(normal(2, 3), dim=2), r"^softmax: dim must be an axis of x, which has 2, got 2$"),
        (lambda: softmax(normal(2, 3), dim=-3), r"^softmax: dim must be an axis of x, which has 2, got -3$"),
        (lambda: softmax(torch.tensor(1.0)), r"^softmax: dim must be an axis of x, which has 0, got -1$"),
        (lambda: softmax(normal(2, 0)), r"^softmax: axis -1 of x must have at least one entry$"),
        (lambda: softmax(normal(2), dim=0.0), r"^softmax: dim must be int.*got float 0.0$"),  # type: ignore[arg-type]  # the bad input
        (lambda: softmax(normal(2), 0), r"^softmax: too many positional arguments"),  # type: ignore[call-arg]  # the bad input
        (lambda: log_softmax(torch.arange(3)), r"^log_softmax: x must be Float.*int64\(3,\)$"),
        (lambda: log_softmax(normal(2), dim=1), r"^log_softmax: dim must be an axis of x, which has 1, got 1$"),
        (lambda: log_softmax(normal(0, 2), dim=0), r"^log_softmax: axis 0 of x must have at least one entry$"),
        (lambda: logsumexp(torch.arange(3)), r"^logsumexp: x must be Float.*'\*batch vocab'.*int64\(3,\)$"),
        (lambda: logsumexp(torch.tensor(1.0)), r"^logsumexp: x must be .*'\*batch vocab'.*float32\(\)$"),
        (lambda: logsumexp(normal(2, 0)), r"^logsumexp: axis -1 of x must have at least one entry$"),
    ],
)
def test_refusals(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        call()
