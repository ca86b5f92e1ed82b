"""`prove` on functions that do more than return: to containers, gradients, global random states, and on the host."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cs336_basics.contracts import prove

WRONG: list[tuple[Callable[..., Any], str, str]] = []
RIGHT: list[Callable[..., Any]] = []
TABLE = torch.zeros(3)
CALLS = torch.zeros(3)


def breaks(rule: str, message: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function that must be found by `rule`, once, in words that hold `message`."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        WRONG.append((function, rule, message))
        return function

    return enter


def right(function: Callable[..., Any]) -> Callable[..., Any]:
    """Enter a function that must be proved."""
    RIGHT.append(function)
    return function


@breaks("writes", "xs was changed in place")
def appends(xs: list[Float[Tensor, "*batch"]]) -> Float[Tensor, "*batch"]:
    xs.append(xs[0])
    return xs[0]


@breaks("writes", "xs was changed in place")
def replaces_an_item(xs: list[Float[Tensor, "*batch"]]) -> Float[Tensor, "*batch"]:
    xs[0] = 2 * xs[0]
    return xs[0]


@breaks("writes", "xs was changed in place")
def pops(xs: dict[str, Float[Tensor, "*batch"]]) -> Float[Tensor, "*batch"]:
    return xs.pop("a")


@breaks("writes", "xs was changed in place")
def appends_deep_inside(xs: dict[str, list[Float[Tensor, "*batch"]]]) -> Float[Tensor, "*batch"]:
    return xs["a"].pop()


@dataclass
class State:
    mean: Float[Tensor, "*batch"]


@breaks("writes", "state was changed in place")
def sets_a_field(state: State) -> Float[Tensor, "*batch"]:
    state.mean = 2 * state.mean
    return state.mean


@breaks("writes", "x was changed in place")
def sets_the_gradient(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    x.grad = torch.ones_like(x)
    return 2 * x


@breaks("writes", "aten::add_ writes into a tensor from outside")
def counts_calls(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    CALLS.add_(1)
    return 2 * x


@breaks("random", "numpy's random")
def noise_from_numpy(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    return x * np.random.rand()


@breaks("random", "numpy's random")
def noise_kept_from_numpy(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    return x * np.random.normal()


@breaks("host read", "Tensor.__format__ reads")
def logs(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    logging.getLogger("test").debug(f"{x.sum()}")
    return 2 * x


@breaks("host read", "Tensor.__format__ reads")
def formats_with_digits(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    assert f"{x.sum():.2f}"
    return 2 * x


@breaks("host read", "Tensor.__repr__ reads")
def shows(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    assert repr(x)
    return 2 * x


@breaks("host read", "Tensor.__repr__ reads")
def shows_in_a_list(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    assert str([x])
    return 2 * x


@breaks("host read", "Tensor.__repr__ reads")
def stringifies(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    assert str(x.sum())
    return 2 * x


@breaks("host read", "Tensor.tolist reads")
def lists(ids: Int[Tensor, "*batch seq"]) -> Float[Tensor, "*batch seq"]:
    return torch.full(ids.shape, float(len(set(ids.flatten().tolist()))), device=ids.device)


@breaks("host read", "Tensor.numpy reads")
def through_numpy(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    return torch.from_numpy(x.numpy()).to(x)


@breaks("host read", "aten::_local_scalar_dense")
def reads_and_hides_it(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    try:
        return x * x.sum().item()
    except Exception:
        return 2 * x


@right
def shows_sizes_and_constants(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    assert f"{x.shape} {x.dtype} {x.device}"
    assert str(torch.arange(3))
    assert TABLE.tolist() == [0, 0, 0]
    return 2 * x


@right
def fills_its_own_containers(xs: list[Float[Tensor, "*batch"]], state: State) -> Float[Tensor, "*batch"]:
    own = [*xs]
    own.append(own.pop(0))
    fresh = State(own[0])
    fresh.mean = own[-1]
    return fresh.mean + state.mean


@right
def draws_from_its_own_generator(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    return x * np.random.default_rng(0).random()


@pytest.mark.parametrize(("function", "rule", "message"), WRONG, ids=lambda value: getattr(value, "__name__", ""))
def test_the_rule_finds_it_once(function: Callable[..., Any], rule: str, message: str) -> None:
    proof = prove(function)
    assert [failure.rule for failure in proof.failures] == [rule], str(proof)
    assert message in proof.failures[0].message


@pytest.mark.parametrize("function", RIGHT, ids=lambda function: function.__name__)
def test_it_is_right(function: Callable[..., Any]) -> None:
    assert prove(function).ok, str(prove(function))


def test_the_global_random_states_are_put_back() -> None:
    np.random.seed(0)
    first = np.random.rand()
    np.random.seed(0)
    prove(noise_from_numpy)
    assert np.random.rand() == first


def test_a_list_of_a_large_tensor_is_not_waited_for() -> None:
    def lists_all(x: Float[Tensor, "one two three four five"]) -> Float[Tensor, "one"]:
        return torch.full((len(x.tolist()),), 1.0)

    begin = time.perf_counter()
    proof = prove(lists_all)
    assert [failure.rule for failure in proof.failures] == ["host read"]
    assert time.perf_counter() - begin < 5
