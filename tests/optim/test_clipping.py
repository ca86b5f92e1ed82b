"""Global-norm clipping against float64 and torch, and what it must never do."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import FakeTensorMode

from cs336_basics.contracts import ContractError
from cs336_basics.optim import clip_by_global_norm, clip_grad_norm, global_norm

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@st.composite
def tensor_lists(draw: st.DrawFn) -> list[Tensor]:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    shapes = draw(st.lists(st.sampled_from([(), (1,), (5,), (2, 3), (0, 2), (2, 0)]), min_size=1, max_size=5))
    scales = [draw(st.sampled_from([0.0, 1e-3, 1.0, 100.0])) for _ in shapes]
    dtypes = [draw(st.sampled_from(DTYPES)) for _ in shapes]
    return [
        (torch.randn(shape, generator=generator, dtype=torch.float64) * scale).to(dtype)
        for shape, scale, dtype in zip(shapes, scales, dtypes, strict=True)
    ]


def exact_norm(tensors: list[Tensor]) -> float:
    return math.sqrt(math.fsum(value**2 for tensor in tensors for value in tensor.double().flatten().tolist()))


def with_grads(*grads: Tensor | None) -> list[torch.nn.Parameter]:
    params = []
    for grad in grads:
        params.append(torch.nn.Parameter(torch.zeros(()) if grad is None else torch.zeros_like(grad)))
        params[-1].grad = None if grad is None else grad.clone()
    return params


@given(tensors=tensor_lists())
@settings(deadline=None)
def test_norm_equals_float64_of_any_dtypes(tensors: list[Tensor]) -> None:
    norm = global_norm(tensors)
    assert norm.shape == ()
    assert norm.dtype == (torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32)
    assert norm.item() == pytest.approx(exact_norm(tensors), rel=1e-6)


def test_half_precision_does_not_overflow_the_norm() -> None:
    assert global_norm([torch.full((10_000,), 6e4, dtype=torch.float16)]).item() == pytest.approx(6e6, rel=1e-3)


def test_norm_of_many_entries_keeps_its_digits() -> None:
    """torch.nn.utils.clip_grad_norm_ is off by 1e-4 here, on a CPU."""
    x = torch.randn(5_000, 1_000, generator=torch.Generator().manual_seed(0))
    assert global_norm([x]).item() == pytest.approx(x.double().norm().item(), rel=1e-6)


@given(tensors=tensor_lists(), max_norm=st.floats(1e-3, 1e3))
@settings(deadline=None)
def test_keeps_direction_and_never_grows(tensors: list[Tensor], max_norm: float) -> None:
    clipped, before = clip_by_global_norm(tensors, max_norm)
    kept = [tensor for tensor in clipped if tensor is not None]
    after = exact_norm(kept)
    assert before.item() == pytest.approx(exact_norm(tensors), rel=1e-6)
    assert after <= exact_norm(tensors)
    assert after <= max_norm * (1 + 0.01)  # bfloat16 keeps 8 bits
    for old, new in zip(tensors, kept, strict=True):
        assert new.dtype == old.dtype
        assert new.shape == old.shape
        if before <= max_norm:
            assert torch.equal(new, old)
        else:
            scale = max_norm / (before.item() + 1e-6)
            # Absolute: half of float16's smallest step, met where a gradient nearly vanishes.
            precision = 2 * torch.finfo(old.dtype).eps
            torch.testing.assert_close(new.double(), old.double() * scale, rtol=max(precision, 1e-6), atol=6e-8)


@given(tensors=tensor_lists(), max_norm=st.floats(1e-3, 1e3))
@settings(deadline=None)
def test_in_place_equals_pure_bit_for_bit(tensors: list[Tensor], max_norm: float) -> None:
    before = [tensor.clone() for tensor in tensors]
    pure, norm = clip_by_global_norm(tensors, max_norm)
    assert all(map(torch.equal, tensors, before))
    params = with_grads(*tensors)
    grads = [param.grad for param in params]
    assert torch.equal(clip_grad_norm(params, max_norm), norm)
    for param, grad, expected in zip(params, grads, pure, strict=True):
        assert param.grad is grad
        assert grad is not None
        assert expected is not None
        assert torch.equal(grad, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("max_norm", [1e-2, 1.0, 1e3, math.inf])
def test_equals_torch(dtype: torch.dtype, max_norm: float) -> None:
    ours = with_grads(*(torch.randn(shape, dtype=dtype) for shape in [(5, 5), (7,), (2, 3, 4)]), None)
    theirs = copy.deepcopy(ours)
    for old, new in zip(ours, theirs, strict=True):
        new.grad = None if old.grad is None else old.grad.clone()
    torch.testing.assert_close(clip_grad_norm(ours, max_norm), torch.nn.utils.clip_grad_norm_(theirs, max_norm))
    for old, new in zip(ours, theirs, strict=True):
        torch.testing.assert_close(old.grad, new.grad, rtol=1e-6, atol=0.0)


def test_at_the_limit_nothing_changes() -> None:
    [clipped], norm = clip_by_global_norm([torch.tensor([3.0, 4.0])], 5.0)
    assert norm.item() == 5
    assert clipped is not None
    assert clipped.tolist() == [3.0, 4.0]


def test_missing_and_zero_gradients() -> None:
    assert global_norm([]).item() == global_norm([None, None]).item() == global_norm([torch.zeros(3)]).item() == 0
    params = with_grads(None, torch.tensor([30.0, 40.0]), None, torch.zeros(2))
    assert clip_grad_norm(iter(params), 1.0).item() == 50
    assert params[0].grad is None
    assert params[1].grad is not None
    assert params[1].grad.tolist() == pytest.approx([0.6, 0.8])
    assert clip_grad_norm(with_grads(None, None), 1.0).item() == 0
    assert clip_grad_norm(with_grads(torch.zeros(2)), 1.0).item() == 0
    assert clip_by_global_norm([None], 1.0)[0] == [None]


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_norm_that_is_not_finite_leaves_everything_as_it_is(bad: float) -> None:
    grads = [torch.tensor([1.0, bad]), torch.tensor([1e10])]
    params = with_grads(*grads)
    assert not clip_grad_norm(params, 1.0).isfinite()
    for param, grad in zip(params, grads, strict=True):
        torch.testing.assert_close(param.grad, grad, rtol=0.0, atol=0.0, equal_nan=True)


def test_leaves_no_trace_for_autograd() -> None:
    param = torch.nn.Parameter(torch.full((2,), 3.0))
    param.grad = torch.autograd.grad(param.pow(3).sum(), param, create_graph=True)[0]
    history = param.grad.grad_fn
    assert not clip_grad_norm([param], 1.0).requires_grad
    assert param.grad.grad_fn is history


def test_never_reads_a_tensor_on_the_host() -> None:
    with FakeTensorMode():
        params = with_grads(torch.ones(3), None, torch.ones(2, 2).bfloat16())
        assert clip_grad_norm(params, 1.0).shape == ()


def test_traces_in_one_graph() -> None:
    counter = CompileCounter()
    compiled = torch.compile(clip_by_global_norm, fullgraph=True, backend=counter)
    grads = [torch.randn(3), None, torch.randn(2, 2)]
    (ours, _, _), norm = compiled(grads, 0.5)
    (expected, _, _), expected_norm = clip_by_global_norm(grads, 0.5)
    torch.testing.assert_close([ours, norm], [expected, expected_norm])
    assert counter.frame_count == 1


@pytest.mark.parametrize("clip", [clip_by_global_norm, clip_grad_norm])
def test_refuses_bad_arguments(clip: Callable[..., Any]) -> None:
    good = with_grads(torch.ones(2))
    name = clip.__name__
    for max_norm in (0.0, -1.0, math.nan):
        with pytest.raises(ContractError, match=f"^{name}: max_norm must be above 0"):
            clip(good, max_norm)
    with pytest.raises(ContractError, match="max_norm must be float"):
        clip(good, "1")
    with pytest.raises(ContractError, match=f"^{name}: eps must"):
        clip(good, 1.0, eps=-1e-6)
    with pytest.raises(ContractError, match=f"^{name}: .* must be a list of tensors, got a single one"):
        clip(good[0], 1.0)
    with pytest.raises(ContractError, match="must be"):
        clip([1.0], 1.0)


def test_refuses_bad_tensors() -> None:
    with pytest.raises(ContractError, match=r"must be floating, got torch.int64"):
        global_norm([torch.ones(2), torch.ones(2, dtype=torch.int64)])
    with pytest.raises(ContractError, match="must be floating"):
        global_norm([torch.ones(2, dtype=torch.complex64)])
    with pytest.raises(ContractError, match="must be dense"):
        global_norm([torch.ones(2).to_sparse()])
    with pytest.raises(ContractError, match="must be a list of tensors"):
        global_norm(torch.ones(2))
