"""The text of a shape, `"*batch seq heads*d_k"`, as a value.

The grammar is jaxtyping's. Nothing here imports it, nor torch: the checks at run time, the prover, the laws and the
type checker's plugin all read a shape through this one file.
"""

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from cs336_basics.contracts.errors import ContractError


@dataclass(frozen=True)
class Named:
    """`seq`, `#seq`: one axis, the same size wherever the name stands; with # it may also be 1."""

    name: str
    broadcast: bool = False


@dataclass(frozen=True)
class Variadic:
    """`*batch`, `*#batch`: any number of axes, the same wherever the name stands; with # they may broadcast to it."""

    name: str
    broadcast: bool = False


@dataclass(frozen=True)
class Fixed:
    """`3`, `#3`, `rows=3`: one axis of that size; with # it may also be 1."""

    size: int
    broadcast: bool = False


@dataclass(frozen=True)
class Anything:
    """`_`, `_name`: one axis of any size; `...`: any axes."""

    variadic: bool = False


@dataclass(frozen=True)
class Expression:
    """`heads*d_k`, `seq+1`: one axis whose size is computed from others; `names` in order of appearance."""

    text: str
    names: tuple[str, ...]
    broadcast: bool = False


Axis: TypeAlias = Named | Variadic | Fixed | Anything | Expression


@dataclass(frozen=True)
class Shape:
    """The axes of a shape; at most one of them stands for several."""

    text: str
    axes: tuple[Axis, ...]

    @functools.cached_property
    def variadic(self) -> int | None:
        """The place of the axis that stands for several, if there is one."""
        places = (
            i for i, axis in enumerate(self.axes) if isinstance(axis, Variadic) or axis == Anything(variadic=True)
        )
        return next(places, None)

    def names(self) -> Iterator[str]:
        """Names of single axes, those inside expressions included, in order."""
        for axis in self.axes:
            if isinstance(axis, Named):
                yield axis.name
            elif isinstance(axis, Expression):
                yield from axis.names


_PARTS: Final = (ast.BinOp, ast.UnaryOp, ast.Constant, ast.Name, ast.Load, ast.Call, ast.operator, ast.unaryop)
_OPERATORS: Final = (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod, ast.Pow, ast.USub)
_CALLS: Final = frozenset({"min", "max"})


@functools.cache
def parse_shape(text: str) -> Shape:
    """The axes that a shape's text means.

    Raises: ContractError showing the text, with a mark under the place that cannot be read.

    >>> parse_shape("*batch seq 2*half").axes
    (Variadic(name='batch', broadcast=False), Named(name='seq', broadcast=False), \
Expression(text='2*half', names=('half',), broadcast=False))
    """
    axes: list[Axis] = []
    several: str | None = None
    for match in re.finditer(r"\S+", text):
        axis = _axis(match.group(), text, match.start())
        if isinstance(axis, Variadic) or axis == Anything(variadic=True):
            if several is not None:
                raise _unreadable(text, match.start(), f"only one axis may stand for several, and {several} does")
            several = match.group()
        axes.append(axis)
    return Shape(text, tuple(axes))


def rename_axes(shape: Shape, texts: Mapping[str, str]) -> Shape:
    """The shape with single axes, inside formulas too, replaced by the texts.

    Raises: ContractError where the new shape cannot be read.

    >>> rename_axes(parse_shape("*batch cached d_k"), {"cached": "cached+seq"}).text
    '*batch cached+seq d_k'
    """
    words = [word if word[0] in "*." else _renamed_word(word, texts) for word in shape.text.split()]
    return parse_shape(" ".join(words))


def _renamed_word(word: str, texts: Mapping[str, str]) -> str:
    whole = texts.get(word.lstrip("#"))
    if whole is not None:
        return word.replace(word.lstrip("#"), whole)
    return re.sub(
        r"[^\W\d]\w*", lambda match: f"({texts[match.group()]})" if match.group() in texts else match.group(), word
    )


def _axis(word: str, text: str, at: int) -> Axis:
    """One word of a shape; `text` and its place `at` are for the error."""
    if word == "...":
        return Anything(variadic=True)
    marks = re.match(r"[*#_?]*", word)
    assert marks is not None
    modifiers, rest = marks.group(), word[marks.end() :]
    for mark in "*#_":
        if modifiers.count(mark) > 1:
            raise _unreadable(text, at, f"{mark} may stand once before a name")
    if "?" in modifiers:
        raise _unreadable(text, at, "? has a meaning in trees only")
    several, broadcast, anonymous = (mark in modifiers for mark in "*#_")
    offset = at + len(modifiers)
    if rest.count("=") == 1:  # `rows=3` is a 3 with its meaning
        offset, rest = offset + rest.index("=") + 1, rest.split("=")[1]
    if anonymous:
        if broadcast or not (rest == "" or rest.isidentifier()):
            raise _unreadable(text, at, "_ is an axis of any size: a name may follow it, and no # go before it")
        return Anything(variadic=several)
    if rest.isidentifier():
        return Variadic(rest, broadcast) if several else Named(rest, broadcast)
    if several:
        raise _unreadable(text, at, "* must stand before a name")
    if re.fullmatch(r"-?[0-9]+", rest):
        return Fixed(int(rest), broadcast)
    return Expression(rest, _names_of(rest, text, offset), broadcast)


def _names_of(expression: str, text: str, at: int) -> tuple[str, ...]:
    """The axis names of a size that is computed."""
    if not expression:
        raise _unreadable(text, at, "a name or a number is missing")
    if "," in expression and "(" not in expression:
        raise _unreadable(text, at + expression.index(","), "axes are parted by spaces, not by commas")
    try:
        tree = ast.parse(expression, mode="eval")
    except SyntaxError as error:
        raise _unreadable(
            text, at + max((error.offset or 1) - 1, 0), "not an axis name, a number or a formula"
        ) from None
    calls = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names: dict[str, None] = {}
    for node in ast.walk(tree.body):
        known = isinstance(node, _PARTS) and not (isinstance(node, ast.Constant) and type(node.value) is not int)
        known = (known and not isinstance(node, ast.BinOp)) or isinstance(getattr(node, "op", None), _OPERATORS)
        if isinstance(node, ast.Call):
            known = isinstance(node.func, ast.Name) and node.func.id in _CALLS and not node.keywords
        if not known:
            place = at + getattr(node, "col_offset", 0)
            raise _unreadable(text, place, "a size may use names, whole numbers, + - * // % **, min and max")
    in_order = sorted(
        (node for node in ast.walk(tree) if isinstance(node, ast.Name) and node not in calls),
        key=lambda node: node.col_offset,
    )
    names.update((node.id, None) for node in in_order)
    return tuple(names)


def _unreadable(text: str, at: int, why: str) -> ContractError:
    return ContractError(f"shape {text!r} cannot be read at position {at} ({text[at:].split(' ')[0]!r}): {why}")
