"""The text of a shape: what is read from it, what is refused, and that jaxtyping reads the same."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

from cs336_basics.contracts import ContractError
from cs336_basics.contracts.shapes import (
    Anything,
    Axis,
    Expression,
    Fixed,
    Named,
    Variadic,
    parse_shape,
    rename_axes,
)
from cs336_basics.contracts.sizes import evaluate, solve

READ: dict[str, tuple[Axis, ...]] = {
    "": (),
    "seq": (Named("seq"),),
    "  seq   d_k ": (Named("seq"), Named("d_k")),
    "#seq": (Named("seq", broadcast=True),),
    "*batch d": (Variadic("batch"), Named("d")),
    "*#batch": (Variadic("batch", broadcast=True),),
    "#*batch": (Variadic("batch", broadcast=True),),
    "3 #3 rows=3 -1": (Fixed(3), Fixed(3, broadcast=True), Fixed(3), Fixed(-1)),
    "_ _name ...": (Anything(), Anything(), Anything(variadic=True)),
    "*_": (Anything(variadic=True),),
    "heads*d_k": (Expression("heads*d_k", ("heads", "d_k")),),
    "#seq+1": (Expression("seq+1", ("seq",), broadcast=True),),
    "min(a,b)//2": (Expression("min(a,b)//2", ("a", "b")),),
}
REFUSED = {
    "a b +": "shape 'a b +' cannot be read at position 4 ('+'): not an axis name, a number or a formula",
    "a**": "at position 0 ('a**'): not an axis name",
    "1a": "at position 0 ('1a'): not an axis name",
    "a,b": "at position 1 (',b'): axes are parted by spaces, not by commas",
    "*a d *b": "at position 5 ('*b'): only one axis may stand for several, and *a does",
    "*a ...": "at position 3 ('...'): only one axis may stand for several, and *a does",
    "a = 3": "at position 2 ('='): not an axis name",
    "?a": "at position 0 ('?a'): ? has a meaning in trees only",
    "**a": "at position 0 ('**a'): * may stand once before a name",
    "*3": "at position 0 ('*3'): * must stand before a name",
    "*a+1": "* must stand before a name",
    "#_": "no # go before it",
    "_3": "a name may follow it",
    "d {n}": "at position 2 ('{n}'): a size may use names",
    "a.b": "a size may use names",
    "f(a)": "a size may use names",
    "a/2": "a size may use names",
    "a d+1.5": "at position 4 ('1.5'): a size may use names",
    "g().f": "a size may use names",
}


@pytest.mark.parametrize("text", READ)
def test_reads(text: str) -> None:
    assert parse_shape(text).axes == READ[text]


@pytest.mark.parametrize("text", REFUSED)
def test_refuses_with_the_text_and_the_position(text: str) -> None:
    with pytest.raises(ContractError) as caught:
        parse_shape(text)
    assert REFUSED[text] in str(caught.value)
    assert repr(text) in str(caught.value)


@given(st.text(alphabet="ab1 *#_.+-()=,?", max_size=8))
def test_what_it_reads_jaxtyping_reads_alike(text: str) -> None:
    try:
        shape = parse_shape(text)
    except ContractError:
        return  # stricter than jaxtyping, which finds a bad formula at the first call only
    theirs: Any = Float[Tensor, text]
    assert len(theirs.dims) == len(shape.axes)
    assert theirs.index_variadic == shape.variadic
    kinds = {
        "_NamedDim": Named,
        "_NamedVariadicDim": Variadic,
        "_FixedDim": Fixed,
        "_SymbolicDim": Expression,
        "_AnonymousDim": Anything,
        "_AnonymousVariadicDim": Anything,
    }
    for dim, axis in zip(theirs.dims, shape.axes, strict=True):
        assert kinds[type(dim).__name__] is type(axis)
        assert getattr(dim, "broadcastable", False) == getattr(axis, "broadcast", False)
        for name in ("name", "size"):
            assert getattr(dim, name, None) == getattr(axis, name, None)


@pytest.mark.parametrize(
    ("text", "renamed"),
    [
        ("*batch cached d_k", "*batch cached+seq d_k"),
        ("#cached", "#cached+seq"),
        ("2*cached", "2*(cached+seq)"),
        ("*cached _cached cached_2", "*cached _cached cached_2"),
    ],
)
def test_renames_single_axes_only(text: str, renamed: str) -> None:
    assert rename_axes(parse_shape(text), {"cached": "cached+seq"}).text == renamed


@given(st.integers(0, 50), st.integers(1, 20), st.sampled_from(["n*k", "n+k", "2*n*k+k", "k*(n+3)", "n*k-n", "7"]))
def test_a_formula_solved_for_a_name_gives_it_back(n: int, k: int, text: str) -> None:
    names = tuple(name for name in "nk" if name in text)
    axis = Expression(text, names)
    size = evaluate(axis, {"n": n, "k": k})
    found = solve(axis, "n", size, {"k": k})
    if text == "7" or (text == "n*k-n" and k == 1):
        assert found is None  # every n, or none, will do
    else:
        assert found == n
    assert solve(Expression("n*n", ("n", "n")), "n", 9, {}) is None  # no line in n
    assert solve(Expression("2*n", ("n",)), "n", 5, {}) is None
