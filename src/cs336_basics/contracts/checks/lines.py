"""Straight-line Python that compares the sizes of a tensor with the text of its shape.

Sizes are compared one by one with `!=`: comparing two symbols that are the same adds no guard to a trace, and cutting
a `torch.Size` in slices costs more than all else.
"""

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cs336_basics.contracts.shapes import Anything, Axis, Expression, Fixed, Named, Shape, Variadic
from cs336_basics.contracts.sizes import variable


class TooRichError(Exception):
    """An annotation that no straight line decides: its function is the authority's at every call."""


@dataclass(frozen=True)
class _Span:
    """Where a variadic name was first seen: axes `before` to `-after` of the shape in `var`, `count` of them."""

    var: str
    before: int
    after: int
    count: str


@dataclass(kw_only=True)
class ShapeWriter:
    """Lines of source, and what the names in them are bound to by the time a line is reached."""

    namespace: dict[str, Any]
    lines: list[str] = field(default_factory=list)
    depth: int = 0
    fail: str = ""  # the line that leaves the checks where one fails
    exit: str = ""  # the same from inside a loop
    fresh: int = 0
    certain: set[str] = field(default_factory=set)  # names bound whatever happened before
    maybe: set[str] = field(default_factory=set)  # names that a choice or a loop may have bound: None until then
    spans: dict[str, _Span] = field(default_factory=dict)
    seen: dict[str, str] = field(default_factory=dict)  # text of a shape -> variable of a shape equal to it

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    @contextmanager
    def failing(self, end: str) -> Iterator[None]:
        """Checks that end in the line `end` where one fails: written once, so that the checks lie close together."""
        before = self.fail, self.exit
        self.fail, self.exit = "break", end
        self.line("while True:")
        self.depth += 1
        yield
        self.depth -= 1
        self.line(end)
        self.fail, self.exit = before

    def fail_if(self, condition: str) -> None:
        self.line(f"if {condition}:")
        self.line(f"    {self.fail}")

    def new(self, stem: str) -> str:
        self.fresh += 1
        return f"_{stem}{self.fresh - 1}"

    def refer(self, stem: str, value: Any) -> str:
        """A name in the namespace for a value; the same name for the same value."""
        for name, known in self.namespace.items():
            if name.startswith(f"_{stem}_") and known is value:
                return name
        name = self.new(f"{stem}_")
        self.namespace[name] = value
        return name

    def shape(self, shape: str, spec: Shape) -> None:
        at, axes = spec.variadic, spec.axes
        if at is None:
            self.fail_if(f"_len({shape}) != {len(axes)}")
        else:
            self._several(shape, spec, at)
        for index, axis in enumerate(axes):
            if index != at:
                self._axis(f"{shape}[{index if at is None or index < at else index - len(axes)}]", axis)

    def _several(self, shape: str, spec: Shape, at: int) -> None:
        """The axes that a variadic name stands for."""
        axis, before, after = spec.axes[at], at, len(spec.axes) - 1 - at
        single = before + after
        if not isinstance(axis, Variadic):
            if single:
                self.fail_if(f"_len({shape}) < {single}")
            return
        span = self.spans.get(axis.name)
        if span is None:
            if axis.broadcast:
                raise TooRichError
            if single:
                self.fail_if(f"_len({shape}) < {single}")
            count = f"_n_{axis.name}"
            self.line(f"{count} = _len({shape})" + (f" - {single}" if single else ""))
            self.spans[axis.name] = _Span(shape, before, after, count)
            return
        if axis.broadcast:
            if single:
                self.fail_if(f"_len({shape}) < {single}")
            mismatch = f"_outside({_cut(shape, before, after)}, {_cut(span.var, span.before, span.after)})"
            self.fail_if(f"_len({shape}) > {single} and {mismatch}")  # mostly there is no such axis
            return
        n, s, a, b = span.count, span.var, span.before, before
        self.fail_if(f"_len({shape}) != {n}" + (f" + {single}" if single else ""))
        rest = f"{_cut(shape, b + 2, after)} != {_cut(s, a + 2, span.after)}"
        second = f"{shape}[{b + 1}] != {s}[{a + 1}] or {n} > 2 and {rest}"
        self.fail_if(f"{n} and ({shape}[{b}] != {s}[{a}] or {n} > 1 and ({second}))")

    def _axis(self, size: str, axis: Axis) -> None:
        if isinstance(axis, Anything):
            return
        if getattr(axis, "broadcast", False):
            self.line(f"if {size} != 1:")
            self.depth += 1
            certain = set(self.certain)
            self._single(size, axis)
            self.maybe |= self.certain - certain
            self.certain = certain
            self.depth -= 1
        else:
            self._single(size, axis)

    def _single(self, size: str, axis: Axis) -> None:
        if isinstance(axis, Fixed):
            self.fail_if(f"{size} != {axis.size}")
        elif isinstance(axis, Named):
            if axis.name in self.certain:
                self.fail_if(f"{size} != _a_{axis.name}")
            elif axis.name in self.maybe:
                self.line(f"if _a_{axis.name} is None:")
                self.line(f"    _a_{axis.name} = {size}")
                self.line(f"elif {size} != _a_{axis.name}:")
                self.line(f"    {self.fail}")
                self.certain.add(axis.name)
            else:
                self.line(f"_a_{axis.name} = {size}")
                self.certain.add(axis.name)
        elif isinstance(axis, Expression):
            self._expression(size, axis)
        else:
            raise TooRichError

    def _expression(self, size: str, axis: Expression) -> None:
        """Compare with the formula; where one name is unbound, solve a·n + b = size for it, b = f(0), a = f(1) - b."""
        if not _divides_by_numbers(axis):
            raise TooRichError
        names = set(axis.names)
        unbound, unsure = names - self.certain - self.maybe, (names & self.maybe) - self.certain
        formula = variable(axis, {name: f"_a_{name}" for name in names})
        if not unbound and not unsure:
            self.fail_if(f"{size} != {formula}")
            return
        if len(unbound | unsure) > 1 or not _is_line(axis, next(iter(unbound | unsure))):
            raise TooRichError
        (name,) = unbound | unsure
        if unsure:
            self.line(f"if _a_{name} is None:")
            self.depth += 1
        at = [variable(axis, {n: (f"_a_{n}" if n != name else value) for n in names}) for value in ("0", "1")]
        product = not set(axis.text) & set("+-")  # then b is 0
        if not product:
            self.line(f"_b = {at[0]}")
        self.line(f"_a = {at[1]}" + ("" if product else " - _b"))
        self.fail_if("_a == 0")
        self.line(f"_a_{name} = {size if product else f'({size} - _b)'} // _a")
        self.fail_if(f"_a_{name} < 0")
        if unsure:
            self.depth -= 1
        self.fail_if(f"{size} != {formula}")
        self.certain.add(name)


def _is_line(axis: Expression, name: str) -> bool:
    """Whether a formula is surely a·n + b: sums, differences and products in which the name stands once."""
    tree = ast.parse(axis.text, mode="eval")
    stands = sum(isinstance(node, ast.Name) and node.id == name for node in ast.walk(tree))
    return stands == 1 and not set(axis.text) & set("/%(") and "**" not in axis.text


def _divides_by_numbers(axis: Expression) -> bool:
    """Whether no size can be the divisor: it may be 0."""
    divisions = [
        node
        for node in ast.walk(ast.parse(axis.text, mode="eval"))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv | ast.Mod | ast.Pow)
    ]
    return all(isinstance(node.right, ast.Constant) and node.right.value for node in divisions)


def _cut(shape: str, before: int, after: int) -> str:
    return f"{shape}[{before}:{-after if after else ''}]"


def outside(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Whether a shape does not broadcast to `whole`."""
    missing = len(whole) - len(shape)
    if missing < 0:
        return True
    return any(size != 1 and size != whole[missing + index] for index, size in enumerate(shape))
