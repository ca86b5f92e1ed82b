"""`held_by`: what is proved, or checked by a callee, is not checked again; refused is what `full` refuses."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from cs336_basics.contracts import ContractError, contract
from cs336_basics.contracts.checks.linked import linked
from cs336_basics.contracts.runtime import SWITCH
from tests.contracts.modes import mode
from tests.contracts.verdicts import calls, verdicts

with mode("on"):  # what follows is about this mode

    @contract(held_by="proof")
    def half(x: Float[Tensor, "a"]) -> Float[Tensor, "b"]:
        """No proof would hold it: `x` may have any shape, and so has the result."""
        return x[..., : x.shape[-1] // 2]

    @contract(held_by="proof")
    def calls_half(x: Float[Tensor, "a"], *, by: Callable[[Tensor], Tensor] = half) -> Float[Tensor, "a"]:
        return by(half(x.unsqueeze(0))) + later(x)

    @contract(held_by="proof")
    def later(x: Float[Tensor, "a"]) -> Float[Tensor, "b"]:
        return x.sum(-1, keepdim=True).unsqueeze(0)

    @contract
    def checks_half(x: Float[Tensor, "a"]) -> Float[Tensor, "a"]:
        return half(x.unsqueeze(0))

    @contract(held_by="callee")
    def hands_on(x: Float[Tensor, "a"]) -> Float[Tensor, "b"]:
        return half(x)

    @contract(held_by="proof")
    def counts_down(n: int) -> int:
        return n if n < 1 else counts_down(n - 1)


with mode("full"):  # whose wrappers take anything

    @contract(held_by="proof")
    def times(x: Float[Tensor, "a"], *, by: int = 2) -> Float[Tensor, "a"]:
        return x * by

    @contract(held_by="proof")
    def calls_times(x: Float[Tensor, "a"]) -> Float[Tensor, "a"]:
        return times(x)


X = torch.ones(4)


def test_a_function_held_by_proof_calls_bodies() -> None:
    """Each inner call here is one that a contract refuses: two axes, and results of another shape."""
    assert calls_half(X, by=lambda x: x).shape == (1, 2)  # the first call, at which the bodies are made
    assert calls_half(X).shape == (1, 1)
    with pytest.raises(ContractError, match=r"^calls_half: x must be Float\[Tensor, 'a'\]"):
        calls_half(X.unsqueeze(0))


def test_other_functions_call_wrappers() -> None:
    with pytest.raises(ContractError, match=r"^half: x must be Float\[Tensor, 'a'\]"):
        checks_half(X)
    with pytest.raises(ContractError, match=r"^half: x must be"):
        calls_half(X, by=lambda x: half(x))


def test_in_full_everything_is_checked() -> None:
    with mode("full"):
        full = contract(held_by="proof")(calls_half.__contract__.function)  # type: ignore[attr-defined]  # put there by the decorator
    with pytest.raises(ContractError, match=r"^half: x must be"):
        full(X)


def test_what_a_callee_checks_has_no_wrapper() -> None:
    assert hands_on.__contract__.function is hands_on  # type: ignore[attr-defined]  # put there by the decorator
    with pytest.raises(ContractError, match=r"^half: x must be"):
        hands_on(X.unsqueeze(0))
    with mode("full"), pytest.raises(ContractError, match=r"^hands_on: x must be"):
        contract(held_by="callee")(hands_on)(X.unsqueeze(0))


def test_a_twin_may_call_itself_and_is_made_once() -> None:
    assert counts_down(50) == 0
    body: Any = counts_down.__contract__.function  # type: ignore[attr-defined]  # put there by the decorator
    assert linked(body) is linked(body)
    assert linked(body).__globals__["counts_down"] is linked(body)


def test_a_twin_compiles_with_bodies_in_place_of_wrappers() -> None:
    """Looked up in its module, as dynamo does with the globals of what it inlines, `times` would be the wrapper."""
    twin = linked(calls_times.__contract__.function)  # type: ignore[attr-defined]  # put there by the decorator
    torch.compiler.reset()
    assert torch.compile(lambda x: twin(x), backend="eager", fullgraph=True)(X).equal(2 * X)


def test_refuses_other_words() -> None:
    with mode("on"), pytest.raises(ContractError, match=r"held_by must be one of .*, got 'luck'"):
        contract(held_by="luck")(hands_on)  # type: ignore[call-overload]  # the bad input


@pytest.mark.slow
def test_the_library_refuses_the_same_calls_in_both_modes() -> None:
    other = "on" if os.environ.get(SWITCH) == "full" else "full"
    run = subprocess.run(
        [sys.executable, "-m", "tests.contracts.verdicts"],
        env={**os.environ, SWITCH: other},
        capture_output=True,
        text=True,
        check=True,
    )
    ours, theirs = verdicts(), json.loads(run.stdout)
    assert {name: found for name, found in ours.items() if found != theirs[name]} == {}
    assert ours.keys() == theirs.keys()
    assert {ours[name] for name in calls()} == {"accepted"}
    assert set(ours.values()) == {"accepted", "ContractError"}
    assert len(ours) > 1000
