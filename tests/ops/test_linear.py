"""linear against exact sums, embedding against indexing."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.contracts import ContractError
from cs336_basics.ops.linear import embedding, linear
from tests.ops.numerics import (
    DTYPES,
    INT_DTYPES,
    assert_batches,
    assert_compiles,
    assert_gradients,
    assert_strides,
    exact,
    mp,
    normal,
)


@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_is_the_exact_sum_within_the_bound_of_rounding(dtype: torch.dtype) -> None:
    n = 96
    x, weight = normal(5, n, seed=1, dtype=dtype), normal(7, n, seed=2, dtype=dtype)
    y = exact(linear(x, weight))
    # n roundings of the running sum in float32 at least (Higham 2002, section 3.1), and one to the dtype at the end.
    unit = torch.finfo(torch.promote_types(dtype, torch.float32)).eps / 2
    last = torch.finfo(dtype).eps / 2
    for i in range(5):
        for j in range(7):
            terms = [a * b for a, b in zip(exact(x[i]), exact(weight[j]), strict=True)]
            total = mp.fsum(terms)
            assert abs(y[7 * i + j] - total) <= n * unit * mp.fsum(abs(t) for t in terms) + last * abs(total)


@given(batch=st.lists(st.integers(0, 3), max_size=3), d_in=st.integers(1, 9), d_out=st.integers(1, 9))
@settings(deadline=None, max_examples=25)
def test_linear_equals_torch(batch: list[int], d_in: int, d_out: int) -> None:
    x, weight = normal(*batch, d_in, seed=1), normal(d_out, d_in, seed=2)
    torch.testing.assert_close(linear(x, weight), torch.nn.functional.linear(x, weight), rtol=1e-13, atol=1e-13)


@given(seed=st.integers(0, 2**32), a=st.floats(-1e3, 1e3), b=st.floats(-1e3, 1e3))
@settings(deadline=None, max_examples=25)
def test_linear_is_linear(seed: int, a: float, b: float) -> None:
    x, y, weight = normal(3, 5, seed=seed), normal(3, 5, seed=seed + 1), normal(4, 5, seed=seed + 2)
    together = linear(a * x + b * y, weight)
    torch.testing.assert_close(together, a * linear(x, weight) + b * linear(y, weight), rtol=1e-12, atol=1e-10)


def test_linear_laws() -> None:
    x, weight = normal(2, 3, 4, seed=1), normal(5, 4, seed=2)
    assert_gradients(linear, x, weight, second=True)
    assert_batches(linear, x, weight, mapped=(True, False))
    assert_strides(linear, x, weight)
    assert_compiles(linear, x, weight)


def test_linear_under_autocast_takes_two_dtypes() -> None:
    x, weight = normal(2, 4, dtype=torch.bfloat16), normal(3, 4, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight).dtype == torch.bfloat16
        assert_compiles(linear, x, weight)


@pytest.mark.parametrize("id_dtype", INT_DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_embedding_is_indexing(dtype: torch.dtype, id_dtype: torch.dtype) -> None:
    weight = normal(11, 3, dtype=dtype)
    ids = torch.tensor([[0, 10, 5], [5, 5, 1]], dtype=id_dtype)
    assert torch.equal(embedding(ids, weight), weight[ids.long()])


@given(ids=st.lists(st.integers(0, 6), max_size=20))
@settings(deadline=None, max_examples=25)
def test_embedding_gradient_counts_the_ids(ids: list[int]) -> None:
    weight = normal(7, 2).requires_grad_()
    (grad,) = torch.autograd.grad(embedding(torch.tensor(ids, dtype=torch.int64), weight).sum(), weight)
    assert grad.tolist() == [[ids.count(row)] * 2 for row in range(7)]


def test_embedding_laws() -> None:
    ids, weight = torch.tensor([[3, 0, 3], [1, 2, 2]]), normal(4, 5)
    assert_gradients(lambda w: embedding(ids, w), weight, second=True)
    assert_batches(embedding, ids, weight, mapped=(True, False))
    assert_strides(embedding, ids, weight)
    assert_compiles(embedding, ids, weight)
    assert embedding(ids[0, 0], weight).shape == (5,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linear(normal(2, 3), normal(3, 4)), r"^linear: weight must be .*'d_out d_in'.* d_in=3.*\(3, 4\)$"),
        (lambda: linear(normal(3), normal(3)), r"^linear: weight must be .*float64\(3,\)$"),
        (lambda: linear(torch.tensor(1.0), normal(2, 3)), r"^linear: x must be .*'\*batch d_in'.*float32\(\)$"),
        (lambda: linear(torch.arange(3), normal(2, 3)), r"^linear: x must be Float.*int64\(3,\)$"),
        (lambda: linear(normal(3), torch.ones(2, 3, dtype=torch.int64)), r"^linear: weight must be Float.*int64"),
        (lambda: linear(normal(3), normal(2, 3).float()), r"^linear: weight must have x's dtype .*64, got .*32$"),
        (lambda: embedding(normal(2), normal(4, 3)), r"^embedding: ids must be Int.*float64\(2,\)$"),
        (lambda: embedding(torch.arange(2).byte(), normal(4, 3)), r"^embedding: ids must be Int.*uint8\(2,\)$"),
        (lambda: embedding(torch.tensor([True]), normal(4, 3)), r"^embedding: ids must be Int.*bool\(1,\)$"),
        (lambda: embedding(torch.arange(2), normal(4)), r"^embedding: weight must be .*'vocab d_model'.*\(4,\)$"),
        (lambda: embedding(torch.arange(2), torch.ones(4, 3).long()), r"^embedding: weight must be Float.*int64"),
        (lambda: embedding(torch.tensor([4]), normal(4, 3)), r"^embedding: ids must be in \[0, 4\)"),
        (lambda: embedding(torch.tensor([-1]), normal(4, 3)), r"^embedding: ids must be in \[0, 4\)"),
    ],
)
def test_refusals(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        call()
