"""`on` and `full` accept and refuse the same calls, and where plain jaxtyping can judge, it agrees with both."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, get_origin

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import AnnotationError, Bool, Float, Int, TypeCheckError, jaxtyped
from torch import Tensor

from cs336_basics.contracts import Axes, ContractError, contract
from cs336_basics.contracts.runtime import SWITCH

PLAIN_AXES = ["a", "b", "c", "_", "2", "1", "#a", "#b", "#2"]
FORMULAS = ["a+1", "2*a", "a*b", "a-1", "b*2+1", "min(a,b)", "#a*b"]
SEVERAL = ["*batch", "*#batch", "...", "*other"]
DTYPES = [torch.float32, torch.bfloat16, torch.int64, torch.int16, torch.bool]


@contextmanager
def mode(name: str) -> Iterator[None]:
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = name
    try:
        yield
    finally:
        os.environ.pop(SWITCH)
        if before is not None:
            os.environ[SWITCH] = before


@st.composite
def shape_texts(draw: st.DrawFn, *, formulas: bool) -> str:
    axes = draw(st.lists(st.sampled_from(PLAIN_AXES + (FORMULAS if formulas else [])), max_size=3))
    if draw(st.booleans()):
        axes.insert(draw(st.integers(0, len(axes))), draw(st.sampled_from(SEVERAL)))
    return " ".join(axes)


@st.composite
def hints(draw: st.DrawFn, *, formulas: bool) -> Any:
    text = draw(shape_texts(formulas=formulas))
    kind: Any = draw(st.sampled_from([Float, Float, Float, Int, Bool]))
    hint = kind[Tensor, text]
    choice = draw(st.integers(0, 7))
    if choice == 0:
        return hint | None
    if choice == 1:
        return hint | Int[Tensor, text]
    if choice == 2:
        return tuple.__class_getitem__((hint, draw(hints(formulas=formulas))))
    return hint


SIZES = st.fixed_dictionaries({name: st.integers(1, 3) for name in "abc"})


@st.composite
def values(draw: st.DrawFn, hint: Any, sizes: dict[str, int]) -> Any:
    """Mostly a value that fits the annotation under these sizes, sometimes one with a small fault, or anything."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from([None, 3, (torch.zeros(2), torch.zeros(2)), torch.zeros(2, 3)]))
    if getattr(hint, "__args__", None):
        if get_origin(hint) is tuple:
            return tuple(draw(values(part, sizes)) for part in hint.__args__)
        hint = draw(st.sampled_from(hint.__args__))
    if hint is type(None):
        return None
    shape: list[int] = []
    for axis in hint.dim_str.split():
        name = axis.lstrip("*#")
        if axis[0] == "*" or axis == "...":
            shape += [2, 1][: draw(st.integers(0, 2)) if "#" in axis or axis == "..." else 2]
        elif axis[0] == "#" and draw(st.booleans()):
            shape.append(1)
        else:
            shape.append(2 if name == "_" else max(0, eval(name, dict(sizes))))  # noqa: S307  # a text from above
    if shape and draw(st.integers(0, 11)) == 0:
        shape[draw(st.integers(0, len(shape) - 1))] += 1
    kinds = {Float: [torch.float32, torch.bfloat16], Int: [torch.int64, torch.int16], Bool: [torch.bool]}
    fitting = kinds[hint.dtype] * 12 + DTYPES
    return torch.zeros(shape, dtype=draw(st.sampled_from(fitting)))


def made(annotations: dict[str, Any]) -> Callable[..., Any]:
    """A function with these annotations that returns its argument `y`."""

    def function(x: Any, w: Any, *, y: Any, a: Any = None) -> Any:
        del x, w, a
        return y

    function.__annotations__ = {"a": int | None, **annotations}
    return function


def verdict(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    try:
        function(*args, **kwargs)
    except ContractError as error:
        return str(error)
    return "accepted"


@settings(max_examples=400, report_multiple_bugs=False)
@given(st.data())
def test_on_and_full_agree_in_verdict_and_words(data: st.DataObject) -> None:
    annotations = {name: data.draw(hints(formulas=True), label=name) for name in ("x", "w", "return")}
    sizes = data.draw(SIZES, label="sizes")
    args = tuple(data.draw(values(annotations[name], sizes), label=name) for name in ("x", "w"))
    y = data.draw(values(annotations["return"], sizes), label="y")
    options = {"y": y, "a": data.draw(st.sampled_from([None, sizes["a"], sizes["a"], 0, 2]), label="a")}
    verdicts = set()
    for name in ("on", "full"):
        with mode(name):
            verdicts.add(verdict(contract(made(annotations)), *args, **options))
    assert len(verdicts) == 1, verdicts


@settings(max_examples=400, report_multiple_bugs=False)
@given(st.data())
def test_agrees_with_plain_jaxtyping_where_that_can_judge(data: st.DataObject) -> None:
    annotations = {name: data.draw(hints(formulas=False), label=name) for name in ("x", "w", "return")}
    sizes = data.draw(SIZES, label="sizes")
    args = tuple(data.draw(values(annotations[name], sizes), label=name) for name in ("x", "w"))
    y = data.draw(values(annotations["return"], sizes), label="y")
    function = made({**annotations, "a": Any, "y": Any})
    theirs = jaxtyped(function, typechecker=__import__("beartype").beartype)
    try:
        theirs(*args, y=y)
        accepted = True
    except (TypeCheckError, AnnotationError):
        accepted = False
    assert (verdict(contract(function), *args, y=y) == "accepted") == accepted


def test_the_random_calls_above_are_accepted_and_refused_in_earnest() -> None:
    """A property over calls that are all refused, or all accepted, would hold of anything."""
    found = {"accepted": 0, "refused": 0}

    @settings(max_examples=300, derandomize=True)
    @given(st.data())
    def count(data: st.DataObject) -> None:
        annotations = {name: data.draw(hints(formulas=True)) for name in ("x", "w", "return")}
        sizes = data.draw(SIZES)
        x, w, y = (data.draw(values(annotations[name], sizes)) for name in ("x", "w", "return"))
        call = verdict(contract(made(annotations)), x, w, y=y)
        found["accepted" if call == "accepted" else "refused"] += 1

    count()
    assert found["accepted"] > 50
    assert found["refused"] > 50


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


@pytest.mark.parametrize("function", [grow, update, split, stack, shift])
def test_what_is_tested_here_is_straight(function: Any) -> None:
    """Else the calls above would all have been the authority's."""
    assert bool(function.__contract__.source) == (function is not update)
