"""`on` and `full` accept and refuse the same calls, and where plain jaxtyping can judge, it agrees with both."""

from collections.abc import Callable
from typing import Any, Literal, get_origin

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import AnnotationError, Bool, Float, Int, TypeCheckError, jaxtyped
from torch import Tensor

from cs336_basics.contracts import contract
from tests.contracts.modes import mode, verdict

PLAIN_AXES = ["a", "b", "c", "_", "2", "1", "#a", "#b", "#2"]
FORMULAS = ["a+1", "2*a", "a*b", "a-1", "b*2+1", "min(a,b)", "#a*b"]
SEVERAL = ["*batch", "*#batch", "...", "*other"]
DTYPES = [torch.float32, torch.bfloat16, torch.int64, torch.int16, torch.bool]


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


@st.composite
def spellings(
    draw: st.DrawFn, args: tuple[Any, ...], options: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same call, with more given, some of it by name, now and then something missing, double or unknown."""
    more: dict[str, Any] = {
        "scale": draw(st.sampled_from([2, 0.5, "2"])),
        "kind": draw(st.sampled_from(["mean", "max"])),
    }
    names = ["x", "w", "scale", "kind"]
    values = [*args, *more.values()][: draw(st.integers(1, 4))]
    at = draw(st.integers(0, len(values)))
    named = {**options, **dict(zip(names[at : len(values)], values[at:], strict=True))}
    if draw(st.integers(0, 9)) == 0:
        named[draw(st.sampled_from([*names, "other"]))] = 1
    return tuple(values[:at]), named


def made(annotations: dict[str, Any]) -> Callable[..., Any]:
    """A function with these annotations that returns its argument `y`."""

    def function(x: Any, w: Any, scale: float = 1.0, kind: Any = "sum", *, y: Any, a: Any = None) -> Any:
        del x, w, a, scale, kind
        return y

    options = {"scale": float, "kind": Literal["sum", "mean"]}
    function.__annotations__ = {"a": int | None, **options, **annotations}
    return function


@settings(max_examples=400, deadline=None, report_multiple_bugs=False)
@given(st.data())
def test_on_and_full_agree_in_verdict_and_words(data: st.DataObject) -> None:
    annotations = {name: data.draw(hints(formulas=True), label=name) for name in ("x", "w", "return")}
    sizes = data.draw(SIZES, label="sizes")
    args = tuple(data.draw(values(annotations[name], sizes), label=name) for name in ("x", "w"))
    y = data.draw(values(annotations["return"], sizes), label="y")
    options = {"y": y, "a": data.draw(st.sampled_from([None, sizes["a"], sizes["a"], 0, 2, True]), label="a")}
    args, options = data.draw(spellings(args, options), label="spelling")
    verdicts = set()
    for name in ("on", "full"):
        with mode(name):
            verdicts.add(verdict(contract(made(annotations)), *args, **options))
    assert len(verdicts) == 1, verdicts


@settings(max_examples=400, deadline=None, report_multiple_bugs=False)
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

    @settings(max_examples=300, deadline=None, derandomize=True)
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
