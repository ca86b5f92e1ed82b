"""What plain algebra says of conditions on sizes, for all sizes of at least 2.

torch's own reasoning stops at divisions: that ⌈3 d / d⌉ is 3, which `chunk` asks, it does not see. Only `prove`
imports this file, when it is called: sympy is slow to load.
"""

from typing import Any

import sympy  # type: ignore[import-untyped]  # it has no types
from torch.utils._sympy.functions import FloorDiv


def always(condition: Any) -> bool:
    """Whether a condition holds for all sizes; False where algebra does not tell.

    >>> from torch.utils._sympy.functions import FloorDiv
    >>> d = sympy.Symbol("d", integer=True, positive=True)
    >>> always(sympy.Eq(FloorDiv(3 * d - 1, d), 2)), always(sympy.Eq(d, 5)), always(d >= 2), always(d > 2)
    (True, False, True, False)
    """
    if not isinstance(condition, sympy.core.relational.Relational):
        return bool(condition == sympy.true)
    difference = divided(condition.lhs - condition.rhs)
    if isinstance(condition, sympy.Eq):
        return bool(difference == 0)
    if isinstance(condition, sympy.Ne):
        return bool(_least(difference) > 0 or _least(-difference) > 0)
    if isinstance(condition, sympy.Lt | sympy.Le):
        difference = -difference
    return bool(_least(difference) >= (1 if condition.func in (sympy.Gt, sympy.Lt) else 0))


def divided(expression: Any) -> Any:
    """The expression expanded, with every floor division that comes out carried out.

    >>> d = sympy.Symbol("d", integer=True, positive=True)
    >>> divided(FloorDiv(6 * d + 1, 2) - d)
    2*d
    """
    quotients = {floor: _quotient(*floor.args) for floor in expression.atoms(FloorDiv)}
    return sympy.expand(expression.xreplace({floor: q for floor, q in quotients.items() if q is not None}))


def only_solution(condition: Any) -> tuple[Any, int] | None:
    """The one axis and the one size, at least 2, that `Ne(seq - 1, 1)` leaves out."""
    if not isinstance(condition, sympy.Ne) or len(condition.free_symbols) != 1:
        return None
    axis = next(iter(condition.free_symbols))
    difference = divided(condition.lhs - condition.rhs)
    slope, rest = difference.coeff(axis, 1), difference.coeff(axis, 0)
    if sympy.expand(slope * axis + rest - difference) != 0 or slope == 0:
        return None
    size = -rest / slope
    return (axis, int(size)) if size.is_Integer and size >= 2 else None


def _quotient(numerator: Any, divisor: Any) -> Any | None:
    """numerator // divisor as a polynomial, where 0 <= remainder < divisor for all sizes."""
    symbols = sorted(numerator.free_symbols | divisor.free_symbols, key=str)
    if not symbols:
        return None
    try:
        quotient, _ = sympy.div(numerator, divisor, *symbols)
    except sympy.PolynomialError:
        return None
    for whole in (quotient, quotient - 1):
        rest = sympy.expand(numerator - whole * divisor)
        integral = all(coefficient.is_Integer for coefficient in sympy.Poly(whole, *symbols).coeffs())
        if integral and _least(rest) >= 0 and _least(divisor - rest) >= 1:
            return whole
    # 6 d + 1 over 2 leaves a fraction of 1/2 in the constant alone.
    whole = quotient - quotient.subs(dict.fromkeys(symbols, 0)) + sympy.floor(quotient.subs(dict.fromkeys(symbols, 0)))
    rest = sympy.expand(numerator - whole * divisor)
    integral = all(coefficient.is_Integer for coefficient in sympy.Poly(whole, *symbols).coeffs())
    return whole if integral and _least(rest) >= 0 and _least(divisor - rest) >= 1 else None


def _least(expression: Any) -> Any:
    """A number that the expression is never below for sizes of at least 2; -oo where the signs do not tell."""
    symbols = sorted(expression.free_symbols, key=str)
    if not symbols:
        return expression if expression.is_number else -sympy.oo
    try:
        shifted = sympy.Poly(expression.subs({symbol: symbol + 2 for symbol in symbols}), *symbols)
    except sympy.PolynomialError:
        return -sympy.oo
    constant = shifted.coeff_monomial(1)
    rising = all(coefficient >= 0 for monomial, coefficient in shifted.terms() if any(monomial))
    return constant if rising else -sympy.oo
