"""rms_norm against mpmath and torch, and its invariance under scale."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.contracts import ContractError
from cs336_basics.ops.norm import rms_norm
from tests.ops.numerics import (
    DTYPES,
    assert_batches,
    assert_compiles,
    assert_gradients,
    assert_strides,
    assert_within,
    exact,
    mp,
    normal,
)

# Squares, their mean (torch adds in pairs), rsqrt and two products: four roundings of up to one ULP each. A narrow
# dtype is computed in float32, so that only its own rounding, half an ULP, is seen.
BUDGET = {torch.float64: 4.0, torch.float32: 4.0, torch.bfloat16: 0.501, torch.float16: 0.501}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-4, 3e-3, 1.0, 100.0])
@pytest.mark.parametrize("d_model", [1, 7, 256])
def test_within_ulps(dtype: torch.dtype, scale: float, d_model: int) -> None:
    x, weight = (normal(4, d_model, seed=7) * scale).to(dtype), normal(d_model, seed=8, dtype=dtype)
    # At these scales eps = 1e-5 is all of the denominator, half of it, and next to nothing.
    for row in x:
        values = exact(row)
        rms = mp.sqrt(mp.fsum(v * v for v in values) / d_model + mp.mpf(1e-5))
        reference = [v / rms * w for v, w in zip(values, exact(weight), strict=True)]
        assert_within(rms_norm(row, weight), reference, BUDGET[dtype])


@pytest.mark.parametrize("batch", [(), (3,), (2, 1, 3)])
@pytest.mark.parametrize("eps", [0.0, 1e-5, 1.0])
def test_equals_torch(batch: tuple[int, ...], eps: float) -> None:
    x, weight = normal(*batch, 12), normal(12, seed=1)
    oracle = torch.nn.functional.rms_norm(x, (12,), weight, eps)
    torch.testing.assert_close(rms_norm(x, weight, eps=eps), oracle, rtol=1e-13, atol=0)


@given(seed=st.integers(0, 2**32), power=st.integers(-40, 40), dtype=st.sampled_from(DTYPES[:2]))
@settings(deadline=None, max_examples=40)
def test_a_power_of_four_does_not_change_a_bit_without_eps(seed: int, power: int, dtype: torch.dtype) -> None:
    # rsqrt halves the exponent: only an even one leaves its mantissa alone.
    x, weight = normal(3, 8, seed=seed, dtype=dtype), normal(8, seed=seed + 1, dtype=dtype)
    scale = 4.0 ** (power // 2)
    assert torch.equal(rms_norm(x * scale, weight, eps=0.0), rms_norm(x, weight, eps=0.0))


@given(seed=st.integers(0, 2**32), scale=st.floats(1e-6, 1e6), sign=st.sampled_from([-1, 1]))
@settings(deadline=None, max_examples=40)
def test_scale_does_not_matter_without_eps_but_for_its_sign(seed: int, scale: float, sign: int) -> None:
    x, weight = normal(3, 8, seed=seed), normal(8, seed=seed + 1)
    scaled = rms_norm(sign * scale * x, weight, eps=0.0)
    torch.testing.assert_close(scaled, sign * rms_norm(x, weight, eps=0.0), rtol=1e-14, atol=0)


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=25)
def test_the_gradient_is_orthogonal_to_the_input_without_eps(seed: int) -> None:
    # What scale does not change has no slope along x (Euler).
    x = normal(3, 8, seed=seed).requires_grad_()
    (grad,) = torch.autograd.grad(rms_norm(x, torch.ones(8).double(), eps=0.0).square().mul(normal(8)).sum(), x)
    assert ((grad * x).sum(-1).abs() <= 1e-12 * grad.norm(dim=-1) * x.norm(dim=-1)).all()


def test_the_result_has_root_mean_square_one() -> None:
    y = rms_norm(normal(5, 64) * 1e3, torch.ones(64).double())
    torch.testing.assert_close(y.square().mean(-1), torch.ones(5).double(), rtol=1e-10, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_stay_zeros_and_large_inputs_finite(dtype: torch.dtype) -> None:
    weight = torch.ones(4, dtype=dtype)
    assert rms_norm(torch.zeros(2, 4, dtype=dtype), weight).tolist() == [[0.0] * 4] * 2
    # In float16 the squares of 1e4 would overflow if they were not taken in float32.
    large = rms_norm(torch.tensor([1e4, -1e4, 1e4, -1e4], dtype=dtype), weight, eps=0.0)
    torch.testing.assert_close(large.double(), torch.tensor([1.0, -1, 1, -1]).double(), rtol=1e-6, atol=0)


def test_result_has_the_dtype_of_x_whatever_that_of_weight() -> None:
    assert rms_norm(normal(4, dtype=torch.bfloat16), torch.ones(4)).dtype == torch.bfloat16
    assert rms_norm(normal(4, dtype=torch.float32), torch.ones(4).double()).dtype == torch.float32


def test_laws() -> None:
    x, weight = normal(2, 3, 4), normal(4, seed=1)
    assert_gradients(rms_norm, x, weight, second=True)
    assert_batches(rms_norm, x, weight, mapped=(True, False))
    assert_strides(rms_norm, x, weight)
    assert_compiles(rms_norm, x, weight, eps=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rms_norm(torch.tensor(1.0), normal(1)), r"^rms_norm: x must be .*'\*batch d_model'.*float32\(\)$"),
        (lambda: rms_norm(torch.arange(4), normal(4)), r"^rms_norm: x must be Float.*int64\(4,\)$"),
        (lambda: rms_norm(normal(2, 3), normal(2)), r"^rms_norm: weight must be .*d_model=3.*float64\(2,\)$"),
        (lambda: rms_norm(normal(2, 3), normal(2, 3)), r"^rms_norm: weight must be .*'d_model'.*\(2, 3\)$"),
        (lambda: rms_norm(normal(3), torch.arange(3)), r"^rms_norm: weight must be Float.*int64\(3,\)$"),
        (lambda: rms_norm(normal(3), normal(3), eps=-1e-9), r"^rms_norm: eps must be at least 0, got -1e-09$"),
        (lambda: rms_norm(normal(3), normal(3), eps=float("nan")), r"^rms_norm: eps must be at least 0, got nan$"),
        (lambda: rms_norm(normal(3), normal(3), 1e-5), r"^rms_norm: too many positional"),  # type: ignore[call-arg]  # the bad input
    ],
)
def test_refusals(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        call()
