"""sgd_update against closed forms and torch.optim.SGD."""

import math
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from cs336_basics.contracts import ContractError
from cs336_basics.optim import SGD, SGDState, sgd_init, sgd_update

OPTIONS: dict[str, Any] = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "lr_decay": "none"}


@given(
    lr=st.floats(0, 1),
    curvature=st.floats(0.01, 1),
    steps=st.integers(1, 40),
    lr_decay=st.sampled_from(["none", "inverse_sqrt"]),
)
@settings(deadline=None, max_examples=40)
def test_descends_a_parabola_in_closed_form(
    lr: float, curvature: float, steps: int, lr_decay: Literal["none", "inverse_sqrt"]
) -> None:
    start = torch.tensor([1.0, -2.0], dtype=torch.float64)
    theta, state = start, sgd_init(start)
    for _ in range(steps):
        theta, state = sgd_update(theta, curvature * theta, state, **{**OPTIONS, "lr": lr, "lr_decay": lr_decay})
    rates = [lr / math.sqrt(t + 1) if lr_decay == "inverse_sqrt" else lr for t in range(steps)]
    factor = math.prod(1 - rate * curvature for rate in rates)
    torch.testing.assert_close(theta, start * factor, rtol=1e-12, atol=1e-14)
    assert state == SGDState(steps, None)


def test_decays_the_rate_as_the_course_does() -> None:
    param = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = SGD([param], lr=3.0, lr_decay="inverse_sqrt")
    for _ in range(100):
        param.grad = torch.ones(1, dtype=torch.float64)
        optimizer.step()
    assert param.item() == pytest.approx(-sum(3 / math.sqrt(t + 1) for t in range(100)), rel=1e-14)


@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.0, 0.0), (0.9, 0.0), (0.0, 0.1)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-5)])
def test_equals_torch(momentum: float, weight_decay: float, dtype: torch.dtype, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(2)
    start = torch.randn(4, 5, generator=generator, dtype=dtype)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    # Without momentum, decoupled decay and torch's, which is added to the gradient, are the same.
    optimizer = SGD([ours], lr=0.01, momentum=momentum, weight_decay=weight_decay)
    oracle = torch.optim.SGD([theirs], lr=0.01, momentum=momentum, weight_decay=weight_decay)
    for _ in range(300):
        grad = torch.randn(4, 5, generator=generator, dtype=dtype)
        ours.grad, theirs.grad = grad.clone(), grad.clone()
        optimizer.step()
        oracle.step()
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_decay_alone_is_geometric_and_stays_out_of_the_momentum() -> None:
    start = torch.tensor([1.0, -3.0], dtype=torch.float64)
    theta, state = start, sgd_init(start)
    for _ in range(20):
        options = {**OPTIONS, "momentum": 0.9, "weight_decay": 0.5}
        theta, state = sgd_update(theta, torch.zeros(2, dtype=torch.float64), state, **options)
    torch.testing.assert_close(theta, start * 0.95**20, rtol=1e-14, atol=0.0)
    assert state.momentum_buffer is not None
    assert state.momentum_buffer.count_nonzero() == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_writes_no_argument(dtype: torch.dtype) -> None:
    param, grad = torch.randn(6).to(dtype), torch.randn(6).to(dtype)
    options = {**OPTIONS, "momentum": 0.9}
    _, state = sgd_update(param, grad, sgd_init(param), **options)
    buffer = state.momentum_buffer
    assert buffer is not None
    assert buffer.dtype == torch.promote_types(dtype, torch.float32)
    arguments: list[Tensor] = [param, grad, buffer]
    before, versions = [a.clone() for a in arguments], [a._version for a in arguments]
    theta, _ = sgd_update(param, grad, state, **options)
    assert [a._version for a in arguments] == versions
    assert all(map(torch.equal, arguments, before))
    assert theta.dtype == dtype


def test_traces_in_one_graph_for_all_steps() -> None:
    counter = CompileCounter()
    compiled = torch.compile(sgd_update, fullgraph=True, backend=counter)
    options = {**OPTIONS, "lr_decay": "inverse_sqrt"}
    theta = expected = torch.ones(3)
    state = expected_state = sgd_init(theta)
    for _ in range(12):
        theta, state = compiled(theta, torch.ones(3), state, **options)
        expected, expected_state = sgd_update(expected, torch.ones(3), expected_state, **options)
    torch.testing.assert_close(theta, expected)
    assert state == expected_state
    assert counter.frame_count <= 2


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("lr", -1.0),
        ("lr", math.nan),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("weight_decay", -1.0),
        ("lr_decay", "cosine"),
    ],
)
def test_refuses_bad_options(argument: str, value: object) -> None:
    param = torch.ones(2)
    with pytest.raises(ContractError, match=f"^sgd_update: {argument} must"):
        sgd_update(param, param, sgd_init(param), **{**OPTIONS, argument: value})
    with pytest.raises(ContractError, match=argument):
        SGD([torch.nn.Parameter(param)], **{**OPTIONS, argument: value})


def test_refuses_bad_tensors() -> None:
    param = torch.ones(2)
    with pytest.raises(ContractError, match="grad must be"):
        sgd_update(param, torch.ones(3), sgd_init(param), **OPTIONS)
    with pytest.raises(ContractError, match="grad must be dense"):
        sgd_update(param, param.to_sparse(), sgd_init(param), **OPTIONS)
    with pytest.raises(ContractError, match=r"state\.momentum_buffer must be"):
        sgd_update(param, param, SGDState(1, torch.ones(3)), **{**OPTIONS, "momentum": 0.9})
