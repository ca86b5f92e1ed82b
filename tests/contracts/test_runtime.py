"""What a contract accepts, what it refuses, and what it says."""

import inspect
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import pytest
import torch
from jaxtyping import Bool, Float, Int, TypeCheckError, jaxtyped
from torch import Tensor, nn

from cs336_basics.contracts import ContractError, contract, describe


@contract
def affine(
    x: Float[Tensor, "*batch d_in"],
    weight: Float[Tensor, "d_out d_in"],
    *,
    scale: float = 1.0,
    name: str | None = None,
    mode: Literal["sum", "mean"] = "sum",
) -> Float[Tensor, "*batch d_out"]:
    """A map."""
    del name, mode
    return x @ weight.mT * scale


@contract
def pick(ids: Int[Tensor, "*batch"], mask: Bool[Tensor, "*#batch"] | None = None) -> Int[Tensor, "*batch"]:
    return ids if mask is None else ids * mask


@contract
def gather(first: Float[Tensor, "*batch"], *rest: Float[Tensor, "*batch"], **named: Float[Tensor, "*batch"]) -> int:
    return sum(map(torch.numel, (first, *rest, *named.values())))


@contract
def broken(x: Float[Tensor, "*batch d_in"], kind: str) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch d_in"]]:
    results: dict[str, Any] = {
        "right": (x.sum(-1), x),
        "axis lost": (x.sum(), x),
        "axis scrambled": (x.sum(-1), x.mT),
        "dtype": (x.sum(-1).long(), x),
        "none": None,
        "one short": (x.sum(-1),),
    }
    result: tuple[Tensor, Tensor] = results[kind]
    return result


@contract
def outer(x: Float[Tensor, "seq d_in"]) -> Float[Tensor, "seq d_out"]:
    return affine(x, torch.ones(4, 5))


class Holder(nn.Module):
    @contract
    def forward(self, x: Float[Tensor, "seq"]) -> Float[Tensor, "seq"]:
        return x

    @classmethod
    @contract
    def build(cls, n: int) -> int:
        return n

    @staticmethod
    @contract
    def helper(n: int) -> int:
        return n


class Row(NamedTuple):
    values: Float[Tensor, "seq"]


@contract
def unwrap(row: Row) -> Float[Tensor, "seq"]:
    return row.values


X, W = torch.ones(2, 3), torch.ones(4, 3)

ACCEPTED: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = {
    "plain": (affine, (X, W), {}),
    "keyword": (affine, (), {"weight": W, "x": X}),
    "no batch axis": (affine, (X[0], W), {}),
    "three batch axes": (affine, (torch.ones(5, 1, 2, 3), W), {}),
    "an empty batch": (affine, (torch.ones(0, 3), W), {}),
    "half precision": (affine, (X.bfloat16(), W.bfloat16()), {}),
    "a parameter": (affine, (X, nn.Parameter(W)), {}),
    "not contiguous": (affine, (torch.ones(3, 2).mT, W), {}),
    "an int for a float": (affine, (X, W), {"scale": 2}),
    "a literal": (affine, (X, W), {"mode": "mean"}),
    "a text for a text or none": (affine, (X, W), {"name": "n"}),
    "int32": (pick, (torch.ones(2, dtype=torch.int32),), {}),
    "no mask": (pick, (torch.ones(2, 3, dtype=torch.long), None), {}),
    "a broadcast mask": (pick, (torch.ones(2, 3, dtype=torch.long), torch.ones(3, dtype=torch.bool)), {}),
    "many": (gather, (X, X, X), {"more": X}),
    "results": (broken, (X, "right"), {}),
    "a method": (Holder().forward, (torch.ones(3),), {}),
    "a module": (Holder(), (torch.ones(3),), {}),
    "a class method": (Holder.build, (3,), {}),
    "a static method": (Holder.helper, (3,), {}),
    "a named tuple": (unwrap, (Row(torch.ones(3)),), {}),
}

