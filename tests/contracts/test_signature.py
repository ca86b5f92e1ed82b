"""Annotations read once: every kind, and the wrong ones refused when a function is decorated."""

import asyncio
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, NamedTuple, Optional

import pytest
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

import cs336_basics
from cs336_basics.contracts import Axes, ContractError, contract
from cs336_basics.contracts.signature import (
    ManySpec,
    MappingSpec,
    PlainSpec,
    StructSpec,
    TensorSpec,
    TupleSpec,
    UnionSpec,
    parts,
    read,
    read_signature,
    tensors,
)


class Pair(NamedTuple):
    keys: Float[Tensor, "*batch cached"]
    width: int


@dataclass
class Plain:
    count: int


@pytest.mark.parametrize(
    ("hint", "kind", "shapes"),
    [
        (Float[Tensor, "a b"], TensorSpec, ["a b"]),
        (Float[Tensor, "a"] | None, UnionSpec, ["a"]),
        (Optional[Float[Tensor, "a"]], UnionSpec, ["a"]),  # noqa: UP045  # the older writing too
        (tuple[Float[Tensor, "a"], int], TupleSpec, ["a"]),
        (tuple[Float[Tensor, "a"], ...], ManySpec, ["a"]),
        (list[Float[Tensor, "a"]], ManySpec, ["a"]),
        (dict[str, Float[Tensor, "a"]], MappingSpec, ["a"]),
        (Pair, StructSpec, ["*batch cached"]),
        (list[tuple[Pair, Int[Tensor, "b"] | None]], ManySpec, ["*batch cached", "b"]),
        (Annotated[Pair, Axes(cached="cached+1")], StructSpec, ["*batch cached+1"]),
        (Annotated[int, "a note"], PlainSpec, []),
        (Plain, PlainSpec, []),
        (int | str, PlainSpec, []),
        (Iterator[Tensor], PlainSpec, []),
        (Callable[[Tensor], Tensor], PlainSpec, []),
    ],
)
def test_reads(hint: Any, kind: type, shapes: list[str]) -> None:
    spec = read(hint)
    assert type(spec) is kind
    assert [tensor.shape.text for tensor in tensors(spec)] == shapes
    assert all(part.hint is not None for part in parts(spec))


def test_dtypes_are_those_of_the_annotation() -> None:
    spec = read(Int[Tensor, ""])
    assert isinstance(spec, TensorSpec)
    assert "int64" in (spec.dtypes or ())
    spec = read(Shaped[Tensor, ""])
    assert isinstance(spec, TensorSpec)
    assert spec.dtypes is None


def test_int_parameters_named_like_an_axis_are_its_size() -> None:
    def function(x: Float[Tensor, "heads*d_k"], heads: int, d_k: int | None, other: int, seq: float) -> None: ...

    assert read_signature(function).sizes == ("heads", "d_k")


def text(x: "int") -> None: ...  # the forward reference that must be refused
def unreadable(x: int, y: Float[Tensor, "a b+"]) -> None: ...
def unreadable_result(x: int) -> tuple[Float[Tensor, "a b $"], int] | None: ...
def unsolvable(x: Float[Tensor, "a"], y: Float[Tensor, "a+b+c"]) -> None: ...
def number(x: 3) -> None: ...  # type: ignore[valid-type]  # what must be refused
def misnamed(x: Annotated[Pair, Axes(cashed="1")]) -> None: ...
def inside(x: Iterator["Pair"]) -> None: ...  # as above


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (text, "text: the annotation of x: 'int' is text at position 0"),
        (inside, "inside: the annotation of x: 'Pair' is text at position 0"),
        (unsolvable, "unsolvable: the size 'a+b+c' cannot be told: nothing binds b and c"),
        (number, "number: the annotation of x: 3 at position 0 is no type"),
        (misnamed, "misnamed: the annotation of x: Axes(cashed=...) names no single axis; its axes are cached"),
        (unreadable, "unreadable: the annotation of y: shape 'a b+' cannot be read at position 2 ('b+')"),
        (unreadable_result, "unreadable_result: the annotation of the result: shape 'a b $' cannot be read at"),
    ],
)
def test_a_wrong_annotation_is_refused_at_decoration(function: Callable[..., Any], words: str) -> None:
    with pytest.raises(ContractError) as caught:
        contract(function)
    assert words in str(caught.value)


def test_a_reason_for_no_proof_is_kept() -> None:
    @contract(unproved="for a test")
    def function(x: Float[Tensor, "a"]) -> Float[Tensor, "a"]:
        return x

    assert function.__contract__.unproved == "for a test"  # type: ignore[attr-defined]  # put there by the decorator


def _functions() -> dict[str, tuple[Any, bool]]:
    """Every public function and forward below the command line, and whether it takes or gives tensors."""
    found: dict[str, tuple[Any, bool]] = {}
    for info in pkgutil.walk_packages(cs336_basics.__path__, "cs336_basics."):
        rooms = info.name.split(".")[1:]
        if rooms[0] in ("cli", "contracts", "interop") or rooms[-1].startswith("_"):
            continue
        module = importlib.import_module(info.name)
        for name, item in vars(module).items():
            owner = getattr(item, "__module__", None) == info.name and not name.startswith("_")
            if owner and inspect.isfunction(item):
                found[f"{info.name}.{name}"] = (item, _has_tensors(item))
            elif owner and inspect.isclass(item) and rooms[0] == "nn":
                for method in ("forward", "extend"):
                    if method in vars(item):
                        found[f"{info.name}.{name}.{method}"] = (vars(item)[method], True)
    return found


def _has_tensors(function: Any) -> bool:
    """Whether a signature shows a shape: those are jaxtyping's."""
    return any(True for spec in (read(h) for h in _hints(function)) for _ in tensors(spec))


def _hints(function: Any) -> list[Any]:
    return [hint for hint in inspect.get_annotations(inspect.unwrap(function)).values() if not isinstance(hint, str)]


def test_every_public_function_with_tensors_has_a_contract_and_every_one_of_ops_and_optim() -> None:
    functions = _functions()
    assert len(functions) > 60
    rooms = ("cs336_basics.ops.", "cs336_basics.nn.", "cs336_basics.optim.")
    without = [
        name
        for name, (function, has_tensors) in functions.items()
        if (has_tensors or name.startswith(rooms))
        and not hasattr(function, "__contract__")
        and name != "cs336_basics.optim.each.update_each"  # it says why
    ]
    assert without == []


def test_no_function_of_the_library_waits_for_the_authority() -> None:
    slow = [name for name, (function, _) in _functions().items() if getattr(function, "__contract__", None)]
    assert len(slow) > 40
    assert [name for name in slow if not _functions()[name][0].__contract__.source] == []


@pytest.mark.parametrize("target", [staticmethod(inside), int, Plain, print, partial(int, "1")])
def test_what_is_no_function_is_refused(target: Any) -> None:
    with pytest.raises(ContractError, match="contract: must decorate a function, got a"):
        contract(target)


def test_a_coroutine_is_checked_when_it_is_called() -> None:
    @contract
    async def wait(x: Float[Tensor, "a"]) -> Float[Tensor, "a"]:
        return x

    assert torch.equal(asyncio.run(wait(torch.ones(2))), torch.ones(2))
    with pytest.raises(ContractError, match="wait: x must be"):
        wait(torch.ones(2, 2)).close()
