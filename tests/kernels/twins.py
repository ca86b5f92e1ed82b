"""Support for the tests of kernels: a kernel and its specification, side by side in values, gradients and failures."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from cs336_basics.contracts import ContractError

# Relative to the largest entry. Both twins round, each in its own order, and differences of rounded numbers cancel;
TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-5, torch.bfloat16: 0.1, torch.float16: 0.02}

Function = Callable[..., Tensor]


def assert_twins(kernel: Function, spec: Function, *inputs: Any, **options: Any) -> None:
    """The same values and the same gradients for everything that is floating point, in the same dtypes."""
    results = []
    for function in (kernel, spec):
        leaves = [x.detach().clone().requires_grad_() if _is_float(x) else x for x in inputs]
        value = function(*leaves, **options)
        cotangent = torch.linspace(-1, 2, max(value.numel(), 1), dtype=torch.float64)[: value.numel()]
        wanted = [leaf for leaf in leaves if _is_float(leaf)]
        grads = torch.autograd.grad(value, wanted, cotangent.reshape(value.shape).to(value.dtype))
        results.append((value.detach(), *grads))
    for place, (mine, theirs) in enumerate(zip(*results, strict=True)):
        assert_close(mine, theirs, f"gradient {place}" if place else "value", inputs[0].dtype)


def assert_close(mine: Tensor, theirs: Tensor, what: str, dtype: torch.dtype) -> None:
    assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype), what
    assert mine.isfinite().all(), what
    if mine.numel():
        error = (mine.double() - theirs.double()).abs().max()
        assert error <= TOLERANCE[dtype] * max(1.0, theirs.double().abs().max().item()), f"{what}: off by {error}"


def assert_both_refuse(kernel: Function, spec: Function, *inputs: Any, **options: Any) -> None:
    """A ContractError of both, with the same words."""
    messages = []
    for function in (kernel, spec):
        with pytest.raises(ContractError) as caught:
            function(*inputs, **options)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def _is_float(x: Any) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point()
