"""What `prove` returns, what it asks for, and that it leaves nothing behind."""

import random
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from cs336_basics.contracts import ContractError, Failure, Proof, contract, prove, require


def double(x: Float[Tensor, "*batch d_k"]) -> Float[Tensor, "*batch d_k"]:
    return 2 * x


def test_a_proof_is_a_value() -> None:
    proof = prove(double)
    assert isinstance(proof, Proof)
    assert (proof.name, proof.ok, proof.failures, proof.given, proof.refused, proof.note) == (
        "double",
        True,
        (),
        (),
        (),
        "",
    )
    assert proof.seconds > 0
    with pytest.raises(FrozenInstanceError):
        proof.cases = 1  # type: ignore[misc]  # what is refused


def test_every_rank_and_dtype_is_a_case() -> None:
    seen: list[tuple[int, str]] = []

    def watched(x: Float[Tensor, "*batch d_k"]) -> Float[Tensor, "*batch d_k"]:
        if any(isinstance(size, torch.SymInt) for size in x.shape):
            seen.append((x.ndim - 1, str(x.dtype).removeprefix("torch.")))
        return x

    assert prove(watched).ok
    assert sorted(seen) == [(rank, dtype) for rank in range(3) for dtype in ("bfloat16", "float32", "float64")]
    seen.clear()
    assert prove(watched, ranks=(3,), dtypes=("float16",)).ok
    assert seen == [(3, "float16")]


def test_what_cannot_differ_is_one_case() -> None:
    def count(ids: Int[Tensor, "seq"]) -> Int[Tensor, ""]:
        return ids.sum()

    assert prove(count).cases == 2  # and seq = 1


def test_a_failure_says_case_axis_and_expression() -> None:
    def shorter(x: Float[Tensor, "*batch seq"]) -> Float[Tensor, "*batch seq"]:
        return x[..., 1:]

    message = "the result must be '*batch seq', here (seq,), got (seq - 1,)"
    (failure,) = prove(shorter).failures
    assert failure == Failure("shape", "rank 0, float32", "seq", "seq - 1", message)
    assert str(failure) == f"shape (rank 0, float32): {message}"
    assert message in str(prove(shorter))


def test_a_specialisation_shows_the_line() -> None:
    def branch(x: Float[Tensor, "seq"]) -> Float[Tensor, "seq"]:
        return x if x.shape[0] > 10 else -x

    (failure,) = prove(branch).failures
    assert (failure.rule, failure.axis, failure.expression) == ("specialises", "seq", "seq <= 10")
    assert "test_prove.py:" in failure.message


def test_what_a_function_requires_is_given() -> None:
    def halves(x: Float[Tensor, "*batch d_k"], *, heads: int, most: int = 2) -> Float[Tensor, "*batch d_k"]:
        require(x.shape[-1] % 2 == 0, "halves: x must be even")
        require(x.shape[-1] >= heads, "halves: x must be at least heads wide")
        require(most > 1, "halves: most must be above 1")
        return x.unflatten(-1, (2, x.shape[-1] // 2)).flatten(-2)[..., :]  # type: ignore[no-any-return,no-untyped-call]  # torch's

    def by_heads(x: Float[Tensor, "d_model"], y: Float[Tensor, "heads"], *, heads: int) -> Float[Tensor, "heads d_k"]:
        require(x.shape[-1] % heads == 0, "by_heads: heads must divide {}", x.shape[-1])
        return x.reshape(heads, -1) * y[:, None]

    def equal(x: Float[Tensor, "d_model"], y: Float[Tensor, "half"]) -> Float[Tensor, "half 2"]:
        require(x.shape[-1] == 2 * y.shape[-1], "equal: x must be twice as wide as y")
        return x.reshape(-1, 2) * y[:, None]

    assert prove(halves).given == ("d_k % 2 == 0",)  # heads is 1, no axis
    assert prove(by_heads).given == ("d_model % heads == 0",)
    assert prove(equal).given == ("d_model == 2*half",)
    assert all(prove(function).ok for function in (halves, by_heads, equal))


def test_what_a_function_refuses_is_no_failure() -> None:
    def last(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        require(x.ndim > 0, "last: x must have an axis")
        return x - x.amax(-1, keepdim=True)

    proof = prove(last)
    assert proof.ok
    assert proof.refused == ("last: x must have an axis",)


def test_a_dtype_refused_in_every_rank_is_one() -> None:
    def narrow(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        require(x.dtype != torch.float64, "narrow: x must not be float64")
        return x

    assert [(f.rule, f.case) for f in prove(narrow).failures] == [("contract", "float64")]


def test_without_tensors_there_is_nothing_to_prove() -> None:
    def rate(step: int) -> float:
        raise AssertionError(step)

    proof = prove(rate)
    assert proof.ok
    assert (proof.cases, proof.note) == (0, "no tensors: nothing to prove")


def test_values_are_given_by_name() -> None:
    def apply(x: Float[Tensor, "*batch d_k"], *, map: Callable[[Tensor], Tensor]) -> Float[Tensor, "*batch d_k"]:  # noqa: A002  # a name that is also Python's
        return map(x)

    assert prove(apply, map=lambda x: 2 * x).ok
    assert not prove(apply, map=lambda x: x.sum(-1)).ok
    with pytest.raises(ContractError, match=r"apply: map must be given a value, as in map=\.\.\."):
        prove(apply)
    with pytest.raises(ContractError, match="has no parameter 'maps'"):
        prove(apply, maps=double)


def test_an_annotation_that_cannot_be_read() -> None:
    def wrong(x: Float[Tensor, "seq 1seq"]) -> Tensor:
        return x

    with pytest.raises(ContractError, match=r"'seq 1seq' cannot be read at position 4"):
        prove(wrong)


def test_inner_contracts_ask_nothing_of_sizes() -> None:
    @contract
    def inner(x: Float[Tensor, "*batch heads*d_k"], y: Float[Tensor, "#d_k"], *, heads: int) -> Float[Tensor, "*batch"]:
        return x.sum(-1) + y.sum(-1) * heads

    def outer(x: Float[Tensor, "*batch heads*d_k"], y: Float[Tensor, "d_k"], *, heads: int) -> Float[Tensor, "*batch"]:
        return inner(x, y, heads=heads)

    proof = prove(outer)
    assert proof.ok, str(proof)


def raises(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    raise KeyError(x.ndim)


def draws(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    return x * random.random() + torch.rand(())


@pytest.mark.parametrize("function", [double, raises, draws])
def test_nothing_is_left_behind(function: Callable[..., Any]) -> None:
    state, seed = random.getstate(), torch.get_rng_state()
    prove(function)
    assert random.getstate() == state
    assert torch.equal(torch.get_rng_state(), seed)
    assert _get_current_dispatch_mode_stack() == []
    assert type(torch.ones(1)) is Tensor
    assert double(torch.ones(1)).item() == 2


def test_a_real_tensor_in_a_closure_is_another_device() -> None:
    table = torch.ones(3)

    def shifted(x: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        return x + table

    assert [failure.rule for failure in prove(shifted).failures] == ["device"]
