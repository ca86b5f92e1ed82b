"""scaled_dot_product_attention: against loops and torch, what the mask hides, and rows that see nothing."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cs336_basics.contracts import ContractError
from cs336_basics.ops.attention import causal_mask, scaled_dot_product_attention
from tests.ops.numerics import (
    DTYPES,
    assert_batches,
    assert_compiles,
    assert_gradients,
    assert_strides,
    normal,
)

seeds = st.integers(0, 2**32)
batches = st.lists(st.integers(1, 3), max_size=2)


def qkv(
    *batch: int, queries: int = 3, keys: int = 5, d_k: int = 4, d_v: int = 6, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        normal(*batch, queries, d_k, seed=seed),
        normal(*batch, keys, d_k, seed=seed + 1),
        normal(*batch, keys, d_v, seed=seed + 2),
    )


def some_mask(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.6


def by_hand(q: Tensor, k: Tensor, v: Tensor, allowed: Callable[[int, int], bool]) -> Tensor:
    """One query at a time, each sum written out over the keys it may see."""
    rows = []
    for i in range(q.shape[0]):
        seen = [j for j in range(k.shape[0]) if allowed(i, j)]
        weights = [math.exp(sum((q[i] * k[j]).tolist()) / math.sqrt(q.shape[1])) for j in seen]
        terms = [w / sum(weights) * v[j] for w, j in zip(weights, seen, strict=True)]
        rows.append(torch.stack(terms).sum(0) if seen else torch.zeros(v.shape[1], dtype=v.dtype))
    return torch.stack(rows)


@given(seed=seeds, queries=st.integers(1, 5), more=st.integers(0, 4), is_causal=st.booleans(), masked=st.booleans())
@settings(deadline=None, max_examples=40)
def test_by_hand(seed: int, queries: int, more: int, is_causal: bool, masked: bool) -> None:
    keys = queries + more
    q, k, v = qkv(queries=queries, keys=keys, seed=seed)
    mask = some_mask(queries, keys, seed=seed) if masked else None

    def allowed(i: int, j: int) -> bool:
        return (not is_causal or j <= i + more) and (mask is None or bool(mask[i, j]))

    y = scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal)
    torch.testing.assert_close(y, by_hand(q, k, v, allowed), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("std", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("is_causal", [True, False])
def test_equals_torch_within_ulps_of_the_largest_value(dtype: torch.dtype, std: float, is_causal: bool) -> None:
    q, k, v = (t.to(dtype) for t in qkv(2, 3, queries=33, keys=33, d_k=16, d_v=16))
    q, k = q * std, k * std
    truth = torch.nn.functional.scaled_dot_product_attention(q.double(), k.double(), v.double(), is_causal=is_causal)
    y = scaled_dot_product_attention(q, k, v, is_causal=is_causal)
    assert y.dtype == dtype
    # A score is rounded to the dtype, with q scaled before; exp turns its ULPs into relative errors of the weights, of
    # which those of the largest count. The weights and the result are rounded, too: half an ULP each.
    score = (q.double() @ k.double().mT).abs().max().item() / 4
    budget = (1 + score / 4) * torch.finfo(dtype).eps
    assert (y.double() - truth).abs().max() <= budget * v.double().abs().max()


@given(batch=batches, seed=seeds)
@settings(deadline=None, max_examples=25)
def test_the_order_of_the_keys_does_not_matter(batch: list[int], seed: int) -> None:
    q, k, v = qkv(*batch, keys=7, seed=seed)
    mask = some_mask(*batch, 3, 7, seed=seed)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(seed))
    shuffled = scaled_dot_product_attention(q, k[..., order, :], v[..., order, :], mask[..., order])
    torch.testing.assert_close(shuffled, scaled_dot_product_attention(q, k, v, mask), rtol=1e-12, atol=1e-12)


@given(seed=seeds)
@settings(deadline=None, max_examples=25)
def test_each_result_is_a_mean_of_the_values(seed: int) -> None:
    q, k, v = qkv(2, seed=seed)
    y = scaled_dot_product_attention(q, k, v)
    assert (y <= v.amax(-2, keepdim=True) + 1e-12).all()
    assert (y >= v.amin(-2, keepdim=True) - 1e-12).all()
    torch.testing.assert_close(
        scaled_dot_product_attention(q, k, torch.ones_like(v)), torch.ones_like(y), rtol=1e-14, atol=0
    )


# Large, finite, and no product of two of them fits float32 (or float16).
FUTURES = {torch.float64: 1e300, torch.float32: 1e30, torch.bfloat16: 1e30, torch.float16: 6e4}


@given(seed=seeds, cut=st.integers(1, 5), dtype=st.sampled_from(DTYPES), sign=st.sampled_from([-1, 1]))
@settings(deadline=None, max_examples=40)
def test_no_future_changes_a_bit_of_the_past(seed: int, cut: int, dtype: torch.dtype, sign: int) -> None:
    past = [t.to(dtype) for t in qkv(2, queries=6, keys=6, seed=seed)]
    future = [t.clone() for t in past]
    for t in future:
        t[:, cut:] = sign * FUTURES[dtype]
    before = scaled_dot_product_attention(*past, is_causal=True)[:, :cut]
    after = scaled_dot_product_attention(*future, is_causal=True)[:, :cut]
    assert before.isfinite().all()
    assert torch.equal(before, after)


@given(seed=seeds, dtype=st.sampled_from(DTYPES))
@settings(deadline=None, max_examples=25)
def test_no_hidden_key_changes_a_bit_or_sends_a_gradient(seed: int, dtype: torch.dtype) -> None:
    q, k, v = (t.to(dtype) for t in qkv(seed=seed))
    mask = some_mask(1, 5, seed=seed).expand(3, 5).clone()
    mask[:, 0] = True
    hidden = ~mask[0].unsqueeze(-1)
    # Backward, the gradient of a hidden weight is a sum over d_v values, which must fit the dtype, too.
    large = FUTURES[dtype] / 64
    inputs = tuple(t.requires_grad_() for t in (q, k.masked_fill(hidden, large), v.masked_fill(hidden, large)))
    y = scaled_dot_product_attention(inputs[0], inputs[1], inputs[2], mask)
    assert torch.equal(y, scaled_dot_product_attention(q, k, v, mask))
    grads = torch.autograd.grad(y.double().sum(), inputs)
    assert all(grad.isfinite().all() for grad in grads)
    assert (grads[1].masked_select(hidden) == 0).all()
    assert (grads[2].masked_select(hidden) == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_hidden_keys_stay_hidden_however_poor_the_others_are(dtype: torch.dtype) -> None:
    # The key in sight scores -4e4, the hidden ones 0: a large negative number for them would have to be larger still.
    q, k, v = torch.full((1, 4), 200.0), torch.zeros(3, 4), torch.arange(3.0).unsqueeze(-1)
    k[2] = -100.0
    mask = torch.tensor([[False, False, True]])
    assert scaled_dot_product_attention(q.to(dtype), k.to(dtype), v.to(dtype), mask).item() == 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", ["usual", "large"])
@pytest.mark.parametrize("is_causal", [True, False])
def test_a_row_that_sees_nothing_gives_zeros_and_no_gradient(dtype: torch.dtype, size: str, is_causal: bool) -> None:
    q, k, v = (t.to(dtype) for t in qkv(2, queries=4, keys=4))
    mask = torch.ones(4, 4, dtype=torch.bool)
    mask[1] = False
    if size == "large":  # even where the scores that the mask hides would overflow
        q[:, 1] = FUTURES[dtype]
        k[:, 3] = FUTURES[dtype]
        mask[:, 3] = False
    inputs = [t.requires_grad_() for t in (q, k, v)]
    y = scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal)
    assert (y[:, 1] == 0).all()
    assert (y[:, [0, 2, 3]] != 0).all()
    grads = torch.autograd.grad(y.double().square().sum(), inputs)
    assert all(grad.isfinite().all() for grad in grads)
    assert (grads[0][:, 1] == 0).all()
    # All rows blind: nothing at all comes out or back.
    y = scaled_dot_product_attention(q, k, v, torch.zeros_like(mask), is_causal=is_causal)
    assert (y == 0).all()
    for grad in torch.autograd.grad(y.double().sum(), inputs):
        assert (grad == 0).all()


def test_causal_and_mask_together_may_leave_a_row_nothing() -> None:
    q, k, v = qkv(queries=3, keys=3)
    mask = torch.tensor([[False, True, True]] * 3)
    y = scaled_dot_product_attention(q, k, v, mask, is_causal=True)
    assert (y[0] == 0).all()
    torch.testing.assert_close(y[1], v[1], rtol=1e-14, atol=0)


@pytest.mark.parametrize("lead", [(), (1,), (2,), (1, 1), (1, 2), (3, 1), (3, 2)])
def test_the_mask_broadcasts(lead: tuple[int, ...]) -> None:
    q, k, v = qkv(3, 2)
    mask = some_mask(*lead, 3, 5, seed=1)
    full = mask.expand(3, 2, 3, 5)
    y = scaled_dot_product_attention(q, k, v, mask)
    for i in range(3):
        for j in range(2):
            one = by_hand(q[i, j], k[i, j], v[i, j], lambda a, b, m=full[i, j]: bool(m[a, b]))  # type: ignore[misc]
            torch.testing.assert_close(y[i, j], one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("queries", "keys"), [(0, 0), (0, 2), (1, 1), (1, 4), (3, 3), (2, 5)])
def test_causal_mask_lets_the_last_query_see_all(queries: int, keys: int) -> None:
    mask = causal_mask(queries, keys)
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[j <= i + keys - queries for j in range(keys)] for i in range(queries)]


@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_laws(is_causal: bool, masked: bool) -> None:
    q, k, v = qkv(2)
    mask = some_mask(2, 3, 5, seed=2) if masked else None
    if mask is not None:
        mask[0, 1] = False

    def attend(q: Tensor, k: Tensor, v: Tensor, *mask: Tensor) -> Tensor:
        return scaled_dot_product_attention(q, k, v, *mask, is_causal=is_causal)

    tensors = (q, k, v) if mask is None else (q, k, v, mask)
    assert_gradients(lambda q, k, v: scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal), q, k, v)
    assert_batches(attend, *tensors)
    assert_strides(attend, *tensors)
    assert_compiles(scaled_dot_product_attention, *tensors, is_causal=is_causal)


def test_second_derivatives() -> None:
    q, k, v = qkv(queries=2, keys=2, d_k=2, d_v=1)
    assert_gradients(lambda q, k, v: scaled_dot_product_attention(q, k, v, is_causal=True), q, k, v, second=True)


def test_causal_mask_compiles() -> None:
    assert_compiles(causal_mask, 3, 5)


Q, K, V = qkv(2)
MASK = torch.ones(3, 5, dtype=torch.bool)
attention = scaled_dot_product_attention


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: attention(Q[0, 0], K, V), r"attention: q must be .*'\*batch queries d_k'.*float64\(4,\)$"),
        (lambda: attention(Q.long(), K, V), r"attention: q must be Float.*int64\(2, 3, 4\)$"),
        (lambda: attention(Q, K.mT, V), r"attention: k must be .*'\*batch keys d_k'.* d_k=4.*\(2, 4, 5\)$"),
        (lambda: attention(Q, K[0], V), r"attention: k must be .*batch=\(2,\), got .*\(5, 4\)$"),
        (lambda: attention(Q, K, V[:, 1:]), r"attention: v must be .*'\*batch keys d_v'.* keys=5.*\(2, 4, 6\)$"),
        (lambda: attention(Q, V, K), r"attention: k must be .*d_k=4.*\(2, 5, 6\)$"),
        (lambda: attention(Q, K, V.long()), r"attention: v must be Float.*int64\(2, 5, 6\)$"),
        (lambda: attention(Q, K.float(), V), r"attention: k must have q's dtype torch.float64, got torch.float32$"),
        (lambda: attention(Q, K[:, :0], V[:, :0]), r"attention: k must hold at least one key$"),
        (lambda: attention(Q[..., :0], K[..., :0], V), r"attention: q must be at least 1 wide$"),
        (lambda: attention(Q, K, V, MASK.double()), r"attention: mask must be Bool.*float64\(3, 5\)$"),
        (lambda: attention(Q, K, V, MASK.mT), r"attention: mask must be .*queries keys'.*bool\(5, 3\)$"),
        (lambda: attention(Q, K, V, MASK[:, :1]), r"attention: mask must be .*keys=5.*bool\(3, 1\)$"),
        (lambda: attention(Q, K, V, MASK.expand(4, 3, 5)), r"attention: mask must be .*'\*#batch.*bool\(4, 3, 5\)$"),
        (lambda: attention(Q[0], K[0], V[0], MASK.expand(4, 3, 5)), r"attention: mask must be .*bool\(4, 3, 5\)$"),
        (lambda: attention(K, Q, Q, is_causal=True), r"^causal_mask: keys must be at least queries = 5, got 3$"),
        (lambda: causal_mask(3, 2), r"^causal_mask: keys must be at least queries = 3, got 2$"),
        (lambda: causal_mask(-1, 2), r"^causal_mask: queries must be at least 0, got -1$"),
        (lambda: causal_mask(2.0, 2), r"^causal_mask: queries must be int.*float 2.0$"),  # type: ignore[arg-type]
    ],
)
def test_refusals(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        call()
