"""Sizes computed from other sizes: `heads*d_k`, and `d_k` from it."""

import ast
import functools
from collections.abc import Mapping
from types import CodeType
from typing import Any

from cs336_basics.contracts.shapes import Expression


def evaluate(axis: Expression, sizes: Mapping[str, Any]) -> Any:
    """The value of a formula; the sizes may be ints or symbols.

    >>> evaluate(Expression("heads*d_k", ("heads", "d_k")), {"heads": 4, "d_k": 8})
    32
    """
    # The text was parsed by `parse_shape`, which lets nothing but names, numbers and arithmetic through.
    return eval(_code(axis.text), {"__builtins__": {}, "min": min, "max": max}, dict(sizes))  # noqa: S307  # see above


def solve(axis: Expression, name: str, size: Any, sizes: Mapping[str, Any]) -> Any | None:
    """The value of `name` for which the formula gives `size`, where the formula is a line in it; else None.

    f(n) = a n + b with b = f(0), a = f(1) - f(0).

    >>> solve(Expression("heads*d_k", ("heads", "d_k")), "d_k", 32, {"heads": 4})
    8
    >>> solve(Expression("seq+1", ("seq",)), "seq", 5, {})
    4
    """
    try:
        at_0, at_1, at_2 = (evaluate(axis, {**sizes, name: n}) for n in (0, 1, 2))
    except ArithmeticError:
        return None
    slope = at_1 - at_0
    if slope == 0 or at_2 - at_1 != slope:
        return None
    found = (size - at_0) // slope
    return found if found >= 0 and found * slope + at_0 == size else None


def variable(axis: Expression, rename: Mapping[str, str]) -> str:
    """The formula as Python source with its names replaced, and the functions by those of the generated code.

    >>> variable(Expression("seq+1", ("seq",)), {"seq": "n_seq"})
    'n_seq + 1'
    """
    tree = ast.parse(axis.text, mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            node.func.id = f"_{node.func.id}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in rename:
            node.id = rename[node.id]
    return ast.unparse(tree)


@functools.cache
def _code(text: str) -> CodeType:
    return compile(text, "<shape>", "eval")
