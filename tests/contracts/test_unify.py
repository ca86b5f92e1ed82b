"""Arguments held against annotations: against jaxtyping where sizes are numbers, by tables where they have names."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from jaxtyping import AnnotationError, Float, jaxtyped

from cs336_basics.contracts.errors import ContractError
from cs336_basics.contracts.plugin.polynomials import named, number, unknown
from cs336_basics.contracts.plugin.unify import Bindings, Clash
from cs336_basics.contracts.plugin.values import (
    Axes,
    ManyForm,
    ManyValue,
    Several,
    StructForm,
    StructValue,
    TensorForm,
    TensorValue,
    TupleForm,
    TupleValue,
    clash,
    names,
    own,
    written,
)
from cs336_basics.contracts.shapes import parse_shape

PLAIN = ("a", "b", "c", "2", "_", "*s", "...")
EVERY = (*PLAIN, "#a", "#b", "#2", "*#s", "a+1", "2*b", "1")


def form(text: str, dtype: str = "Float") -> TensorForm:
    return TensorForm(dtype, "Tensor", parse_shape(text))


def value(text: str, dtype: str | None = "Float") -> TensorValue:
    """A caller's value: names are its own, a leading ? marks what is not known, * several axes."""
    axes: list[object] = []
    for word in text.split():
        if word.isdigit():
            axes.append(number(int(word)))
        elif word.startswith("*"):
            axes.append(Several(word[1:]))
        else:
            axes.append(unknown(word[1:]) if word.startswith("?") else named(word))
    return TensorValue(dtype, tuple(axes))  # type: ignore[arg-type]  # each is one of the two


def unify(*arguments: tuple[str, str], rigid: bool = True) -> tuple[Clash | None, Bindings]:
    bindings = Bindings(rigid)
    return bindings.unify([(form(text), value(given_text)) for text, given_text in arguments]), bindings


