"""Calls one by one: records, containers, formulas, and every way to spell a call, in `on` and in `full`."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from cs336_basics.contracts import Axes, ContractError, contract
from tests.contracts.modes import mode, verdict


class Pair(NamedTuple):
    keys: Float[Tensor, "*batch cached d_k"]
    values: Float[Tensor, "*batch cached d_v"]


@dataclass
class State:
    first: Float[Tensor, "*shape"]
    second: list[Float[Tensor, "*shape"]]
    step: int = 0


Grown = Annotated[Pair, Axes(cached="cached+seq")]


@contract
def grow(x: Float[Tensor, "*batch seq d_k"], pair: Pair | None, *, by: int | None = None) -> Grown:
    new = torch.zeros(*x.shape[:-2], x.shape[-2] if by is None else by, x.shape[-1])
    return Pair(new, new) if pair is None else Pair(*(torch.cat((old, new), -2) for old in pair))


@contract
def update(param: Float[Tensor, "*shape"], state: State) -> dict[str, Float[Tensor, "*shape"]]:
    return {"param": param, "first": state.first}


@contract
def split(x: Float[Tensor, "*batch seq heads*d_k"], *, heads: int) -> Float[Tensor, "*batch heads seq d_k"]:
    return x.reshape(*x.shape[:-1], heads, -1).transpose(-3, -2)


@contract
def stack(rows: list[Float[Tensor, "d"]], more: tuple[Float[Tensor, "d"], ...] = ()) -> Float[Tensor, "_ d"]:
    return torch.stack([*rows, *more])


@contract
def shift(x: Float[Tensor, "seq"], y: Float[Tensor, "seq+1"]) -> Float[Tensor, "2*seq-1"]:
    return torch.cat((x, y[2:]))


@contract
def grouped(q: Float[Tensor, "kv*groups d"], k: Float[Tensor, "kv d"]) -> Float[Tensor, "groups"]:
    return q.new_zeros(q.shape[0] // k.shape[0])


P = Pair(torch.zeros(2, 5, 4), torch.zeros(2, 5, 4))
THOUSAND = [torch.zeros(3) for _ in range(1000)]
CALLS: dict[str, tuple[Callable[[], Any], str]] = {
    "a record": (lambda: grow(torch.zeros(2, 3, 4), P), ""),
    "no record": (lambda: grow(torch.zeros(2, 3, 4), None), ""),
    "a record grown by too little": (
        lambda: grow(torch.zeros(2, 3, 4), P, by=2),
        "grow: the result.keys must be Float[Tensor, '*batch cached+seq d_k'] where seq=3, d_k=4, cached=5, d_v=4, "
        "batch=(2,), got tensor float32(2, 7, 4)",
    ),
    "a field of another batch": (
        lambda: grow(torch.zeros(1, 3, 4), P),
        "grow: pair.keys must be Float[Tensor, '*batch cached d_k'] where seq=3, d_k=4, batch=(1,), "
        "got tensor float32(2, 5, 4)",
    ),
    "a dataclass": (lambda: update(torch.zeros(3), State(torch.ones(3), [torch.ones(3)])), ""),
    "a field of a dataclass": (
        lambda: update(torch.zeros(3), State(torch.ones(3), [torch.ones(3), torch.ones(2)])),
        "update: state.second[1] must be Float[Tensor, '*shape'] where shape=(3,), got tensor float32(2,)",
    ),
    "a plain field": (
        lambda: update(torch.zeros(3), State(torch.ones(3), [], step="1")),  # type: ignore[arg-type]  # refused
        "update: state.step must be int where shape=(3,), got str '1'",
    ),
    "a solved product": (lambda: split(torch.zeros(5, 6), heads=2), ""),
    "a product that cannot be solved": (
        lambda: split(torch.zeros(5, 6), heads=4),
        "split: x must be Float[Tensor, '*batch seq heads*d_k'] where heads=4, got tensor float32(5, 6)",
    ),
    "an int that is no int": (lambda: split(torch.zeros(5, 6), heads=2.0), "split: heads must be int"),  # type: ignore[arg-type]  # refused
    "a thousand items": (lambda: stack(THOUSAND), ""),
    "the last of a thousand": (
        lambda: stack([*THOUSAND, torch.zeros(4)]),
        "stack: rows[1000] must be Float[Tensor, 'd'] where d=3, got tensor float32(4,)",
    ),
    "an item of a tuple": (lambda: stack(THOUSAND, (torch.zeros(4),)), "stack: more[0] must be Float[Tensor, 'd']"),
    "a product whose names come later": (lambda: grouped(torch.zeros(6, 3), torch.zeros(2, 3)), ""),
    "a product that no name fits": (
        lambda: grouped(torch.zeros(5, 3), torch.zeros(2, 3)),
        "grouped: q must be Float[Tensor, 'kv*groups d'] where kv=2, d=3, got tensor float32(5, 3)",
    ),
    "sums": (lambda: shift(torch.zeros(3), torch.zeros(4)), ""),
    "a sum that does not fit": (
        lambda: shift(torch.zeros(3), torch.zeros(3)),
        "shift: y must be Float[Tensor, 'seq+1'] where seq=3, got tensor float32(3,)",
    ),
}


@pytest.mark.parametrize("case", CALLS)
def test_records_containers_and_formulas(case: str) -> None:
    call, words = CALLS[case]
    if not words:
        call()
        return
    with pytest.raises(ContractError) as caught:
        call()
    assert words in str(caught.value)


@pytest.mark.parametrize("function", [grow, update, split, stack, shift, grouped])
def test_what_is_tested_here_is_straight(function: Any) -> None:
    """Else the calls above would all have been the authority's."""
    assert bool(function.__contract__.source) == (function is not update)


