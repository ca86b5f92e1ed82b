"""Small parameters, an optimizer of each kind and a few updates, for the tests of what the wrappers share."""

import io
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from cs336_basics.optim import SGD, AdamW, Muon

Make = Callable[[Iterable[Any]], Optimizer]


def make_sgd(params: Iterable[Any]) -> SGD:
    return SGD(params, lr=0.1, momentum=0.9, weight_decay=0.1, lr_decay="inverse_sqrt")


def make_adamw(params: Iterable[Any]) -> AdamW:
    return AdamW(params, lr=0.1, betas=(0.8, 0.9))


def make_muon(params: Iterable[Any]) -> Muon:
    return Muon(params, lr=0.1, ns_dtype=torch.float32)


every = pytest.mark.parametrize("make", [make_sgd, make_adamw, make_muon])


def parameters(dtype: torch.dtype = torch.float32) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(3, 4, generator=generator).to(dtype)) for _ in range(2)]


def train(params: list[torch.nn.Parameter], optimizer: Optimizer, seeds: Iterable[int]) -> None:
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator).to(param.dtype)
        optimizer.step()


def through_file(value: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def assert_same(left: Any, right: Any) -> None:
    """Equal bit for bit, in type, dtype and value, through nested containers."""
    assert type(left) is type(right)
    if isinstance(left, Tensor):
        assert left.dtype == right.dtype
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list | tuple):
        for a, b in zip(left, right, strict=True):
            assert_same(a, b)
    else:
        assert left == right