def jaxtyping_accepts(texts: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> bool:
    hints: list[Any] = [Float[np.ndarray, text] for text in texts]
    with jaxtyped("context"):  # type: ignore[call-overload,unused-ignore]  # a context manager when given the string
        return all(isinstance(np.zeros(shape), hint) for shape, hint in zip(shapes, hints, strict=True))


@st.composite
def calls(draw: st.DrawFn, words: Sequence[str]) -> list[tuple[str, tuple[int, ...]]]:
    """Annotations and shapes that mostly fit: made from one size for each name, then perhaps changed in one place."""
    sizes = {name: draw(st.integers(1, 3)) for name in ("a", "b", "c")}
    several = draw(st.lists(st.integers(1, 3), max_size=2))
    arguments: list[tuple[str, list[int]]] = []
    for _ in range(draw(st.integers(1, 3))):
        text = draw(st.lists(st.sampled_from(words), max_size=4).map(" ".join).filter(readable))
        shape: list[int] = []
        for word in text.split():
            if word in ("*s", "*#s"):
                shape += several if word == "*s" or draw(st.booleans()) else [1] * len(several)
            elif word == "...":
                shape += draw(st.lists(st.integers(1, 3), max_size=2))
            elif word == "_" or (word[0] == "#" and draw(st.booleans())):
                shape.append(1)
            else:
                shape.append(eval(word.removeprefix("#"), {}, sizes))  # noqa: S307 - a word of this file
        arguments.append((text, shape))
    if draw(st.integers(0, 3)) == 0:
        _, shape = draw(st.sampled_from(arguments))
        shape[:] = draw(st.sampled_from([[*shape, 2], shape[1:], [*(size % 3 + 1 for size in shape[:1]), *shape[1:]]]))
    return [(text, tuple(shape)) for text, shape in arguments]


def readable(text: str) -> bool:
    try:
        parse_shape(text)
    except ContractError:
        return False
    return True


@given(calls(EVERY))
def test_what_jaxtyping_accepts_is_accepted(arguments: list[tuple[str, tuple[int, ...]]]) -> None:
    texts, shapes = zip(*arguments, strict=True)
    try:
        accepted = jaxtyping_accepts(texts, shapes)
    except AnnotationError:  # it computes a size before the names in it are bound
        accepted = False
    assume(accepted)
    found = [(form(text), TensorValue(None, tuple(map(number, shape)))) for text, shape in arguments]
    assert Bindings(rigid=True).unify(found) is None


@given(calls(PLAIN))
def test_numbers_are_refused_where_jaxtyping_refuses_them(arguments: list[tuple[str, tuple[int, ...]]]) -> None:
    texts, shapes = zip(*arguments, strict=True)
    found = [(form(text), TensorValue(None, tuple(map(number, shape)))) for text, shape in arguments]
    assert (Bindings(rigid=False).unify(found) is None) == jaxtyping_accepts(texts, shapes)


@given(calls(EVERY), st.data())
def test_what_is_less_known_is_accepted_where_the_known_is(
    arguments: list[tuple[str, tuple[int, ...]]], data: st.DataObject
) -> None:
    known = [(form(text), TensorValue(None, tuple(map(number, shape)))) for text, shape in arguments]
    assume(Bindings(rigid=True).unify(known) is None)
    less: list[tuple[TensorForm, TensorValue | None]] = []
    for annotation, tensor in known:
        axes: Axes = tuple(unknown("n") if data.draw(st.booleans()) else axis for axis in tensor.axes)
        cut = data.draw(st.integers(0, len(axes)))
        axes = data.draw(st.sampled_from([axes, (Several("?any"), *axes[cut:]), (*axes[:cut], Several("?any"))]))
        less.append((annotation, data.draw(st.sampled_from([TensorValue(None, axes), None]))))
    assert Bindings(rigid=True).unify(less) is None


@pytest.mark.parametrize(
    "arguments",
    [
        [("*batch d_in", "*batch seq d_model"), ("d_out d_in", "d_ff d_model")],
        [("*batch d_in", "d_model"), ("d_out d_in", "d_ff d_model")],
        [("*batch d_in", "*batch ?n"), ("d_out d_in", "d_ff d_model")],
        [("*s", "*batch seq"), ("*s", "*batch seq")],
        [("*s", "*? seq"), ("*s", "*batch seq")],
        [("*b n", "*batch heads seq"), ("*#b n", "*batch 1 seq")],
        [("*b n", "*batch heads seq"), ("*#b n", "seq")],
        [("*b n", "*batch heads seq"), ("*#b n", "1 1 1 1 seq")],
        [("q k", "seq seq"), ("#q k", "1 seq")],
        [("heads*d_k", "d_model"), ("heads", "heads")],
        [("h*d", "d_model")],
        [("n n+1", "seq seq+1".replace("+", "")), ("_", "seq")],
        [("2*half", "d_k")],
        [("... d", "*batch d")],
        [("_ d", "seq d")],
        [("", "")],
        [("rows cols", "*?")],
        [("rows cols", "*? seq")],
    ],
)
def test_right_calls(arguments: list[tuple[str, str]]) -> None:
    found, _ = unify(*arguments)
    assert found is None


@pytest.mark.parametrize(
    ("arguments", "place", "why"),
    [
        ([("rows cols", "seq")], 0, "1 axis, not 2"),
        ([("", "seq")], 0, "1 axis, not 0"),
        ([("*batch rows cols", "seq")], 0, "1 axis, not at least 2"),
        ([("rows", "*batch a b")], 0, "at least 2 axes, not 1"),
        ([("rows", "*? a b")], 0, "at least 2 axes, not 1"),
        ([("rows cols", "*batch d")], 0, "*batch is any number of axes"),
        ([("*s a b", "*batch d")], 0, "*batch is any number of axes: 1 or more, not 2"),
        ([("d_in", "d_model"), ("d_in", "d_ff")], 1, "d_in is d_model, not d_ff"),
        ([("d_ff", "d_model"), ("d_ff", "d_ff")], 1, "d_ff is d_model, not d_ff"),
        ([("d_model", "d_model"), ("d_model", "d_ff")], 1, "d_model, not d_ff"),
        ([("3", "d_model")], 0, "3, not d_model"),
        ([("3", "4")], 0, "3, not 4"),
        ([("n", "n"), ("n+1", "n")], 1, "n+1 is 1+n, not n"),
        ([("h*d", "6"), ("h", "2"), ("d", "4")], 0, "h*d is 8, not 6"),
        ([("*s", "*batch a"), ("*s", "*batch b")], 1, '*s is "*batch a", not "*batch b"'),
        ([("*s", "*batch"), ("*s", "seq")], 1, '*s is "*batch", not "seq"'),
        ([("*s", "a b"), ("*s", "a")], 1, '*s is "a b", not "a"'),
        ([("*b n", "a n"), ("*#b n", "c n")], 1, '"c" does not broadcast to *b, which is "a"'),
        ([("*b n", "a n"), ("*#b n", "1 a n")], 1, '"1 a" does not broadcast to *b, which is "a"'),
        ([("q k", "a b"), ("#q k", "b b")], 1, "q is a, not b"),
    ],
)
def test_wrong_calls(arguments: list[tuple[str, str]], place: int, why: str) -> None:
    found, _ = unify(*arguments)
    assert found is not None
    assert (found.argument, found.why) == (place, why)


@pytest.mark.parametrize("arguments", [[("3", "d_model")], [("n n", "a b")], [("r c", "*batch d")], [("*s", "*a")] * 2])
def test_names_that_are_compared_elsewhere_are_not_told_apart(arguments: list[tuple[str, str]]) -> None:
    assert unify(*arguments, rigid=False)[0] is None
    assert unify(("3", "4"), rigid=False)[0] is not None


def test_the_result_is_written_in_the_sizes_of_the_caller() -> None:
    _, bindings = unify(("*batch seq heads*d_k", "*others n d_model"), ("heads", "8"))
    assert str(bindings.result(form("*batch heads seq d_k"))) == 'Float[Tensor, "*others 8 n d_model/8"]'
    assert str(bindings.result(form("new seq 4", "Int"))) == 'Int[Tensor, "new n 4"]'
    assert bindings.result(None) is None
    one, other = bindings.result(form("new")), bindings.result(form("new"))
    assert one == other


def test_a_formula_may_bind_a_name_for_the_next() -> None:
    found, bindings = unify(("a*b", "6"), ("b*c", "8"), ("c", "4"))
    assert found is None
    assert {name: size.number for name, size in bindings.sizes.items()} == {"a": 3, "b": 2, "c": 4}


def test_kinds_of_dtype() -> None:
    assert clash("Int", "Float")
    assert clash("Bool", "Int64")
    assert clash("Float32", "Complex")
    assert not clash("Float", "Float32")  # which is a question of kind alone
    assert not clash("Num", "Int")
    assert not clash("Shaped", "Bool")
    assert not clash("Inexact", "Complex")
    arguments = [(form("n", "Int"), value("n", "Float"))]
    found = Bindings(rigid=True).unify(arguments)
    assert found is not None
    assert found.why == "Int, not Float"
    assert Bindings(rigid=True).unify([(form("n", "Int"), value("n", None))]) is None


def test_structures_are_held_part_by_part() -> None:
    annotation = StructForm((("keys", form("seq d")), ("name", None), ("more", ManyForm(form("d")))))
    keys, vector, wrong = value("n m"), value("m"), value("k")
    right = StructValue((("keys", keys), ("name", None), ("more", ManyValue(vector))))
    assert Bindings(rigid=True).unify([(annotation, right)]) is None
    found = Bindings(rigid=True).unify(
        [
            (TupleForm((annotation, None)), TupleValue((right, wrong))),
            (ManyForm(form("d")), TupleValue((vector, wrong))),
        ]
    )
    assert found is not None
    assert (found.argument, found.why) == (1, "d is m, not k")
    for unfit in (keys, None, TupleValue((keys,))):
        assert Bindings(rigid=True).unify([(annotation, unfit), (TupleForm((None, None)), unfit)]) is None


def test_what_a_function_knows_of_its_own_parameters() -> None:
    annotation = form("*batch #seq seq n+1 _ 3 ...".replace(" ...", ""))
    promised = names(annotation)
    assert promised == {"*batch", "seq", "n"}
    found = own(annotation, promised)
    assert isinstance(found, TensorValue)
    assert written(found.axes) == "*batch seq seq 1+n _ 3"
    assert found.axes[1] != found.axes[2]  # it may be 1
    foreign = own(annotation, frozenset(), "self.")
    assert isinstance(foreign, TensorValue)
    assert written(foreign.axes) == "... seq self.seq 1+self.n _ 3"
