"""Checkpoints written on the device, read on the CPU, and back: every bit of the state, and what follows from it."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cs336_basics.train.checkpoint import load_checkpoint, save_checkpoint
from tests.gpu.compare import ON_DEVICE
from tests.gpu.training import OPTIMIZERS, Training, batch, start

pytestmark = ON_DEVICE

OPTIMIZER = pytest.mark.parametrize("name", OPTIMIZERS)


def trained(name: str, device: torch.device | str, *, steps: int) -> Training:
    training = start(name, device)
    for step in range(steps):
        training.update(batch(step, device))
    return training


def states(training: Training) -> list[tuple[str, Any]]:
    """Every tensor and number of a checkpoint, with its name."""
    optimizer = training.optimizer.state_dict()
    kept = [(f"{i}.{key}", value) for i, saved in optimizer["state"].items() for key, value in saved.items()]
    return [*training.model.state_dict().items(), *kept, ("groups", optimizer["param_groups"])]


def assert_same(found: Training, expected: Training, *, device: torch.device) -> None:
    for (name, got), (wanted, value) in zip(states(found), states(expected), strict=True):
        assert name == wanted
        if isinstance(value, Tensor):
            assert got.device == device, name
            assert got.dtype == value.dtype, name
            assert torch.equal(got.cpu(), value.cpu()), name
        else:
            assert got == value, name


@OPTIMIZER
def test_device_to_cpu_and_back_keeps_every_bit(name: str, tmp_path: Path, gpu_device: torch.device) -> None:
    training = trained(name, gpu_device, steps=3)
    save_checkpoint(training.model, training.optimizer, 3, tmp_path / "device.pt")
    on_cpu = start(name, "cpu")
    assert load_checkpoint(tmp_path / "device.pt", on_cpu.model, on_cpu.optimizer) == 3
    assert_same(on_cpu, training, device=torch.device("cpu"))
    file = io.BytesIO()
    save_checkpoint(on_cpu.model, on_cpu.optimizer, 3, file)
    file.seek(0)
    back = trained(name, gpu_device, steps=1)  # whose state must be replaced
    assert load_checkpoint(file, back.model, back.optimizer) == 3
    assert_same(back, training, device=gpu_device)


@OPTIMIZER
def test_a_resumed_run_goes_on_bit_for_bit(name: str, tmp_path: Path, deterministic: torch.device) -> None:
    unbroken = trained(name, deterministic, steps=2)
    save_checkpoint(unbroken.model, unbroken.optimizer, 2, tmp_path / "at-2.pt")
    resumed = start(name, deterministic)
    first = load_checkpoint(tmp_path / "at-2.pt", resumed.model, resumed.optimizer)
    for step in range(first, first + 3):
        losses = [training.update(batch(step, deterministic)).loss for training in (unbroken, resumed)]
        assert torch.equal(*losses)
    assert_same(resumed, unbroken, device=deterministic)
