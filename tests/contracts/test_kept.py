"""Every way to write an argument is seen; reading one is not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from cs336_basics.contracts.law.kept import kept


def written(act: Callable[[dict[str, Any]], object]) -> list[str]:
    x = torch.arange(6.0).reshape(2, 3)
    parameter = nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    arguments: dict[str, Any] = {"x": x, "many": [torch.ones(1), {"deep": torch.ones(1)}], "weight": parameter}
    watched = list(kept(arguments, {id(x): "x.path"}, [torch.zeros(2)]))
    act(arguments)
    return [name for name, is_kept in watched if not is_kept()]


@pytest.mark.parametrize(
    ("act", "name"),
    [
        (lambda given: given["x"].mul_(2), "x.path"),
        (lambda given: given["x"].add_(0), "x.path"),
        (lambda given: given["x"].data.fill_(7), "x.path"),
        (lambda given: given["x"][0].zero_(), "x.path"),
        (lambda given: given["x"].t_(), "x.path"),
        (lambda given: given["x"].resize_(3), "x.path"),
        (lambda given: given["many"].append(1), "many"),
        (lambda given: given["many"][1].update(deep=torch.ones(1)), "many"),
        (lambda given: given["many"][1]["deep"].zero_(), "many"),
        (lambda given: given["weight"].grad.mul_(2), "weight"),
        (lambda given: setattr(given["weight"], "grad", None), "weight"),
    ],
)
def test_writing_is_seen(act: Callable[[dict[str, Any]], object], name: str) -> None:
    assert name in written(act)


def test_reading_is_not() -> None:
    def reads(given: dict[str, Any]) -> object:
        given["x"].view(-1).sum()
        return given["x"] + given["many"][0].sum() + given["weight"].grad.sum()

    assert written(reads) == []
