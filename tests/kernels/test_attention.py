"""The twin of scaled_dot_product_attention: equal in values, gradients and failures, tile by tile."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from cs336_basics.config import ModelConfig
from cs336_basics.kernels import attention as kernels
from cs336_basics.kernels.attention import scaled_dot_product_attention
from cs336_basics.nn import TransformerLM
from cs336_basics.ops import attention as ops
from tests.kernels.twins import assert_both_refuse, assert_close, assert_twins
from tests.ops.numerics import assert_strides, normal

DTYPES = (torch.float64, torch.float32)


@pytest.fixture(autouse=True)
def small_tiles() -> Iterator[None]:
    """Tiles of 4 by 7 scores of at most 3 heads: every test meets several, and rests in each direction."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "LONG", 7)
        patch.setattr(kernels, "SHORT", ((10, 3), (1 << 62, 4)))
        patch.setattr(kernels, "IN_CACHE", 3 * 4 * 7)
        yield


def qkv(
    *batch: int, queries: int = 9, keys: int = 9, d_k: int = 4, d_v: int = 6, seed: int = 0, dtype: Any = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        normal(*batch, queries, d_k, seed=seed, dtype=dtype),
        normal(*batch, keys, d_k, seed=seed + 1, dtype=dtype),
        normal(*batch, keys, d_v, seed=seed + 2, dtype=dtype),
    )


def some_mask(*shape: int, seed: int = 0, share: float = 0.5) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share


@st.composite
def calls(draw: st.DrawFn) -> tuple[tuple[Any, ...], bool]:
    """q, k, v, mask or None; whether causal."""
    batch = draw(st.lists(st.integers(1, 3), max_size=3))
    queries, keys = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    seed, is_causal = draw(st.integers(0, 2**32)), draw(st.booleans())
    if is_causal:
        queries, keys = sorted((queries, keys))
    q, k, v = qkv(*batch, queries=queries, keys=keys, seed=seed, dtype=draw(st.sampled_from(DTYPES)))
    if not draw(st.booleans()):
        return (q, k, v, None), is_causal
    lead = [draw(st.sampled_from((1, size))) for size in batch]
    lead = lead[draw(st.integers(0, len(lead))) :] if draw(st.booleans()) else lead
    return (
        q,
        k,
        v,
        some_mask(*lead, queries, keys, seed=seed, share=draw(st.sampled_from((0.1, 0.5, 0.9)))),
    ), is_causal


@given(call=calls())
@settings(deadline=None, max_examples=120)
def test_equals_the_specification(call: tuple[tuple[Any, ...], bool]) -> None:
    inputs, is_causal = call
    assert_twins(scaled_dot_product_attention, ops.scaled_dot_product_attention, *inputs, is_causal=is_causal)


@given(queries=st.integers(1, 20), seed=st.integers(0, 2**32), is_causal=st.booleans())
@settings(deadline=None, max_examples=25)
def test_equals_torch(queries: int, seed: int, is_causal: bool) -> None:
    q, k, v = qkv(2, 2, queries=queries, keys=queries, d_v=4, seed=seed)
    ours = scaled_dot_product_attention(q, k, v, is_causal=is_causal)
    theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("is_causal", [False, True])
def test_in_half_precision_as_near_the_truth_as_the_specification(dtype: torch.dtype, is_causal: bool) -> None:
    inputs = qkv(3, 2, queries=40, keys=40, dtype=dtype)

    def with_gradients(function: Any, dtype: torch.dtype) -> list[Tensor]:
        leaves = [t.to(dtype).requires_grad_() for t in inputs]
        out = function(*leaves, is_causal=is_causal)
        results = [out, *torch.autograd.grad(out, leaves, torch.ones_like(out).cumsum(-1) - 3)]
        assert {t.dtype for t in results} == {dtype}
        return [t.detach().double() for t in results]

    # Twice as far at most: where few keys are seen, a rounded product and an exact sum cancel (the specification rounds
    # both alike).
    truth = with_gradients(ops.scaled_dot_product_attention, torch.float64)
    for right, mine, theirs in zip(
        truth,
        with_gradients(scaled_dot_product_attention, dtype),
        with_gradients(ops.scaled_dot_product_attention, dtype),
        strict=True,
    ):
        assert (mine - right).square().mean().sqrt() <= 2 * (theirs - right).square().mean().sqrt()


