"""What stands in for an operator makes the shape, dtype and device that the operator makes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from cs336_basics.contracts.proof.standins import FUNCTIONS, StandIns, operator


class Replaced(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Every operator by its stand-in."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return operator(func)(*args, **(kwargs or {}))


X = torch.arange(24.0).reshape(2, 3, 4)
AT = torch.tensor([[[0], [1], [3]], [[2], [0], [1]]])
CALLS: list[Callable[[], Tensor]] = [
    lambda: torch.nn.functional.pad(X, (1, 2)),
    lambda: torch.nn.functional.pad(X, (0, 0, -1, 3), value=2.0),
    lambda: torch.take_along_dim(X, AT, dim=-1),
    lambda: X.take_along_dim(AT[:1], dim=2),
    lambda: torch.take_along_dim(X, AT),
    lambda: torch.polar(X.abs(), X),
]
SHAPES_ONLY: list[Callable[[], Tensor]] = [
    lambda: torch.linspace(0, 1, 5),
    lambda: torch.linspace(0, 1, 5, dtype=torch.float64),
    lambda: torch.randn(2, 3, generator=torch.Generator()),
    lambda: torch.rand((2, 3), dtype=torch.float64, generator=torch.Generator()),
    lambda: torch.randint(5, (2, 3), generator=torch.Generator()),
    lambda: torch.randint(2, 5, (2, 3), generator=torch.Generator()),
    lambda: torch.randperm(5, generator=torch.Generator()),
    lambda: torch.multinomial(X[0].abs() + 1, 2, generator=torch.Generator()),
    lambda: torch.empty(2, 3).normal_(generator=torch.Generator()),
    lambda: torch.bernoulli(torch.full((3,), 0.5), generator=torch.Generator()),
]


@pytest.mark.parametrize("call", CALLS)
def test_the_same_values(call: Callable[[], Tensor]) -> None:
    truth = call()
    with StandIns(), Replaced():  # type: ignore[no-untyped-call]  # torch's
        found = call()
    torch.testing.assert_close(found, truth)


@pytest.mark.parametrize("call", SHAPES_ONLY)
def test_the_same_shape_and_dtype(call: Callable[[], Tensor]) -> None:
    truth = call()
    with StandIns(), Replaced():  # type: ignore[no-untyped-call]  # torch's
        found = call()
    assert (found.shape, found.dtype, found.device) == (truth.shape, truth.dtype, truth.device)


def test_a_function_without_a_stand_in_is_itself() -> None:
    assert torch.sin not in FUNCTIONS
    with StandIns(), Replaced():  # type: ignore[no-untyped-call]  # torch's
        torch.testing.assert_close(torch.sin(X), X.sin())