class Unruly(Protocol):
    """Not for run time."""

    size: int


def options(x: Float[Tensor, "n"], scale: float = 1.0, mask: Float[Tensor, "n"] | None = None) -> Float[Tensor, "n"]:
    return x * scale if mask is None else x * scale * mask


def anything(x: object, y: int = 2) -> str:
    return f"{x} {y}"


def unannotated(x, y: int):  # type: ignore[no-untyped-def]  # as users write it
    return x, y


def square(x: Float[Tensor, "n*n"]) -> Float[Tensor, "n*n"]:
    return x


def most(x: Float[Tensor, "a b max(a,b)"], max: int = 3) -> int:  # noqa: A002  # a name that the formula uses
    return max + x.shape[0]


def either(x: Float[Tensor, "n+1"], n: int | Literal["auto"] = "auto") -> Float[Tensor, "n+1"]:
    return x if n else -x


def groups(x: Float[Tensor, "n heads*d"], heads: int) -> Float[Tensor, "n heads*d"]:
    return x * heads


def quotient(x: Float[Tensor, "a b"], y: Float[Tensor, "a//b"]) -> int:
    return x.shape[0] + y.shape[0]


def unruly(x: Unruly) -> int:
    return x.size


T2, T23 = torch.ones(2), torch.ones(2, 3)
SAME: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = [
    (options, (T2,), {"scale": 2.0}),
    (options, (T2,), {"mask": T2, "scale": 3}),
    (options, (), {"x": T2, "mask": T2}),
    (options, (T2, 1.0), {"scale": 1.0}),
    (options, (T2, 1.0, None), {"mask": T2}),
    (options, (T2,), {"mask": torch.ones(3)}),
    (options, (), {"scale": 2.0}),
    (anything, (), {}),
    (anything, (), {"y": 3}),
    (anything, (3,), {"y": 3}),
    (unannotated, (), {"y": 3}),
    (unannotated, (1,), {"y": "3"}),
    (square, (torch.ones(1),), {}),
    (square, (torch.ones(4),), {}),
    (most, (torch.ones(2, 3, 3),), {}),
    (most, (torch.ones(2, 3, 2),), {"max": 5}),
    (either, (torch.ones(3),), {}),
    (either, (torch.ones(3),), {"n": 2}),
    (either, (torch.ones(3),), {"n": 3}),
    (groups, (T23,), {"heads": True}),
    (groups, (T23,), {"heads": 3}),
    (quotient, (torch.ones(2, 0), T2), {}),
    (quotient, (torch.ones(4, 2), T2), {}),
    (unruly, (T2,), {}),
]


@pytest.mark.parametrize("number", range(len(SAME)))
def test_modes_agree_on_calls_of_every_spelling(number: int) -> None:
    function, args, kwargs = SAME[number]
    verdicts = []
    for name in ("on", "full"):
        with mode(name):
            verdicts.append(verdict(contract(function), *args, **kwargs))
    assert verdicts[0] == verdicts[1]
    wrong = _unbindable(function, args, kwargs)
    assert not wrong or verdicts[0].startswith(f"{function.__name__}: {wrong}; its signature is")


def _unbindable(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        return str(error)
    return ""


def test_a_right_call_with_options_by_name_is_accepted() -> None:
    accepted = [n for n, (f, args, kwargs) in enumerate(SAME) if verdict(contract(f), *args, **kwargs) == "accepted"]
    assert accepted == [0, 1, 2, 9, 14, 16, 17, 20, 22]
