"""einops patterns read for their shapes, against what einops itself makes of them."""

import einops
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cs336_basics.contracts.plugin.patterns import PatternError, apply
from cs336_basics.contracts.plugin.polynomials import Size, named, number, unknown
from cs336_basics.contracts.plugin.values import Axes, Several, written

BATCH, SEQ, MODEL = Several("batch"), named("seq"), named("d_model")
X: Axes = (BATCH, SEQ, MODEL)
Y: Axes = (SEQ, MODEL)


@pytest.mark.parametrize(
    ("operation", "pattern", "shape", "sizes"),
    [
        ("rearrange", "a b c -> c a b", (2, 3, 4), {}),
        ("rearrange", "a (b c) d -> a c (b d)", (2, 6, 4), {"b": 2}),
        ("rearrange", "... a b -> ... b a", (2, 3, 4, 5), {}),
        ("rearrange", "a ... -> (...) a", (2, 3, 4), {}),
        ("rearrange", "a 1 b -> a b ()", (2, 1, 4), {}),
        ("rearrange", "a b -> 1 (a b) 1", (2, 3), {}),
        ("rearrange", "(a b c) -> b c a", (24,), {"a": 2, "b": 3}),
        ("repeat", "a b -> a n b", (2, 3), {"n": 5}),
        ("repeat", "a b -> (a n) b 2", (2, 3), {"n": 5}),
        ("reduce", "a b c -> c a", (2, 3, 4), {}),
        ("reduce", "a (b 2) -> a b", (2, 6), {}),
        ("reduce", "a ... -> a 1", (2, 3, 4), {}),
    ],
)
def test_the_shape_is_the_one_that_einops_makes(
    operation: str, pattern: str, shape: tuple[int, ...], sizes: dict[str, int]
) -> None:
    x = torch.zeros(shape)
    more = ("sum",) if operation == "reduce" else ()
    expected = getattr(einops, operation)(x, pattern, *more, **sizes).shape
    given_sizes = {name: number(size) for name, size in sizes.items()}
    found = apply(operation, pattern, [tuple(map(number, shape))], given_sizes, rigid=True)
    if "(...)" in pattern:  # a product of axes that have no names is one size, and no more is known
        assert len(found) == len(expected)
    else:
        assert [size.number if isinstance(size, Size) else None for size in found] == list(expected)


@given(st.permutations("abcd"), st.integers(0, 4))
def test_any_order_and_any_grouping(order: list[str], cut: int) -> None:
    left = "a b c d"
    right = f"({' '.join(order[:cut])}) {' '.join(order[cut:])}"
    expected = einops.rearrange(torch.zeros(2, 3, 5, 7), f"{left} -> {right}").shape
    found = apply("rearrange", f"{left} -> {right}", [tuple(map(number, (2, 3, 5, 7)))], {}, rigid=True)
    assert written(found) == " ".join(map(str, expected))


@pytest.mark.parametrize(
    ("operation", "pattern", "axes", "sizes", "result"),
    [
        ("rearrange", "... s (h d) -> ... h s d", [X], {"h": named("heads")}, "*batch heads seq d_model/heads"),
        ("rearrange", "... s d -> ... d s", [X], {}, "*batch d_model seq"),
        ("rearrange", "s (h d) -> h s d", [Y], {}, "h seq d"),
        ("rearrange", "a b -> b a", [None], {}, "b a"),
        ("rearrange", "a ... -> ... a", [None], {}, "... a"),
        ("rearrange", "a b -> b a", [(Several("?"),)], {}, "b a"),
        ("rearrange", "a b -> b a", [(Several("?"), SEQ)], {}, "seq a"),
        ("einsum", "... q d, ... k d -> ... q k", [X, X], {}, "*batch seq seq"),
        ("einsum", "... d, f d -> ... f", [X, (named("d_ff"), MODEL)], {}, "*batch seq d_ff"),
        ("einsum", "... d, ... d -> ...", [X, Y], {}, "..."),
        ("reduce", "s d ->", [Y], {}, ""),
    ],
)
def test_names_stand_for_the_sizes_they_meet(
    operation: str, pattern: str, axes: list[Axes | None], sizes: dict[str, Size], result: str
) -> None:
    assert written(apply(operation, pattern, axes, sizes, rigid=True)) == result


def test_heads_split_and_merged_are_the_width_again() -> None:
    split = apply("rearrange", "... s (h d) -> ... h s d", [X], {"h": number(8)}, rigid=True)
    assert apply("rearrange", "... h s d -> ... s (h d)", [split], {}, rigid=True) == X


@pytest.mark.parametrize(
    ("operation", "pattern", "axes", "why"),
    [
        ("rearrange", "a b c -> c b a", [Y], "it has 3 axes, not 2"),
        ("rearrange", "a b ... c -> c b a ...", [Y], "it has 3 or more axes, not 2"),
        ("rearrange", "a b c -> c b a", [X], "*batch is any number of axes, which only ... can stand for"),
        ("rearrange", "... a b c -> ... c b a", [X], "*batch is any number of axes, which only ... can stand for"),
        ("rearrange", "a -> a", [X], "it has 1 axes, not 2"),
        ("rearrange", "a b -> a c", [Y], "c is on the right side only"),
        ("rearrange", "a b -> a", [Y], "b is on the left side only"),
        ("rearrange", "... a -> a", [X], "... is on the left side only"),
        ("reduce", "a b -> c", [Y], "c is on the right side only"),
        ("repeat", "a b -> a b n", [Y], "n is on the right side only"),
        ("rearrange", "a a -> a", [Y], "a stands twice on one side"),
        ("rearrange", "a b - > a b", [Y], "a pattern has one ->"),
        ("rearrange", "(a b -> a b", [Y], "a parenthesis is not closed"),
        ("rearrange", "(a (b)) c -> a b c", [Y], "'(' cannot stand there"),
        ("rearrange", "a$ b -> a b", [Y], "'$' cannot stand there"),
        ("rearrange", "3 b -> b 3", [Y], "3, not seq"),
        ("einsum", "a d, b d -> a b", [Y, (MODEL, SEQ)], "d is d_model, not seq"),
        ("einsum", "a d, b d -> a b", [Y], "it is for 2 tensors, not 1"),
    ],
)
def test_what_einops_would_refuse_for_every_size_or_all_but_special_ones(
    operation: str, pattern: str, axes: list[Axes], why: str
) -> None:
    with pytest.raises(PatternError) as caught:
        apply(operation, pattern, axes, {}, rigid=True)
    assert str(caught.value) == why


def test_sizes_that_may_be_equal_pass_where_names_are_not_rigid() -> None:
    assert written(apply("einsum", "a d, b d -> a b", [Y, (MODEL, SEQ)], {}, rigid=False)) == "seq d_model"
    assert written(apply("einsum", "a d, b d -> a b", [Y, (MODEL, unknown("n"))], {}, rigid=True)) == "seq d_model"
    assert written(apply("rearrange", "a b c -> c b a", [X], {}, rigid=False)) == "d_model seq a"
    with pytest.raises(PatternError, match="3, not 4"):
        apply("rearrange", "3 b -> b", [(number(4), SEQ)], {}, rigid=False)
