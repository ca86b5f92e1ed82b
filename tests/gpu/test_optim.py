"""Every function and class of `optim` on the device against float64 on the CPU."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest
import torch
from torch import Tensor

from cs336_basics.optim import (
    SGD,
    AdamW,
    AdamWState,
    Muon,
    MuonState,
    SGDState,
    adamw_init,
    adamw_update,
    clip_by_global_norm,
    clip_grad_norm,
    cosine_schedule,
    global_norm,
    linear_schedule,
    muon_init,
    muon_update,
    newton_schulz,
    sgd_init,
    sgd_update,
    split_parameters,
    update_each,
    wsd_schedule,
)
from cs336_basics.train.optimizer import Optimizers
from tests.gpu.compare import DTYPES, ON_DEVICE, assert_close, bound, covers, no_synchronisation, normal, wider

pytestmark = ON_DEVICE

STEPS: Final = 8
SHAPES: Final = ((24, 16), (16, 24), (20, 20))
RATE: Final = 0.1

# Five times three products of a matrix with itself; what one rounds is then multiplied by the slopes of the
# polynomials after it, from 3.4 near zero to about -1 where singular values end: say by five.
NEWTON_SCHULZ: Final = 15 * 5**2


def gradients(dtype: torch.dtype, step: int) -> list[Tensor]:
    return [normal(*shape, seed=10 * step + index, dtype=dtype) for index, shape in enumerate(SHAPES)]


def weights(dtype: torch.dtype) -> list[Tensor]:
    return [normal(*shape, seed=index, dtype=dtype) for index, shape in enumerate(SHAPES)]


def on(device: torch.device | str, tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    return [tensor.to(device, dtype) for tensor in tensors]


PURE: Final[dict[str, tuple[Callable[..., Any], Callable[..., Any], dict[str, Any]]]] = {
    "sgd": (sgd_init, sgd_update, {"momentum": 0.9, "lr_decay": "inverse_sqrt", "weight_decay": 0.1}),
    "adamw": (adamw_init, adamw_update, {"betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}),
    "muon": (muon_init, muon_update, {"momentum": 0.95, "weight_decay": 0.1}),
}


@covers(sgd_init, sgd_update, adamw_init, adamw_update, muon_init, muon_update, update_each)
@covers(SGDState, AdamWState, MuonState)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", PURE)
def test_updates_agree_with_float64_on_the_cpu(name: str, dtype: torch.dtype, gpu_device: torch.device) -> None:
    init, update, options = PURE[name]

    def after_steps(device: torch.device | str, wide: torch.dtype) -> tuple[list[Tensor], list[Any]]:
        params = on(device, weights(dtype), wide)
        states = [init(param) for param in params]
        extra = {"ns_dtype": wide} if name == "muon" else {}
        for step in range(STEPS):
            grads = on(device, gradients(dtype, step), wide)
            params, states = update_each(update, params, grads, states, lr=RATE, **options, **extra)
        return params, states

    (params, states), (exact, exact_states) = after_steps(gpu_device, dtype), after_steps("cpu", torch.float64)
    for param, want in zip(params, exact, strict=True):
        # The parameter is rounded at each step.
        within = bound(dtype, roundings=STEPS, terms=4 * STEPS)
        assert_close(param, want, device=gpu_device, within=within, what=f"{name}, {dtype}, parameter")
    for state, want_state in zip(states, exact_states, strict=True):
        for field, want in want_state._asdict().items():
            got = getattr(state, field)
            if not isinstance(want, Tensor):
                assert got == want
                continue
            assert got.dtype == wider(dtype)
            within = bound(wider(dtype), roundings=4 * STEPS)
            assert_close(got, want, device=gpu_device, within=within, what=f"{name}, {dtype}, {field}")


@covers(newton_schulz)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_newton_schulz_agrees_with_float64_on_the_cpu(
    shape: tuple[int, int], dtype: torch.dtype, gpu_device: torch.device
) -> None:
    matrix = normal(*shape, dtype=dtype)
    within = bound(dtype, roundings=NEWTON_SCHULZ, terms=15 * 24)
    found, want = newton_schulz(matrix.to(gpu_device)), newton_schulz(matrix.double())
    assert_close(found, want, device=gpu_device, within=within, what=f"newton_schulz, {shape}, {dtype}")


MAKERS: Final[dict[str, Callable[[Any, torch.dtype], Optimizers]]] = {
    "SGD": lambda params, _: SGD(params, lr=RATE, momentum=0.9, weight_decay=0.1),
    "AdamW": lambda params, _: AdamW(params, lr=RATE, weight_decay=0.1),
    "Muon": lambda params, dtype: Muon(
        [{"params": params[:2]}, {"params": params[2:], "use_muon": False}], lr=RATE, ns_dtype=dtype
    ),
}


def parameters(device: torch.device | str, rounded: torch.dtype, dtype: torch.dtype) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(param) for param in on(device, weights(rounded), dtype)]


def take_steps(
    optimizer: Optimizers, params: Sequence[Tensor], rounded: torch.dtype, steps: Sequence[int], rates: Sequence[float]
) -> None:
    for step, rate in zip(steps, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        for param, grad in zip(params, gradients(rounded, step), strict=True):
            param.grad = grad.to(param.device, param.dtype)
        optimizer.step()


SCHEDULES: Final[dict[str, Callable[[int], float]]] = {
    "cosine": lambda t: cosine_schedule(t, max_lr=RATE, min_lr=0.0, warmup_steps=2, cosine_steps=STEPS),
    "linear": lambda t: linear_schedule(t, max_lr=RATE, min_lr=0.0, warmup_steps=2, linear_steps=STEPS),
    "wsd": lambda t: wsd_schedule(t, max_lr=RATE, min_lr=0.0, warmup_steps=2, stable_steps=5, decay_steps=STEPS),
}


@covers(SGD, AdamW, Muon, cosine_schedule, linear_schedule, wsd_schedule)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", MAKERS)
def test_optimizers_agree_with_float64_on_the_cpu(
    name: str, schedule: str, dtype: torch.dtype, gpu_device: torch.device
) -> None:
    rates = [SCHEDULES[schedule](step) for step in range(STEPS)]
    params, exact = parameters(gpu_device, dtype, dtype), parameters("cpu", dtype, torch.float64)
    optimizer = MAKERS[name](params, dtype)
    take_steps(optimizer, params, dtype, range(STEPS), rates)
    take_steps(MAKERS[name](exact, torch.float64), exact, dtype, range(STEPS), rates)
    for param, want in zip(params, exact, strict=True):
        within = bound(dtype, roundings=STEPS, terms=4 * STEPS)
        assert_close(param.detach(), want.detach(), device=gpu_device, within=within, what=f"{name}, {dtype}")
    kept = [value for state in optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    assert {value.device for value in kept} == {gpu_device}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", MAKERS)
def test_a_saved_state_goes_on_bit_for_bit(name: str, dtype: torch.dtype, gpu_device: torch.device) -> None:
    params = parameters(gpu_device, dtype, dtype)
    optimizer = MAKERS[name](params, dtype)
    take_steps(optimizer, params, dtype, (0, 1, 2), (RATE,) * 3)
    saved = copy.deepcopy(optimizer.state_dict())
    twins = [torch.nn.Parameter(param.detach().clone()) for param in params]
    twin = MAKERS[name](twins, dtype)
    twin.load_state_dict(saved)
    for those, by in ((params, optimizer), (twins, twin)):
        take_steps(by, those, dtype, (3, 4), (RATE,) * 2)
    assert all(torch.equal(a, b) for a, b in zip(params, twins, strict=True))


@pytest.mark.parametrize("name", MAKERS)
def test_step_does_not_wait_for_the_device(name: str, gpu_device: torch.device) -> None:
    params = parameters(gpu_device, torch.float32, torch.float32)
    optimizer = MAKERS[name](params, torch.float32)
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()  # whatever is made once, such as the workspace of cuBLAS, is made here
    with no_synchronisation(gpu_device):
        optimizer.step()


@covers(split_parameters)
def test_split_parameters_returns_the_parameters_themselves(gpu_device: torch.device) -> None:
    named = [(name, torch.ones(shape, device=gpu_device)) for name, shape in (("q", (2, 2)), ("lm_head", (2, 2)))]
    matrices, others = split_parameters([*named, ("ln", torch.ones(2, device=gpu_device))])
    assert [id(matrix) for matrix in matrices] == [id(named[0][1])]
    assert {other.device for other in others} == {gpu_device}


@covers(global_norm, clip_by_global_norm, clip_grad_norm)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("max_norm", [0.5, 1e3])
def test_clipping_agrees_with_float64_on_the_cpu(max_norm: float, dtype: torch.dtype, gpu_device: torch.device) -> None:
    rounded = gradients(dtype, 0)
    grads: list[Tensor | None] = [*on(gpu_device, rounded, dtype), None]
    clipped, norm = clip_by_global_norm(grads, max_norm)
    exact, exact_norm = clip_by_global_norm([grad.double() for grad in rounded], max_norm)
    params = [torch.nn.Parameter(torch.zeros_like(grad)) for grad in grads if grad is not None]
    for param, grad in zip(params, grads, strict=False):
        param.grad = None if grad is None else grad.clone()
    norms = {"clip_by_global_norm": norm, "global_norm": global_norm(grads)}
    norms["clip_grad_norm"] = clip_grad_norm(params, max_norm)
    for name, found in norms.items():
        within = bound(torch.float32, roundings=4, terms=sum(grad.numel() for grad in rounded) // 20)
        assert_close(found, exact_norm, device=gpu_device, within=within, what=f"{name}, {dtype}")
    assert clipped.pop() is None
    for got, param, want in zip(clipped, params, exact, strict=True):
        assert got is not None
        assert param.grad is not None
        assert want is not None
        within = bound(dtype, roundings=2, terms=80)
        assert_close(got, want, device=gpu_device, within=within, what=f"clipped, {dtype}")
        assert_close(param.grad, want, device=gpu_device, within=within, what=f"clipped in place, {dtype}")


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_clipping_leaves_gradients_that_are_no_numbers(bad: float, gpu_device: torch.device) -> None:
    grads = [torch.tensor([1.0, bad], device=gpu_device), torch.tensor([3.0], device=gpu_device)]
    clipped, norm = clip_by_global_norm(grads, 0.1)
    assert not norm.isfinite()
    torch.testing.assert_close(clipped, grads, rtol=0, atol=0, equal_nan=True)


def test_clipping_does_not_wait_for_the_device(gpu_device: torch.device) -> None:
    params = parameters(gpu_device, torch.float32, torch.float32)
    for param in params:
        param.grad = torch.ones_like(param)
    clip_grad_norm(params, 1.0)
    with no_synchronisation(gpu_device):
        clip_grad_norm(params, 1.0)
