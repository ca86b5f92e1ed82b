"""The table of `nox -s contracts`: whom it finds, and when it fails."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
from jaxtyping import Float
from torch import Tensor

from cs336_basics.contracts import contract
from tests.contracts import table
from tests.contracts.given import GIVEN, MODULES, Given


def test_every_public_function_of_tensors_is_found() -> None:
    names = [name for name, _ in table.functions()]
    assert len(names) >= 36
    assert {"ops.linear.linear", "ops.sampling.sample", "optim.adamw.adamw_update", "ops.rope.rope_tables"} <= set(
        names
    )
    assert not {"optim.schedules.cosine_schedule", "ops.attention.linear"} & set(names)
    assert set(GIVEN) <= set(names)


def test_every_public_module_is_found_and_has_an_example() -> None:
    assert "nn.model.TransformerLM" in list(table.modules())
    assert {f"{name}.forward" for name in table.modules()} <= set(MODULES)


def right(x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    return x * 2


def wrong(x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    return x.mul_(2)


@contract(unproved="writes on purpose")
def excused(x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    return x.mul_(2)


@pytest.mark.parametrize(
    ("fn", "code", "words"),
    [
        (right, 0, ["proved, laws hold", "1 functions, 0 broken"]),
        (wrong, 1, ["BROKEN", "writes", "breaks the law 'arguments'", "1 functions, 1 broken"]),
        (excused, 0, ["not proved: writes on purpose", "1 functions, 0 broken"]),
    ],
)
def test_the_verdict(
    fn: Callable[..., Any],
    code: int,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(table, "functions", lambda: [("a.b", fn)])
    monkeypatch.setattr(table, "modules", list)
    monkeypatch.setattr(sys, "argv", ["table", "a.b"])
    assert table.main() == code
    told = capsys.readouterr().out
    assert all(word in told for word in words), told


def test_a_module_without_an_example_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(table, "modules", lambda: ["nn.new.Layer"])
    monkeypatch.setattr(sys, "argv", ["table", "nn.new"])
    assert table.main() == 1
    assert "given.py says nothing of it" in capsys.readouterr().out


def test_given_values_reach_both() -> None:
    values = Given({"d_model": 3}, {"seq": 4})
    assert values.laws == {"d_model": 3, "seq": 4}
    assert values.proof == {"d_model": 3}