def test_with_the_tiles_it_really_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for long, short, queries, keys in (
        (1024, ((512, 32), (1 << 62, 64)), 70, 130),
        (64, ((1, 1), (1 << 62, 64)), 200, 200),
    ):
        monkeypatch.setattr(kernels, "LONG", long)
        monkeypatch.setattr(kernels, "SHORT", short)
        monkeypatch.setattr(kernels, "IN_CACHE", 1 << 18)
        q, k, v = qkv(3, queries=queries, keys=keys, dtype=torch.float32)
        for mask in (None, some_mask(queries, keys), some_mask(3, queries, keys)):
            for is_causal in (False, True):
                assert_twins(
                    scaled_dot_product_attention, ops.scaled_dot_product_attention, q, k, v, mask, is_causal=is_causal
                )


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_and_layouts(is_causal: bool, masked: bool) -> None:
    q, k, v = qkv(2, queries=5, keys=8)
    mask = (some_mask(5, 8),) if masked else ()
    leaves = tuple(t.clone().requires_grad_() for t in (q, k, v))
    assert torch.autograd.gradcheck(
        lambda q, k, v: scaled_dot_product_attention(q, k, v, *mask, is_causal=is_causal), leaves
    )
    assert_strides(scaled_dot_product_attention, q, k, v, *mask, is_causal=is_causal)


def test_a_row_without_keys_is_zero_and_gives_no_gradient() -> None:
    q, k, v = (t.requires_grad_() for t in qkv(2))
    mask = torch.ones(9, 9, dtype=torch.bool)
    mask[4] = False
    out = scaled_dot_product_attention(q, k, v, mask)
    assert (out[:, 4] == 0).all()
    assert (torch.autograd.grad(out.sum(), q)[0][:, 4] == 0).all()
    nothing = torch.zeros(9, 9, dtype=torch.bool)
    assert_twins(scaled_dot_product_attention, ops.scaled_dot_product_attention, q, k, v, nothing)


@pytest.mark.parametrize("batch", [(0,), (2, 0, 3)])
def test_no_batch_and_no_query(batch: tuple[int, ...]) -> None:
    for queries in (0, 9):
        q, k, v = qkv(*batch, queries=queries)
        assert_twins(scaled_dot_product_attention, ops.scaled_dot_product_attention, q, k, v, is_causal=True)
    q, k, v = qkv(2, queries=0)
    assert_twins(scaled_dot_product_attention, ops.scaled_dot_product_attention, q, k, v)


@pytest.mark.parametrize("size", [30.0, 1e4])
@pytest.mark.parametrize("is_causal", [False, True])
def test_large_scores(size: float, is_causal: bool) -> None:
    """The greatest score of a row may stand in its last tile, or be hidden."""
    q, k, v = qkv(2)
    k = k * torch.linspace(1, size, 9, dtype=torch.float64).unsqueeze(-1)
    for keys in (k, k.flip(-2)):
        assert_twins(scaled_dot_product_attention, ops.scaled_dot_product_attention, q, keys, v, is_causal=is_causal)


def test_a_hidden_key_has_no_influence() -> None:
    q, k, v = qkv(2)
    far = torch.zeros(9, 1, dtype=torch.float64)
    far[5:] = 1e6
    now = scaled_dot_product_attention(q, k, v, is_causal=True)[:, :5]
    assert torch.equal(scaled_dot_product_attention(q, k + far, v + far, is_causal=True)[:, :5], now)


def test_other_dtypes_of_values_and_autocast() -> None:
    q, k, v = qkv(2, dtype=torch.float32)
    expected = ops.scaled_dot_product_attention(q, k, v)
    for other in (torch.float64, torch.bfloat16):
        mixed = scaled_dot_product_attention(q, k, v.to(other))
        assert mixed.dtype == torch.float32
        torch.testing.assert_close(mixed, expected, rtol=0.02, atol=0.02)
    with torch.autocast("cpu", torch.bfloat16):
        low = scaled_dot_product_attention(q, k.bfloat16(), v, is_causal=True)
        spec = ops.scaled_dot_product_attention(q, k.bfloat16(), v, is_causal=True)
    assert low.dtype == spec.dtype == torch.float32
    assert_close(low, spec, "value", torch.bfloat16)


