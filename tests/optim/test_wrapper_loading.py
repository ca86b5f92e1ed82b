"""Loading a saved state: as often as wanted, into copies too; what does not fit is refused and changes nothing."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import Optimizer

from cs336_basics.contracts import ContractError
from tests.optim.wrappers import Make, assert_same, every, make_adamw, make_muon, make_sgd, parameters, train

DUPLICATES: dict[str, Callable[[Optimizer], Any]] = {
    "itself": lambda optimizer: optimizer,
    "deepcopy": copy.deepcopy,
    "pickle": lambda optimizer: pickle.loads(pickle.dumps(optimizer)),  # noqa: S301  # our own bytes
}


@every
@pytest.mark.parametrize("duplicate", DUPLICATES.values(), ids=DUPLICATES)
def test_loads_again_and_into_copies(make: Make, duplicate: Callable[[Optimizer], Any]) -> None:
    params = parameters()
    optimizer = make(params)
    train(params, optimizer, range(2))
    saved = copy.deepcopy(optimizer.state_dict())
    other = make(parameters())
    for _ in range(2):
        other = duplicate(other)
        other.load_state_dict(saved)
        assert_same(other.state_dict(), saved)
        train(other.param_groups[0]["params"], other, range(2, 3))


@every
def test_a_group_that_comes_after_a_load_has_our_options_only(make: Make) -> None:
    params = parameters()
    optimizer, fresh = make(params[:1]), make(params[:1])
    optimizer.load_state_dict(fresh.state_dict())
    for each in (optimizer, fresh):
        each.add_param_group({"params": params[1:]})
    assert_same(optimizer.state_dict(), fresh.state_dict())


@pytest.mark.parametrize("make", [make_adamw, make_muon])
def test_refuses_the_state_of_another_optimizer(make: Make) -> None:
    params = parameters()
    optimizer = make(params)
    train(params, optimizer, range(2))
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ContractError, match=r"state_dict must come from the same kind of optimizer, got .* options"):
        optimizer.load_state_dict(make_sgd(params).state_dict())
    with pytest.raises(ValueError, match="group"):
        optimizer.load_state_dict(make(params[:1]).state_dict())
    assert_same(optimizer.state_dict(), before)


def transposed(state: dict[str, Any]) -> dict[str, Any]:
    return {key: value.mT if isinstance(value, torch.Tensor) else value for key, value in state.items()}


NOT_FITTING: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "other shapes": transposed,
    "numbers": lambda state: dict.fromkeys(state, 3),
    "another dtype": lambda state: {
        key: value.double() if isinstance(value, torch.Tensor) else value for key, value in state.items()
    },
}


@every
@pytest.mark.parametrize("spoil", NOT_FITTING.values(), ids=NOT_FITTING)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(
    make: Make, spoil: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    params = parameters()
    optimizer = make(params)
    train(params, optimizer, range(2))
    before = copy.deepcopy(optimizer.state_dict())
    saved = copy.deepcopy(before)
    saved["state"][1] = spoil(saved["state"][1])
    saved["param_groups"][0]["lr"] = 0.5
    match = rf"^{type(optimizer).__name__}: state_dict must fit the parameters, got for number 1, of shape \(3, 4\): "
    with pytest.raises(ContractError, match=match):
        optimizer.load_state_dict(saved)
    assert_same(optimizer.state_dict(), before)
    train(params, optimizer, range(2, 3))


@pytest.mark.parametrize("step", [-1, float("inf"), "first"])
def test_steps_that_cannot_be_are_refused(step: Any) -> None:
    params = parameters()
    optimizer = make_adamw(params)
    train(params, optimizer, range(1))
    saved = copy.deepcopy(optimizer.state_dict())
    saved["state"][0]["step"] = step
    with pytest.raises(ContractError, match="AdamW: state_dict must fit the parameters, got for number 0"):
        optimizer.load_state_dict(saved)
