"""adamw_update against torch.optim.AdamW, and the invariants of the update."""

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from cs336_basics.contracts import ContractError
from cs336_basics.optim import AdamW, AdamWState, adamw_init, adamw_update

OPTIONS: dict[str, Any] = {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}


def gradients(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Six gradients of widely varying scale, none of them zero."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=dtype) * 10 ** (step - 3) for step in range(6)]


def run(param: Tensor, grads: list[Tensor], **options: Any) -> tuple[Tensor, AdamWState]:
    state = adamw_init(param)
    for grad in grads:
        param, state = adamw_update(param, grad, state, **{**OPTIONS, **options})
    return param, state


# Tolerances are relative to lr · steps, the distance a parameter may travel: 1e-14 is about 50 float64 roundings.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 5e-6)])
@pytest.mark.parametrize(
    ("betas", "eps", "weight_decay", "lr"),
    [
        ((0.9, 0.999), 1e-8, 0.01, 1e-3),
        ((0.9, 0.95), 1e-8, 0.1, 1e-2),
        ((0.0, 0.99), 1e-3, 0.0, 1e-2),
        ((0.95, 0.0), 1e-8, 0.3, 1e-3),
        ((0.0, 0.0), 1e-6, 0.1, 1e-3),
        ((0.9, 0.999), 0.0, 0.0, 1e-1),
    ],
)
def test_equals_torch_over_a_long_random_run(
    betas: tuple[float, float], eps: float, weight_decay: float, lr: float, dtype: torch.dtype, tolerance: float
) -> None:
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(5, 7, generator=generator, dtype=dtype)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    options: dict[str, Any] = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
    optimizer, oracle = AdamW([ours], **options), torch.optim.AdamW([theirs], **options)
    steps = 500
    for step in range(steps):
        grad = torch.randn(5, 7, generator=generator, dtype=dtype) * 10 ** (3 * math.sin(step / 20))
        ours.grad, theirs.grad = grad.clone(), grad.clone()
        optimizer.step()
        oracle.step()
    assert (ours - theirs).abs().max().item() <= tolerance * lr * steps
    for name in ("exp_avg", "exp_avg_sq"):
        state = optimizer.state[ours][name]
        torch.testing.assert_close(state, oracle.state[theirs][name], rtol=100 * tolerance, atol=1e-30)
    assert optimizer.state[ours]["step"] == steps


@given(seed=st.integers(0, 2**32), power=st.integers(-10, 10))
@settings(deadline=None, max_examples=25)
def test_scaled_gradients_give_the_same_step_bit_for_bit_without_eps(seed: int, power: int) -> None:
    param = torch.randn(33, generator=torch.Generator().manual_seed(seed))
    grads = gradients(33, seed=seed)
    plain, _ = run(param, grads, eps=0.0)
    scaled, _ = run(param, [grad * 2.0**power for grad in grads], eps=0.0)
    assert plain.isfinite().all()
    assert torch.equal(plain, scaled)


@given(seed=st.integers(0, 2**32), lr=st.floats(1e-6, 1.0), exponent=st.integers(-12, 12))
@settings(deadline=None, max_examples=25)
def test_first_step_is_lr_against_the_sign(seed: int, lr: float, exponent: int) -> None:
    grad = gradients(9, seed=seed, dtype=torch.float64)[0] * 10.0**exponent
    theta, _ = run(torch.zeros(9, dtype=torch.float64), [grad], lr=lr, eps=0.0, weight_decay=0.0)
    torch.testing.assert_close(theta, -lr * grad.sign(), rtol=1e-14, atol=0.0)


@given(lr=st.floats(0, 0.5), weight_decay=st.floats(0, 1), steps=st.integers(1, 30))
@settings(deadline=None, max_examples=25)
def test_decay_alone_is_geometric(lr: float, weight_decay: float, steps: int) -> None:
    param = torch.tensor([1.0, -3.0, 1e6], dtype=torch.float64)
    theta, _ = run(param, [torch.zeros(3, dtype=torch.float64)] * steps, lr=lr, weight_decay=weight_decay)
    torch.testing.assert_close(theta, param * (1 - lr * weight_decay) ** steps, rtol=1e-14, atol=0.0)


def test_decay_does_not_enter_the_moments() -> None:
    grads = gradients(4, seed=0)
    without, with_decay = run(torch.ones(4), grads, weight_decay=0.0)[1], run(torch.ones(4), grads)[1]
    assert torch.equal(without.exp_avg, with_decay.exp_avg)
    assert torch.equal(without.exp_avg_sq, with_decay.exp_avg_sq)


def test_two_steps_by_hand() -> None:
    theta, state = run(torch.tensor([1.0]), [torch.tensor([1.0]), torch.tensor([-2.0])], betas=(0.5, 0.5), eps=0.0)
    # Step 1: m = 0.5, v = 0.5, so that m̂ / sqrt(v̂) = 1. Step 2: m = -0.75, v = 2.25; m̂ = -1, v̂ = 3.
    first = 1 * (1 - 1e-3) - 1e-2
    assert theta.item() == pytest.approx(first * (1 - 1e-3) + 1e-2 / math.sqrt(3), rel=1e-6)
    assert (state.step, state.exp_avg.item(), state.exp_avg_sq.item()) == (2, -0.75, 2.25)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_writes_no_argument_and_keeps_moments_in_float32_at_least(dtype: torch.dtype) -> None:
    param, grad = torch.randn(6).to(dtype), torch.randn(6).to(dtype)
    state = adamw_init(param)
    _, state = adamw_update(param, grad, state, **OPTIONS)
    arguments = [param, grad, state.exp_avg, state.exp_avg_sq]
    before, versions = [a.clone() for a in arguments], [a._version for a in arguments]
    theta, new = adamw_update(param, grad, state, **OPTIONS)
    assert [a._version for a in arguments] == versions
    assert all(map(torch.equal, arguments, before))
    storages = [t.untyped_storage().data_ptr() for t in (*arguments, theta, new.exp_avg, new.exp_avg_sq)]
    assert len(set(storages)) == 7
    assert theta.dtype == dtype
    assert new.exp_avg.dtype == new.exp_avg_sq.dtype == torch.promote_types(dtype, torch.float32)


def test_half_precision_is_the_float32_update_rounded_once() -> None:
    param, grads = torch.randn(64).bfloat16(), [grad.bfloat16() for grad in gradients(64, seed=3)]
    state = adamw_init(param)
    for grad in grads:
        wide, wide_state = adamw_update(param.float(), grad.float(), state, **OPTIONS)
        param, state = adamw_update(param, grad, state, **OPTIONS)
        assert torch.equal(param, wide.bfloat16())
        assert torch.equal(state.exp_avg_sq, wide_state.exp_avg_sq)


def test_shapes_of_every_rank_and_strides() -> None:
    for shape in [(), (0,), (3,), (2, 3), (2, 0, 3), (2, 3, 4)]:
        theta, state = run(torch.ones(shape), [torch.ones(shape)] * 2)
        assert theta.shape == state.exp_avg.shape == torch.Size(shape)
    param, grads = torch.randn(4, 3), gradients(4, 3, seed=5)
    turned, _ = run(param.t(), [grad.t() for grad in grads])
    assert torch.equal(run(param, grads)[0], turned.t())


def test_is_differentiable() -> None:
    state = AdamWState(3, torch.randn(3, dtype=torch.float64), torch.rand(3, dtype=torch.float64) + 0.5)

    def update(param: Tensor, grad: Tensor) -> Tensor:
        return adamw_update(param, grad, state, **OPTIONS)[0]

    inputs = [torch.randn(3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(update, inputs)


def test_never_reads_a_tensor_on_the_host() -> None:
    with FakeTensorMode():
        param = torch.ones(3)
        theta, _ = adamw_update(param, torch.ones(3), adamw_init(param), **OPTIONS)
        assert theta.shape == (3,)
        with pytest.raises(DataDependentOutputException):  # the mode does notice
            param.sum().item()


def test_traces_in_one_graph_for_all_steps() -> None:
    counter = CompileCounter()
    compiled = torch.compile(adamw_update, fullgraph=True, backend=counter)
    param = expected = torch.ones(8)
    state = expected_state = adamw_init(param)
    for step, grad in enumerate(itertools.chain(gradients(8, seed=1), gradients(8, seed=2))):
        options = {**OPTIONS, "lr": 1e-2 / (step + 1)}
        param, state = compiled(param, grad, state, **options)
        expected, expected_state = adamw_update(expected, grad, expected_state, **options)
    torch.testing.assert_close(param, expected, rtol=1e-6, atol=0.0)
    assert state.step == 12
    assert counter.frame_count <= 2  # the first step, and every other one


def train(param: torch.nn.Parameter, optimizer: torch.optim.Optimizer, seed: int) -> None:
    for grad in gradients(*param.shape, seed=seed, dtype=param.dtype):
        param.grad = grad
        optimizer.step()


@pytest.mark.parametrize(("first", "second"), [(AdamW, torch.optim.AdamW), (torch.optim.AdamW, AdamW)])
def test_state_dicts_are_exchanged_with_torch(
    first: Callable[..., torch.optim.Optimizer], second: Callable[..., torch.optim.Optimizer]
) -> None:
    param = torch.nn.Parameter(torch.ones(2, 3, dtype=torch.float64))
    optimizer = first([param], **OPTIONS)
    train(param, optimizer, seed=0)
    twin = torch.nn.Parameter(param.detach().clone())
    other = second([twin])
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert isinstance(other.state[twin]["step"], int if second is AdamW else Tensor)
    train(param, optimizer, seed=1)
    train(twin, other, seed=1)
    torch.testing.assert_close(twin, param, rtol=1e-13, atol=1e-14)


def test_refuses_the_state_of_amsgrad() -> None:
    param = torch.nn.Parameter(torch.ones(2))
    oracle = torch.optim.AdamW([param], amsgrad=True)
    train(param, oracle, seed=0)
    with pytest.raises(ContractError, match=r"state_dict must .* with the state \['max_exp_avg_sq'\]"):
        AdamW([param]).load_state_dict(oracle.state_dict())


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("lr", -1e-3),
        ("lr", math.nan),
        ("lr", math.inf),
        ("lr", "1e-3"),
        ("lr", torch.tensor(1e-3)),
        ("betas", (1.0, 0.9)),
        ("betas", (0.9, 1.0)),
        ("betas", (-0.1, 0.9)),
        ("betas", (0.9, math.nan)),
        ("betas", 0.9),
        ("betas", (0.9,)),
        ("eps", -1e-8),
        ("eps", math.nan),
        ("weight_decay", -0.1),
        ("weight_decay", math.inf),
    ],
)
def test_refuses_bad_options(argument: str, value: object) -> None:
    options = {**OPTIONS, argument: value}
    param = torch.ones(2)
    with pytest.raises(ContractError, match=f"^adamw_update: {argument} must"):
        adamw_update(param, param, adamw_init(param), **options)
    with pytest.raises(ContractError, match=argument):
        AdamW([torch.nn.Parameter(param)], **options)


def test_refuses_bad_tensors() -> None:
    param = torch.ones(2)
    state = adamw_init(param)
    with pytest.raises(ContractError, match="grad must be"):
        adamw_update(param, torch.ones(3), state, **OPTIONS)
    with pytest.raises(ContractError, match="grad must be dense"):
        adamw_update(param, torch.ones(2).to_sparse(), state, **OPTIONS)
    with pytest.raises(ContractError, match="grad must be"):
        adamw_update(param, torch.ones(2, dtype=torch.complex64), state, **OPTIONS)
    with pytest.raises(ContractError, match="param must be"):
        adamw_init(torch.ones(2, dtype=torch.int64))
    with pytest.raises(ContractError, match=r"state.exp_avg must be .* where shape=\(2,\), got tensor float32\(3,\)"):
        adamw_update(param, param, adamw_init(torch.ones(3)), **OPTIONS)
    with pytest.raises(ContractError, match=r"state.exp_avg_sq must be Float32.*bfloat16"):
        adamw_update(param, param, state._replace(exp_avg_sq=torch.zeros(2).bfloat16()), **OPTIONS)
    with pytest.raises(ContractError, match="state must be AdamWState"):
        adamw_update(param, param, (0, param, param), **OPTIONS)  # type: ignore[arg-type]