REFUSED: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], str]] = {
    "axes that disagree": (
        affine,
        (X, torch.ones(4, 5)),
        {},
        "affine: weight must be Float[Tensor, 'd_out d_in'] where d_in=3, batch=(2,), got tensor float32(4, 5)",
    ),
    "too few axes": (
        affine,
        (torch.ones(()), W),
        {},
        "affine: x must be Float[Tensor, '*batch d_in'], got tensor float32()",
    ),
    "too many axes": (affine, (X, torch.ones(1, 4, 3)), {}, "got tensor float32(1, 4, 3)"),
    "dtype": (affine, (X.long(), W), {}, "affine: x must be Float[Tensor, '*batch d_in'], got tensor int64(2, 3)"),
    "complex": (affine, (X.to(torch.complex64), W), {}, "got tensor complex64(2, 3)"),
    "a parameter": (affine, (X, nn.Parameter(torch.ones(5, 5))), {}, "got parameter float32(5, 5)"),
    "an array": (
        affine,
        (np.ones((2, 3)), W),
        {},
        "affine: x must be Float[Tensor, '*batch d_in'], got ndarray float64(2, 3)",
    ),
    "a list": (affine, ([1.0], W), {}, "affine: x must be Float[Tensor, '*batch d_in'], got list [1.0]"),
    "none": (affine, (X, None), {}, "affine: weight must be Float[Tensor, 'd_out d_in']"),
    "a text for a float": (affine, (X, W), {"scale": "2"}, "affine: scale must be float"),
    "a number for a text": (affine, (X, W), {"name": 3}, "affine: name must be str | None"),
    "another literal": (affine, (X, W), {"mode": "max"}, "affine: mode must be Literal['sum', 'mean']"),
    "ids that are floats": (pick, (X,), {}, "pick: ids must be Int[Tensor, '*batch'], got tensor float32(2, 3)"),
    "unsigned ids": (pick, (torch.ones(2, dtype=torch.uint8),), {}, "got tensor uint8(2,)"),
    "a mask of numbers": (pick, (torch.ones(2).long(), torch.ones(2)), {}, "pick: mask must be"),
    "a mask that cannot broadcast": (
        pick,
        (torch.ones(2, 3).long(), torch.ones(2, dtype=torch.bool)),
        {},
        "got tensor bool(2,)",
    ),
    "one of many": (
        gather,
        (X, X, W),
        {},
        "gather: rest[1] must be Float[Tensor, '*batch'] where batch=(2, 3), got tensor float32(4, 3)",
    ),
    "one of the named": (gather, (X, X), {"a": X, "b": W}, "gather: b must be Float[Tensor, '*batch']"),
    "missing": (
        affine,
        (X,),
        {},
        "affine: missing a required argument: 'weight'; its signature is (x, weight, scale, name, mode)",
    ),
    "unknown": (affine, (X, W), {"bias": X}, "affine: got an unexpected keyword argument 'bias'"),
    "too many": (affine, (X, W, 1.0), {}, "affine: too many positional arguments"),
    "twice": (affine, (X, W), {"x": X}, "affine: multiple values for argument 'x'"),
    "a result that lost an axis": (
        broken,
        (X, "axis lost"),
        {},
        "broken: the result[0] must be Float[Tensor, '*batch'] where d_in=3, batch=(2,), got tensor float32()",
    ),
    "a result with scrambled axes": (
        broken,
        (X, "axis scrambled"),
        {},
        "the result[1] must be Float[Tensor, '*batch d_in'] where d_in=3, batch=(2,), got tensor float32(3, 2)",
    ),
    "a result of another dtype": (
        broken,
        (X, "dtype"),
        {},
        "the result[0] must be Float[Tensor, '*batch'] where d_in=3, batch=(2,), got tensor int64(2,)",
    ),
    "no result": (broken, (X, "none"), {}, "broken: the result must be tuple["),
    "a result one short": (broken, (X, "one short"), {}, "broken: the result must be tuple["),
    "the inner of two": (outer, (X,), {}, "affine: weight must be Float[Tensor, 'd_out d_in'] where d_in=3"),
    "a method": (
        Holder().forward,
        (X,),
        {},
        "Holder.forward: x must be Float[Tensor, 'seq'], got tensor float32(2, 3)",
    ),
    "a module": (Holder(), ("x",), {}, "Holder.forward: x must be Float[Tensor, 'seq'], got str 'x'"),
    "a class method": (Holder.build, ("3",), {}, "Holder.build: n must be int, got str '3'"),
    "a static method": (Holder.helper, (3.0,), {}, "Holder.helper: n must be int, got float 3.0"),
    "a tuple for a named tuple": (unwrap, ((X,),), {}, "unwrap: row must be Row, got tuple (tensor float32(2, 3))"),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepts(case: str) -> None:
    function, args, kwargs = ACCEPTED[case]
    function(*args, **kwargs)


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case: str) -> None:
    function, args, kwargs, message = REFUSED[case]
    with pytest.raises(ContractError) as caught:
        function(*args, **kwargs)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_axes_are_bound_anew_at_every_call() -> None:
    assert affine(X, W).shape == (2, 4)
    assert affine(torch.ones(5, 7), torch.ones(6, 7)).shape == (5, 6)


def test_an_error_of_the_body_passes_through() -> None:
    @contract
    def fails(n: int) -> int:
        return n + "1"  # type: ignore[operator]  # the error that must come out

    with pytest.raises(TypeError, match="unsupported operand") as caught:
        fails(1)
    assert not isinstance(caught.value, ContractError)


def test_an_error_of_somebody_elses_checks_passes_through() -> None:
    @jaxtyped(typechecker=__import__("beartype").beartype)
    def theirs(x: Float[Tensor, "5"]) -> Tensor:
        return x

    @contract
    def ours(x: Float[Tensor, "seq"]) -> Tensor:
        return theirs(x)  # type: ignore[shape]  # the error that must come out

    with pytest.raises(TypeCheckError, match="theirs"):
        ours(torch.ones(3))


def test_keeps_what_a_function_says_of_itself() -> None:
    assert affine.__name__ == "affine"
    assert affine.__doc__ == "A map."
    assert affine.__module__ == __name__
    assert list(inspect.signature(affine).parameters) == ["x", "weight", "scale", "name", "mode"]
    assert inspect.signature(affine).return_annotation is affine.__annotations__["return"]


def test_pickles_by_name() -> None:
    assert pickle.loads(pickle.dumps(affine)) is affine  # noqa: S301  # our own bytes


OFF = """
from cs336_basics.contracts import contract
def f(n: int) -> int: return n
assert contract(f) is f
"""


@pytest.mark.parametrize(
    ("value", "error"), [("off", ""), ("fast", "CS336_CONTRACTS must be 'on', 'full' or 'off', got 'fast'")]
)
def test_switch(value: str, error: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", OFF],
        env=os.environ | {"CS336_CONTRACTS": value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == (error == "")
    assert error in done.stderr


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.ones(2, 3, dtype=torch.bfloat16), "tensor bfloat16(2, 3)"),
        (torch.ones(()), "tensor float32()"),
        (nn.Parameter(torch.ones(1)), "parameter float32(1,)"),
        (np.ones(2, dtype=np.uint16), "ndarray uint16(2,)"),
        ("a", "str 'a'"),
        (None, "NoneType None"),
        ("x" * 100, "str '" + "x" * 56 + "..."),
        ((torch.ones(2, 2),), "tuple (tensor float32(2, 2))"),
    ],
)
def test_describe(value: object, text: str) -> None:
    assert describe(value) == text
