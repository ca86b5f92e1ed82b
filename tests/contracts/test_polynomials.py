"""Sizes with names: their arithmetic against numbers, and when two of them are said to be equal or to differ."""

import itertools
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cs336_basics.contracts.plugin.polynomials import Size, calculate, evaluate, named, number, same, solve, unknown

NAMES = ("a", "b", "c")

SIZES = st.recursive(
    st.sampled_from(NAMES).map(named) | st.integers(0, 4).map(number),
    lambda inner: st.tuples(st.sampled_from(["Add", "Sub", "Mult"]), inner, inner).map(
        lambda given: calculate(*given) or number(0)
    ),
    max_leaves=6,
)


def at(size: Size, values: Mapping[str, int]) -> float:
    """The number that a size is, where its names are these numbers."""
    total = 0.0
    for monomial, factor in size.terms:
        product = float(factor)
        for name, power in monomial:
            product *= values[name] ** power
        total += product
    return total


@given(SIZES, SIZES)
def test_arithmetic_is_that_of_the_numbers(one: Size, other: Size) -> None:
    for numbers in itertools.product((1, 2, 5), repeat=3):
        values = dict(zip(NAMES, numbers, strict=True))
        assert at(one + other, values) == at(one, values) + at(other, values)
        assert at(one - other, values) == at(one, values) - at(other, values)
        assert at(one * other, values) == at(one, values) * at(other, values)


@given(SIZES, SIZES, st.booleans())
def test_a_verdict_holds_for_every_size(one: Size, other: Size, rigid: bool) -> None:
    verdict = same(one, other, rigid=rigid)
    equal = [
        at(one, dict(zip(NAMES, numbers, strict=True))) == at(other, dict(zip(NAMES, numbers, strict=True)))
        for numbers in itertools.product((1, 2, 3, 5), repeat=3)
    ]
    if verdict is True:
        assert all(equal)
    if verdict is False:
        assert not all(equal)  # rigid: not for every size; otherwise: for none
        assert rigid or not any(equal)


@given(SIZES, SIZES)
def test_a_verdict_does_not_depend_on_the_order(one: Size, other: Size) -> None:
    assert same(one, other, rigid=True) == same(other, one, rigid=True)


@pytest.mark.parametrize(
    ("one", "other", "rigid", "verdict"),
    [
        (named("seq"), named("seq"), True, True),
        (named("d_ff"), named("d_model"), True, False),
        (named("d_ff"), named("d_model"), False, None),
        (named("seq"), number(3), True, False),
        (named("seq"), number(3), False, None),
        (number(3), number(4), False, False),
        (named("seq"), named("seq") + number(1), False, False),
        (named("half"), number(2) * named("half"), False, False),
        (number(2) * named("half"), named("d_k"), True, None),  # d_k may be twice half: who knows
        (named("heads") * named("d_k"), named("d_model"), True, None),
        (named("heads") * named("d_k"), named("heads") * named("d_v"), True, False),
        (named("heads") * named("d_k"), named("d_k") * named("heads"), True, True),
        (number(2) * named("half"), number(8), True, None),
        (unknown("a"), unknown("a"), True, None),
        (unknown("a"), number(1), True, None),
        (unknown("a") + number(1), unknown("b"), True, None),
    ],
)
def test_when_sizes_are_told_apart(one: Size, other: Size, rigid: bool, verdict: bool | None) -> None:
    assert same(one, other, rigid=rigid) is verdict


def test_an_unknown_size_equals_itself_alone() -> None:
    size = unknown("n")
    assert same(size, size, rigid=True) is True
    assert same(size, unknown("n"), rigid=True) is None
    assert str(size) == "n"


def test_a_product_divides_and_comes_back() -> None:
    d_model, heads = named("d_model"), named("heads")
    width = d_model.over(heads)
    assert width is not None
    assert str(width) == "d_model/heads"
    assert width * heads == d_model
    assert same(width, named("d_k"), rigid=True) is None
    assert d_model.over(heads + number(1)) is None


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("2*half", "2*d"),
        ("seq+1", "1+n"),
        ("seq-1", "-1+n"),
        ("-seq", "-n"),
        ("seq//2", "n/2"),
        ("seq*half", "d*n"),
        ("2**3", "8"),
        ("7//2", "3"),
        ("7%4", "3"),
        ("seq**2", None),
        ("seq%2", None),
        ("min(seq,2)", None),
        ("other+1", None),
        ("2**99", None),
        ("1//0", None),
    ],
)
def test_formulas(formula: str, value: str | None) -> None:
    found = evaluate(formula, {"half": named("d"), "seq": named("n")})
    assert (None if found is None else str(found)) == value


@pytest.mark.parametrize(
    ("formula", "total", "solution"),
    [
        ("heads*x", named("d_model"), "d_model/heads"),
        ("x+1", named("seq"), "-1+seq"),
        ("2*x+heads", named("n"), "-heads/2+n/2"),
        ("x*x", named("n"), None),
        ("x+x*heads", named("n"), None),
        ("min(x,2)", named("n"), None),
        ("heads*x", number(6), "6/heads"),
    ],
)
def test_solving_for_the_one_name_not_bound(formula: str, total: Size, solution: str | None) -> None:
    found = solve(formula, "x", total, {"heads": named("heads")})
    assert (None if found is None else str(found)) == solution
