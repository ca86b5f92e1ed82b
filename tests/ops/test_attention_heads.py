"""Splitting into heads, merging them, and serving a group of them by one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.contracts import ContractError
from cs336_basics.ops.attention import merge_heads, repeat_kv, split_heads
from tests.ops.numerics import assert_batches, assert_compiles, assert_gradients, assert_strides, normal


@given(batch=st.lists(st.integers(0, 3), max_size=2), heads=st.integers(1, 4), d_k=st.integers(1, 4))
@settings(deadline=None, max_examples=25)
def test_merging_undoes_splitting(batch: list[int], heads: int, d_k: int) -> None:
    x = normal(*batch, 3, heads * d_k)
    split = split_heads(x, heads=heads)
    assert split.shape == (*batch, heads, 3, d_k)
    assert torch.equal(merge_heads(split), x)
    for h in range(heads):
        assert torch.equal(split[..., h, :, :], x[..., h * d_k : (h + 1) * d_k])


@pytest.mark.parametrize(("kv_heads", "heads"), [(1, 1), (1, 4), (2, 4), (3, 6), (4, 4)])
def test_repeat_kv_serves_a_group_each(kv_heads: int, heads: int) -> None:
    x = normal(2, kv_heads, 3, 5)
    repeated = repeat_kv(x, heads=heads)
    assert repeated.shape == (2, heads, 3, 5)
    for h in range(heads):
        assert torch.equal(repeated[:, h], x[:, h // (heads // kv_heads)])


def test_laws_of_the_parts() -> None:
    x = normal(2, 2, 3, 4)
    for fn in (lambda x: split_heads(x, heads=2), merge_heads, lambda x: repeat_kv(x, heads=4)):
        assert_gradients(fn, x, second=True)
        assert_batches(fn, x)
        assert_strides(fn, x)
    assert_compiles(split_heads, x, heads=2)
    assert_compiles(merge_heads, x)
    assert_compiles(repeat_kv, x, heads=4)


X = normal(2, 3, 6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: split_heads(X, heads=4),
            r"^split_heads: x must be .*'\*batch seq heads\*d_k'\] where heads=4, got tensor float64\(2, 3, 6\)$",
        ),
        (lambda: split_heads(X, heads=0), r"^split_heads: x must be .* where heads=0, got tensor float64\(2, 3, 6\)$"),
        (lambda: split_heads(X[0, 0], heads=2), r"^split_heads: x must be .*'\*batch seq heads\*d_k'.*\(6,\)$"),
        (lambda: split_heads(X.long(), heads=2), r"^split_heads: x must be Float.*int64"),
        (lambda: merge_heads(X[0]), r"^merge_heads: x must be .*'\*batch heads seq d_v'.*\(3, 6\)$"),
        (lambda: repeat_kv(X, heads=3), r"^repeat_kv: heads must be a multiple of kv_heads = 2, got 3$"),
        (lambda: repeat_kv(X, heads=0), r"^repeat_kv: heads must be a multiple of kv_heads = 2, got 0$"),
        (lambda: repeat_kv(X, heads=-2), r"^repeat_kv: heads must be a multiple of kv_heads = 2, got -2$"),
        (lambda: repeat_kv(X[:0], heads=2), r"^repeat_kv: heads must be a multiple of kv_heads = 0, got 2$"),
        (lambda: repeat_kv(X[0], heads=2), r"^repeat_kv: x must be .*'\*batch kv_heads seq d_k'.*\(3, 6\)$"),
    ],
)
def test_refusals(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        call()