def test_a_model_keeps_its_state_and_its_meaning() -> None:
    config = ModelConfig(vocab_size=13, context_length=16, d_model=16, d_ff=24, n_layers=2, n_heads=4, n_kv_heads=2)
    models = [
        TransformerLM(config, attention_fn=fn, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        for fn in (scaled_dot_product_attention, ops.scaled_dot_product_attention)
    ]
    ours, theirs = models
    ids = torch.arange(24).reshape(2, 12) % 13
    assert list(ours.state_dict()) == list(theirs.state_dict())
    torch._dynamo.reset()
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    outputs = [ours(ids), theirs(ids), compiled(ids)]
    grads = [
        torch.autograd.grad(out.square().sum(), list(model.parameters()))
        for out, model in zip(outputs, (ours, theirs, ours), strict=True)
    ]
    for out, grad in zip(outputs, grads, strict=True):
        torch.testing.assert_close(out, outputs[1], rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(grad, grads[1], rtol=1e-9, atol=1e-9)
    whole, cache = ours(ids), None
    for part in torch.split(ids, [5, 1, 6], dim=1):
        logits, cache = ours.extend(part, cache)
    torch.testing.assert_close(logits, whole[:, 6:], rtol=1e-11, atol=1e-11)


def test_knows_its_shapes_without_values() -> None:
    inputs = qkv(2, 3, queries=5)
    with FakeTensorMode() as mode:
        fake = [mode.from_tensor(t).requires_grad_() for t in inputs]
        out = scaled_dot_product_attention(*fake, is_causal=True)
        assert (out.shape, out.dtype) == ((2, 3, 5, 6), torch.float64)
        assert [g.shape for g in torch.autograd.grad(out.sum(), fake)] == [t.shape for t in inputs]
    q, k, v = (t.to("meta") for t in inputs)
    assert scaled_dot_product_attention(q, k, v).shape == (2, 3, 5, 6)


def test_compiles_for_all_sizes() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(scaled_dot_product_attention, fullgraph=True, backend="aot_eager", dynamic=True)
    for n in (6, 9, 20):
        inputs = qkv(2, queries=n, keys=n)
        assert_twins(compiled, ops.scaled_dot_product_attention, *inputs, some_mask(n, n), is_causal=True)


def test_a_second_derivative_is_refused() -> None:
    q, k, v = (t.requires_grad_() for t in qkv(2))
    (grad,) = torch.autograd.grad(scaled_dot_product_attention(q, k, v).sum(), q, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        grad.sum().backward()  # type: ignore[no-untyped-call]  # torch's


def test_refuses_what_the_specification_refuses() -> None:
    q, k, v = qkv(2)
    for inputs, options in (
        ((q, k[:, :5], v[:, :5]), {"is_causal": True}),
        ((q, k[:, :5], v), {}),
        ((q, k[..., :3], v), {}),
        ((q[..., :0], k[..., :0], v), {}),
        ((q, k[:, :0], v[:, :0]), {}),
        ((q, k.float(), v), {}),
        ((q.long(), k, v), {}),
        ((q, k, v, torch.ones(9, 9)), {}),
        ((q, k, v, torch.ones(9, 8, dtype=torch.bool)), {}),
        ((q, k, v, torch.ones(3, 9, 9, dtype=torch.bool)), {}),
        ((q, k, v), {"is_causal": 1}),
    ):
        assert_both_refuse(scaled_dot_product_attention, ops.scaled_dot_product_attention, *inputs, **options)


def test_has_the_signature_of_the_specification() -> None:
    spec = ops.scaled_dot_product_attention
    assert str(inspect.signature(scaled_dot_product_attention)) == str(inspect.signature(spec))
    assert isinstance(scaled_dot_product_attention, ops.AttentionFn)


def test_a_tile_is_as_large_as_a_cache_and_hidden_ones_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int, int]] = []
    make = kernels._Tiles.__call__

    def watched(tiles: Any, heads: slice, rows: slice, cols: slice) -> Tensor:
        assert rows.stop - 1 >= cols.start, "every pair of this tile is hidden"
        tile = make(tiles, heads, rows, cols)
        seen.append((tile.shape[0], tile.shape[1], tile.shape[2]))
        return tile

    monkeypatch.setattr(kernels._Tiles, "__call__", watched)
    q, k, v = (t.requires_grad_() for t in qkv(5, queries=40, keys=40))
    scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward()  # type: ignore[no-untyped-call]  # torch's
    assert len(seen) > 60
    assert max(h * r * c for h, r, c in seen) <= kernels.IN_CACHE
    assert sum(h * r * c for h, r, c in seen) < 0.7 * 2 * 5 * 40 * 40
