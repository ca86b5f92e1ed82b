"""Training on the device against float64 on the CPU, with autocast, accumulation and torch.compile; no waiting."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import pytest
import torch
from torch import Tensor

from tests.gpu.cases_ops import MODEL, MODEL_TERMS
from tests.gpu.compare import GRADIENT, ON_DEVICE, assert_close, bound, no_synchronisation
from tests.gpu.training import CONFIG, OPTIMIZERS, Training, batch, start

pytestmark = ON_DEVICE

STEPS: Final = 4

AUTOCAST = pytest.mark.parametrize("autocast", [None, torch.bfloat16], ids=["float32", "autocast to bfloat16"])
ACCUMULATION = pytest.mark.parametrize("parts", [1, 4], ids=["whole batch", "in four parts"])
OPTIMIZER = pytest.mark.parametrize("name", OPTIMIZERS)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """torch.compile with nothing remembered from another test."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@OPTIMIZER
@ACCUMULATION
@AUTOCAST
def test_steps_agree_with_float64_on_the_cpu(
    name: str, parts: int, autocast: torch.dtype | None, gpu_device: torch.device
) -> None:
    training = start(name, gpu_device, products=autocast)
    check_steps(training, start(name, "cpu", torch.float64), grad_accumulation=parts, autocast=autocast)


@AUTOCAST
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.filterwarnings("ignore")  # the compiler's advice on speed, and what it uses that is deprecated
def test_compiled_steps_agree_with_float64_on_the_cpu(autocast: torch.dtype | None, gpu_device: torch.device) -> None:
    config = replace(CONFIG, n_layers=1)
    training = start("adamw", gpu_device, config=config, compiled=True)
    check_steps(training, start("adamw", "cpu", torch.float64, config=config), grad_accumulation=2, autocast=autocast)


def check_steps(
    training: Training, reference: Training, *, grad_accumulation: int, autocast: torch.dtype | None
) -> None:
    found = curve(training, grad_accumulation=grad_accumulation, autocast=autocast)
    exact = curve(reference)
    # A loss is the mean of 96 errors, some of them up and some down; what moved a parameter saw every gradient.
    factors = {"losses": 1 / 8, "gradient norms": GRADIENT}
    for what, got in found.items():
        factor = factors.get(what, GRADIENT * STEPS)
        within = bound(autocast or torch.float32, roundings=MODEL, terms=MODEL_TERMS, factor=factor)
        assert_close(got, exact[what], device=training.device, within=within, what=f"{what}, {autocast}")


def curve(training: Training, **options: Any) -> dict[str, Tensor]:
    """Losses and gradient norms of a few steps, and how far these moved each parameter."""
    before = {name: value.detach().clone() for name, value in training.model.named_parameters()}
    results = [training.update(batch(step, training.device), **options) for step in range(STEPS)]
    losses, norms = (torch.stack(values) for values in zip(*results, strict=True))
    moved = {name: value.detach() - before[name] for name, value in training.model.named_parameters()}
    return {"losses": losses, "gradient norms": norms, **moved}


@OPTIMIZER
@ACCUMULATION
@AUTOCAST
def test_a_step_does_not_wait_for_the_device(
    name: str, parts: int, autocast: torch.dtype | None, gpu_device: torch.device
) -> None:
    training = start(name, gpu_device, products=autocast)
    ahead = batch(0, gpu_device)
    training.update(ahead, grad_accumulation=parts, autocast=autocast)  # makes what is made once, such as workspaces
    with no_synchronisation(gpu_device):
        result = training.update(ahead, grad_accumulation=parts, autocast=autocast)
    state = [value for saved in training.optimizer.state.values() for value in saved.values()]
    tensors = [*training.model.parameters(), *result, *(value for value in state if isinstance(value, Tensor))]
    assert {tensor.device for tensor in tensors} == {gpu_device}
    assert all(parameter.grad is None for parameter in training.model.parameters())


def test_the_watch_sees_the_host_read(gpu_device: torch.device) -> None:
    x = torch.ones(3, device=gpu_device)
    with pytest.raises(RuntimeError, match="synchronizing operation"), no_synchronisation(gpu_device):
        float(x.sum())
