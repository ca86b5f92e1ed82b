"""What algebra says of conditions, held against all small sizes."""

import itertools
from typing import Any

import pytest
import sympy  # type: ignore[import-untyped]  # it has no types
from torch.utils._sympy.functions import FloorDiv, Mod

from cs336_basics.contracts.proof.algebra import always, divided, only_solution

D, H, S = (sympy.Symbol(name, integer=True, positive=True) for name in "dhs")
CONDITIONS = [
    *(sympy.Eq(FloorDiv(n * D - 1, D), k) for n in (2, 3, 4) for k in (1, 2, 3)),
    *(sympy.Eq(FloorDiv(n * D + r, n), D) for n in (2, 3) for r in (-1, 0, 1, 2)),
    sympy.Eq(FloorDiv(D * H + H - 1, H), D),
    sympy.Eq(FloorDiv(D * H + D, H), D),
    sympy.Eq(D, H, evaluate=False),
    sympy.Eq(Mod(D, 2), 0),
    *(relation(S - 1, n) for n in (0, 1, 2) for relation in (sympy.Ge, sympy.Gt, sympy.Ne, sympy.Lt, sympy.Le)),
    sympy.Ge(S * H, S + H),
    sympy.Gt(S * H, S),
    sympy.Ge(S, H),
    sympy.Ne(2 * S, 3),
]


@pytest.mark.parametrize("condition", CONDITIONS, ids=str)
def test_always_is_never_said_of_what_is_sometimes_false(condition: Any) -> None:
    if always(condition):
        symbols = sorted(condition.free_symbols, key=str)
        for sizes in itertools.product(range(2, 12), repeat=len(symbols)):
            assert condition.subs(dict(zip(symbols, sizes, strict=True))) == sympy.true


def test_what_torch_does_not_see() -> None:
    assert always(sympy.Eq(FloorDiv(3 * D - 1, D), 2))
    assert always(sympy.Eq(FloorDiv(D * H + H - 1, H), D))
    assert always(sympy.Gt(S * H, S))
    assert not always(sympy.Eq(FloorDiv(3 * D - 1, D), 3))
    assert not always(sympy.Eq(Mod(D, 2), 0))


def test_divided() -> None:
    assert divided(FloorDiv(6 * D + 1, 2)) == 3 * D
    assert divided(FloorDiv(D, 2)) == FloorDiv(D, 2)


@pytest.mark.parametrize(
    ("condition", "solution"),
    [
        (sympy.Ne(S - 1, 1), (S, 2)),
        (sympy.Ne(2 * S + 1, 9), (S, 4)),
        (sympy.Ne(S, 1), None),  # below 2
        (sympy.Ne(2 * S, 5), None),
        (sympy.Ne(S, H), None),
        (sympy.Ne(S * S, 9), None),
        (sympy.Eq(S, 4), None),
    ],
    ids=str,
)
def test_only_solution(condition: Any, solution: Any) -> None:
    assert only_solution(condition) == solution
