"""Sizes that are not numbers yet: sums of products of axis names, compared without ever guessing.

A name that starts with `?` stands for a size of which nothing is known but that it is one size; no two of them are
ever said to differ.
"""

import ast
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, TypeAlias

Monomial: TypeAlias = tuple[tuple[str, int], ...]
Term: TypeAlias = tuple[Monomial, Fraction]

_fresh: Final = itertools.count(1)


@dataclass(frozen=True)
class Size:
    """A sum of multiples of monomials; a monomial is sorted names with their exponents, which may be negative."""

    terms: tuple[Term, ...]

    def __str__(self) -> str:
        return "+".join(itertools.starmap(_written, self.terms)).replace("+-", "-") or "0"

    def __add__(self, other: "Size") -> "Size":
        return _collected((*self.terms, *other.terms))

    def __neg__(self) -> "Size":
        return Size(tuple((monomial, -factor) for monomial, factor in self.terms))

    def __sub__(self, other: "Size") -> "Size":
        return self + -other

    def __mul__(self, other: "Size") -> "Size":
        return _collected([(_product(m, n), factor * times) for m, factor in self.terms for n, times in other.terms])

    def over(self, other: "Size") -> "Size | None":
        """The exact quotient by a product of names and a number; None where there is none."""
        if len(other.terms) != 1:
            return None
        monomial, divisor = other.terms[0]
        inverse = tuple((name, -power) for name, power in monomial)
        return _collected([(_product(m, inverse), factor / divisor) for m, factor in self.terms])

    @property
    def number(self) -> int | None:
        """The size itself, where it is a number."""
        if not self.terms:
            return 0
        (monomial, factor), *more = self.terms
        return int(factor) if not monomial and not more and factor.denominator == 1 else None

    def names(self) -> Iterator[str]:
        """Every name in it."""
        return (name for monomial, _ in self.terms for name, _ in monomial)


def number(value: int) -> Size:
    """The size that is this number."""
    return _collected([((), Fraction(value))])


def named(name: str) -> Size:
    """The size that has this name."""
    return Size(((((name, 1),), Fraction(1)),))


def unknown(label: str) -> Size:
    """A size of which nothing is known; messages call it by the label."""
    return named(unknown_name(label))


def unknown_name(label: str) -> str:
    """A name that no other size has."""
    return f"?{label}#{next(_fresh)}"


def same(one: Size, other: Size, *, rigid: bool) -> bool | None:
    """Whether two sizes are equal: None where that depends on what is not known.

    Two names are two sizes, and a name is no number, as long as the names are `rigid`: those of the signature of
    the function at hand, which promises to hold for all sizes.

    >>> same(named("seq"), named("seq") + number(1), rigid=False)
    False
    >>> same(named("d_model"), named("heads") * named("d_k"), rigid=True)
    """
    difference = one - other
    if not difference.terms:
        return True
    if any(name.startswith("?") for name in difference.names()):
        return None
    factors = [factor for _, factor in difference.terms]
    whole = all(power > 0 for monomial, _ in difference.terms for _, power in monomial)
    if whole and (min(factors) > 0 or max(factors) < 0):
        return False  # every size is at least 1
    return False if rigid and _tells_names_apart(difference) else None


def evaluate(text: str, values: Mapping[str, Size]) -> Size | None:
    """The value of a formula of axis names; None where a name has none, or where the value is no such sum.

    >>> str(evaluate("2*half+1", {"half": named("d")}))
    '1+2*d'
    """
    return _value(ast.parse(text, mode="eval").body, values)


def solve(text: str, name: str, total: Size, values: Mapping[str, Size]) -> Size | None:
    """The size of the one name that makes a formula equal to `total`; None where that is not to be had by + - *.

    >>> str(solve("heads*d_k", "d_k", named("d_model"), {"heads": named("heads")}))
    'd_model/heads'
    """
    formula = evaluate(text, {**values, name: named("!")})
    if formula is None:
        return None
    held = [(monomial, factor) for monomial, factor in formula.terms if any(n == "!" for n, _ in monomial)]
    if len(held) != 1 or dict(held[0][0])["!"] != 1:
        return None
    rest = Size(tuple(term for term in formula.terms if term != held[0]))
    factor = Size(((tuple(part for part in held[0][0] if part[0] != "!"), held[0][1]),))
    return (total - rest).over(factor)


def _value(node: ast.expr, values: Mapping[str, Size]) -> Size | None:
    if isinstance(node, ast.Constant):
        return number(node.value) if type(node.value) is int else None
    if isinstance(node, ast.Name):
        return values.get(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        operand = _value(node.operand, values)
        return None if operand is None else -operand
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, values), _value(node.right, values)
        return None if left is None or right is None else calculate(type(node.op).__name__, left, right)
    return None


def calculate(operator: str, left: Size, right: Size) -> Size | None:
    """left and right joined by an operator, by its name in `ast`; None where that is no sum of products."""
    if operator == "Add":
        return left + right
    if operator == "Sub":
        return left - right
    if operator == "Mult":
        return left * right
    if left.number is None or right.number is None:
        # What is divided is taken to divide: the quotient has negative powers, which are never told apart.
        return left.over(right) if operator == "FloorDiv" else None
    if operator == "FloorDiv" and right.number:
        return number(left.number // right.number)
    if operator == "Mod" and right.number:
        return number(left.number % right.number)
    if operator == "Pow" and 0 <= right.number <= 16:
        return number(left.number**right.number)
    return None


def _tells_names_apart(difference: Size) -> bool:
    """Whether a difference is, but for a common factor, that of two names or of a name and a number."""
    if len(difference.terms) != 2:
        return False
    (first, one), (second, other) = difference.terms
    common = {name: min(power, dict(second).get(name, 0)) for name, power in first}
    left = [(name, power - common[name]) for name, power in first if power != common[name]]
    right = [(name, power - common.get(name, 0)) for name, power in second if power != common.get(name, 0)]
    if any(power < 0 for _, power in (*first, *second)):
        return False
    if not left or not right:
        factor, constant = (one, other) if left else (other, one)
        return [power for _, power in left or right] == [1] and abs(factor) == 1 and factor * constant < 0
    return [power for _, power in left] == [1] == [power for _, power in right] and one == -other


def _collected(terms: Iterable[Term]) -> Size:
    sums: dict[Monomial, Fraction] = {}
    for monomial, factor in terms:
        sums[monomial] = sums.get(monomial, Fraction()) + factor
    return Size(tuple(sorted((monomial, factor) for monomial, factor in sums.items() if factor)))


def _product(one: Monomial, other: Monomial) -> Monomial:
    powers = dict(one)
    for name, power in other:
        powers[name] = powers.get(name, 0) + power
    return tuple(sorted((name, power) for name, power in powers.items() if power))


def _written(monomial: Monomial, factor: Fraction) -> str:
    over = [_label(name) for name, power in monomial for _ in range(power)]
    under = [_label(name) for name, power in monomial for _ in range(-power)]
    if abs(factor.numerator) != 1 or not over:
        over.insert(0, str(abs(factor.numerator)))
    if factor.denominator != 1:
        under.append(str(factor.denominator))
    return ("-" if factor < 0 else "") + "*".join(over) + "".join(f"/{name}" for name in under)


def _label(name: str) -> str:
    return name.removeprefix("?").partition("#")[0]
