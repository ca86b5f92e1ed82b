"""silu against mpmath, the feed-forward layers against loops."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cs336_basics.contracts import ContractError
from cs336_basics.ops.feed_forward import silu, silu_feed_forward, swiglu
from tests.ops.numerics import (
    DTYPES,
    assert_batches,
    assert_compiles,
    assert_gradients,
    assert_strides,
    exact,
    mp,
    normal,
    ulps,
)

D_MODEL, D_FF = 4, 3


@pytest.mark.parametrize("dtype", DTYPES)
def test_silu_within_ulps(dtype: torch.dtype) -> None:
    x = torch.cat((normal(100, seed=1), normal(100, seed=2) * 10, torch.linspace(-60, 60, 121).double())).to(dtype)
    errors = ulps(silu(x), [v / (1 + mp.exp(-v)) for v in exact(x)])
    # Two ULPs, one for each factor and product; and x times half the smallest number, where the sigmoid has run out
    # of exponent (in float16 at x = -10), over the spacing there.
    assert (errors <= 2 + x.double().abs()).all() if dtype == torch.float16 else (errors <= 2).all()


@given(x=st.floats(-1e4, 1e4, width=16), dtype=st.sampled_from(DTYPES))
@settings(deadline=None, max_examples=60)
def test_silu_of_both_signs_differ_by_the_input(x: float, dtype: torch.dtype) -> None:
    # sigmoid(x) + sigmoid(-x) = 1.
    pair = torch.tensor([x, -x], dtype=dtype)
    both = silu(pair).double()
    torch.testing.assert_close(both[0] - both[1], pair[0].double(), rtol=3 * torch.finfo(dtype).eps, atol=1e-6)
    assert (both.abs() <= pair.abs()).all()
    assert both.min().item() >= -0.2785  # the minimum, at x = -1.2785


@pytest.mark.parametrize("dtype", DTYPES)
def test_silu_is_finite_at_the_ends(dtype: torch.dtype) -> None:
    largest = torch.finfo(dtype).max
    assert silu(torch.tensor([largest, -largest, 0.0], dtype=dtype)).tolist() == [largest, 0.0, 0.0]


def weights() -> tuple[Tensor, Tensor, Tensor]:
    return normal(D_FF, D_MODEL, seed=1), normal(D_MODEL, D_FF, seed=2), normal(D_FF, D_MODEL, seed=3)


def by_hand(x: Tensor, w1: Tensor, w2: Tensor, w3: Tensor | None) -> Tensor:
    """Every sum written out, for one vector."""
    hidden = []
    for f in range(D_FF):
        gate = sum(w1[f, i].item() * x[i].item() for i in range(D_MODEL))
        up = 1.0 if w3 is None else sum(w3[f, i].item() * x[i].item() for i in range(D_MODEL))
        hidden.append(gate / (1 + float(mp.exp(-gate))) * up)
    return torch.tensor(
        [sum(w2[i, f].item() * hidden[f] for f in range(D_FF)) for i in range(D_MODEL)], dtype=torch.float64
    )


def test_swiglu_by_hand() -> None:
    w1, w2, w3 = weights()
    for x in normal(5, D_MODEL):
        torch.testing.assert_close(swiglu(x, w1, w2, w3), by_hand(x, w1, w2, w3), rtol=1e-13, atol=1e-13)


def test_silu_feed_forward_by_hand() -> None:
    w1, w2, _ = weights()
    for x in normal(5, D_MODEL):
        torch.testing.assert_close(silu_feed_forward(x, w1, w2), by_hand(x, w1, w2, None), rtol=1e-13, atol=1e-13)


# Relative to the largest entry: two products of d_ff = 64 and d_model = 32 terms with a rounding to the dtype between.
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gated", [True, False])
def test_layers_within_eight_ulps_of_the_largest_entry(dtype: torch.dtype, gated: bool) -> None:
    x, w1, w2, w3 = (normal(*s, seed=s[0]) * 0.2 for s in ((9, 32), (64, 32), (32, 64), (64, 32)))
    args = [t.to(dtype) for t in ((x, w1, w2, w3) if gated else (x, w1, w2))]
    fn: Callable[..., Tensor] = swiglu if gated else silu_feed_forward
    wide = [t.double() for t in args]
    hidden = torch.nn.functional.silu(wide[0] @ wide[1].mT)
    truth = (hidden * (wide[0] @ wide[3].mT) if gated else hidden) @ wide[2].mT
    y = fn(*args)
    assert y.dtype == dtype
    assert (y.double() - truth).abs().max() <= 8 * torch.finfo(dtype).eps * truth.abs().max()


def test_laws() -> None:
    x = normal(2, 3, D_MODEL)
    w1, w2, w3 = weights()
    assert_gradients(silu, x, second=True)
    assert_gradients(swiglu, x, w1, w2, w3)
    assert_gradients(silu_feed_forward, x, w1, w2)
    assert_batches(silu, x)
    assert_batches(swiglu, x, w1, w2, w3, mapped=(True, False, False, False))
    assert_batches(silu_feed_forward, x, w1, w2, mapped=(True, False, False))
    assert_strides(silu, x)
    assert_strides(swiglu, x, w1, w2, w3)
    assert_strides(silu_feed_forward, x, w1, w2)
    assert_compiles(silu, x)
    assert_compiles(swiglu, x, w1, w2, w3)
    assert_compiles(silu_feed_forward, x, w1, w2)
    assert silu(x[0, 0, 0]).shape == ()


W1, W2, W3 = weights()
X = normal(2, D_MODEL)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: silu(torch.arange(3)), r"^silu: x must be Float\[Tensor, '\*shape'\], got tensor int64\(3,\)$"),
        (lambda: swiglu(torch.ones(2, D_MODEL).long(), W1, W2, W3), r"^swiglu: x must be Float.*int64\(2, 4\)$"),
        (lambda: swiglu(torch.tensor(1.0), W1, W2, W3), r"^swiglu: x must be .*'\*batch d_model'.*float32\(\)$"),
        (lambda: swiglu(X, W1.mT, W2, W3), r"^swiglu: w1 must be .*'d_ff d_model'.*d_model=4.*\(4, 3\)$"),
        (lambda: swiglu(X, W1, W2.mT, W3), r"^swiglu: w2 must be .*'d_model d_ff'.*d_ff=3.*\(3, 4\)$"),
        (lambda: swiglu(X, W1, W2, W3[:2]), r"^swiglu: w3 must be .*'d_ff d_model'.*d_ff=3.*\(2, 4\)$"),
        (lambda: silu_feed_forward(X[:, :2], W1, W2), r"^silu_feed_forward: w1 must be .*d_model=2.*\(3, 4\)$"),
        (lambda: silu_feed_forward(X, W1, W2.mT), r"^silu_feed_forward: w2 must be .*'d_model d_ff'.*\(3, 4\)$"),
        (lambda: silu_feed_forward(X, W1, torch.ones(4, 3).long()), r"^silu_feed_forward: w2 must be Float.*int64"),
        (lambda: silu_feed_forward(X, W1.float(), W2), r"^linear: weight must have x's dtype"),
    ],
)
def test_refusals(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        call()
