"""Arguments drawn from a signature: hypothesis draws every size, and a seed fills the tensors."""

import functools
import math
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from cs336_basics.contracts.cases import Builder, Case, Made, Tensors, build
from cs336_basics.contracts.checks.authority import placed
from cs336_basics.contracts.errors import ContractError
from cs336_basics.contracts.law.example import Dtypes, Example, dtype_of
from cs336_basics.contracts.law.walk import Leaf, leaves, several
from cs336_basics.contracts.shapes import Anything, Axis, Expression, Fixed, Named, Variadic, parse_shape
from cs336_basics.contracts.signature import Parameter, PlainSpec, Signature, TensorSpec, tensors
from cs336_basics.contracts.sizes import evaluate

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

T = TypeVar("T")

# The order is that of shrinking: the first is the simplest; what stands twice is drawn twice as often.
SIZES = (1, 2, 3, 4, 5, 2, 3, 4)
BATCH_SIZES = (1, 2, 3, 4, 0, 2, 3, 2)
RANKS = (0, 1, 2)
WILD = (False, True)
SEEDS = range(2**12)
INDEXED = ("vocab", "positions")  # the axes that the glossary gives to ids and to positions


def examples(
    signature: Signature, case: Case, values: Mapping[str, Any], rank: int | None = None
) -> "SearchStrategy[Example]":
    """Calls of one case, the first variadic name standing for `rank` axes. `values` gives parameters and axes:

    a parameter that holds a tensor: the value, or a function of the sizes that makes it (`sizes["d_k"]` draws one);
    a tensor of integers: also the bound its entries stay below, an int or a formula (`"vocab"`, `"positions-1"`);
    an axis, or an int parameter: an int or a formula (`half="d_k//2"`); a variadic axis: a tuple;
    any other parameter: the value. A hypothesis strategy may stand for any of them.
    """
    from hypothesis import strategies

    _refuse_unknown(signature, values)

    @strategies.composite
    def drawn(draw: "DrawFn") -> Example:
        return _Drawing(signature, case, values, draw, rank).example()

    return drawn()


def is_bound(parameter: Parameter, value: Any) -> bool:
    """Whether a value given for a parameter is not its value, but what a tensor of integers stays below."""
    return isinstance(value, int | str) and any(True for _ in tensors(parameter.spec))


@dataclass
class _Drawing:
    """The state of drawing one example: what has a size by now."""

    signature: Signature
    case: Case
    values: Mapping[str, Any]
    draw: "DrawFn"
    rank: int | None
    sizes: dict[str, int] = field(default_factory=dict)
    several: dict[str, tuple[int, ...]] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    bounds: dict[str, int] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)

    def example(self) -> Example:
        seed, wild = self.pick(SEEDS), self.pick(WILD)
        given = {}
        for parameter in self.signature.parameters:  # values first: they fix sizes
            if parameter.name in self.values and not is_bound(parameter, self.values[parameter.name]):
                given[parameter.name] = self._given(parameter)
        builder = Builder(self._plan, self._made)
        for parameter in self.signature.parameters:
            if parameter.name not in given:
                build(self.signature, parameter, self.case, builder)
        for name in self.values:
            if name in _axes(self.signature):  # an axis of the result alone is held to its value too
                self.several_of(name) if isinstance(self.values[name], tuple) else self.size(name)
        return Example(self.signature, self.case, self.sizes, self.several, self.shapes, self.bounds, given, seed, wild)

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, drawn bit by bit.

        For an integer hypothesis would look for constants in every module that is loaded, so that the examples
        depended on those, and would keep what it found in files.
        """
        from hypothesis import strategies

        bits = [self.draw(strategies.booleans()) for _ in range((len(options) - 1).bit_length())]
        # The first bit counts most: simpler for hypothesis is then earlier among the options.
        return options[functools.reduce(lambda index, bit: 2 * index + bit, bits, 0) % len(options)]

    def size(self, name: str) -> int:
        """The size of an axis, drawn where nothing has fixed it."""
        if name not in self.sizes:
            if name in self.waiting:
                raise ContractError(f"laws: {self.signature.name}: the size of {name} is given in terms of itself")
            self.waiting.add(name)
            found = self.number(self.values[name]) if name in self.values else self.pick(SIZES)
            self.sizes[name] = found
        return self.sizes[name]

    def several_of(self, name: str) -> tuple[int, ...]:
        """The sizes of the axes that a name stands for."""
        if name not in self.several:
            given = self._value(name) if name in self.values else None
            rank = self.pick(RANKS) if self.rank is None or self.several else self.rank
            drawn = () if given is not None else tuple(self.pick(BATCH_SIZES) for _ in range(rank))
            self.several[name] = drawn if given is None else tuple(given)
        return self.several[name]

    def number(self, value: Any) -> int:
        """An int, or the value of a formula, or what a strategy draws."""
        value = self._drawn(value)
        if not isinstance(value, str):
            return int(value)
        return int(evaluate(Expression(value, _names(value)), {name: self.size(name) for name in _names(value)}))

    def _given(self, parameter: Parameter) -> Any:
        value = self._value(parameter.name)
        holds = any(True for _ in tensors(parameter.spec))
        if holds and callable(value) and not hasattr(value, "shape"):
            value = value(_Sizes(self))
        elif isinstance(value, str) and _takes_int(parameter):
            value = self.number(value)
        if parameter.name in self.signature.sizes and isinstance(value, int):
            self.sizes[parameter.name] = value
        for leaf in leaves(parameter.spec, value, parameter.name):
            self._bind(leaf)
        return value

    def _bind(self, leaf: Leaf) -> None:
        for axis, size in placed(leaf.spec.shape, tuple(leaf.tensor.shape)):
            if isinstance(axis, Named) and not axis.broadcast:
                self.sizes.setdefault(axis.name, size)
            elif isinstance(axis, Variadic) and not axis.broadcast:
                self.several.setdefault(axis.name, size)

    def _made(self, made: Made) -> Any:
        return self.size(made.name) if made.kind == "size" else None

    def _plan(self, choice: Tensors, path: str) -> None:
        from hypothesis import reject

        spec = choice.specs[0]
        sizes: list[int] = []
        for axis in spec.shape.axes:
            sizes += self._axis(axis)
        self.shapes[path] = tuple(sizes)
        if "int" in dtype_of(choice.specs, Dtypes()):
            self.bounds[path] = self._bound(spec, path)
            if self.bounds[path] < 1 and math.prod(sizes) > 0:
                reject()  # no integer is below it

    def _axis(self, axis: Axis) -> Iterator[int]:
        if isinstance(axis, Variadic):
            whole = self.several_of(axis.name)
            if axis.broadcast:
                whole = whole[self.pick(range(len(whole) + 1)) :]
                whole = tuple(1 if self.pick((False, True)) else size for size in whole)
            yield from whole
        elif isinstance(axis, Anything):
            rank = self.pick(RANKS) if axis.variadic else 1
            yield from (self.pick(SIZES) for _ in range(rank))
        elif axis.broadcast and self.pick((False, True)):
            yield 1
        elif isinstance(axis, Fixed):
            yield axis.size
        elif isinstance(axis, Named):
            yield self.size(axis.name)
        else:
            yield max(0, self.number(axis.text))

    def _bound(self, spec: TensorSpec, path: str) -> int:
        """What entries stay below: the value given, else the axis of ids or positions, else every axis it lacks."""
        name = path.split(".")[0].split("[")[0]
        if name in self.values:
            return self.number(self.values[name])
        own = set(spec.shape.names())
        others = [p.spec for p in self.signature.parameters]
        foreign = {n for other in others for t in tensors(other) for n in t.shape.names()} - own
        known = {n for t in tensors(self.signature.result) for n in t.shape.names()} | foreign
        indexed = [n for n in INDEXED if n in known - own]
        return min((self.size(n) for n in indexed or sorted(foreign)), default=2)

    def _value(self, name: str) -> Any:
        return self._drawn(self.values[name])

    def _drawn(self, value: Any) -> Any:
        from hypothesis.strategies import SearchStrategy

        return self.draw(value) if isinstance(value, SearchStrategy) else value


class _Sizes(dict[str, Any]):
    """The sizes that a value is made from: an axis asked for is drawn there and then."""

    def __init__(self, drawing: _Drawing) -> None:
        super().__init__()
        self._drawing = drawing

    def __missing__(self, name: str) -> Any:
        several = name in _several(self._drawing.signature)
        return self._drawing.several_of(name) if several else self._drawing.size(name)


def _specs(signature: Signature) -> Iterator[TensorSpec]:
    for spec in (*(parameter.spec for parameter in signature.parameters), signature.result):
        yield from tensors(spec)


def _axes(signature: Signature) -> set[str]:
    """Every name that one axis or several have."""
    return {*_several(signature), *(name for spec in _specs(signature) for name in spec.shape.names())}


def _several(signature: Signature) -> set[str]:
    return {name for spec in _specs(signature) for name in several(spec)}


def _refuse_unknown(signature: Signature, values: Mapping[str, Any]) -> None:
    """Raises: ContractError for a name that is no parameter, no axis, and stands in no formula."""
    parameters = {parameter.name: parameter for parameter in signature.parameters}
    axes = _axes(signature)
    in_formulas = {
        part
        for name, value in values.items()
        if isinstance(value, str) and (name not in parameters or _is_formula(parameters[name], value))
        for part in _names(value)
    }
    unknown = [*(set(values) - {*parameters, *axes, *in_formulas}), *(in_formulas - {*axes, *values})]
    if unknown:
        raise ContractError(f"laws: {signature.name} has no parameter and no axis {min(unknown)!r}")


def _is_formula(parameter: Parameter, value: Any) -> bool:
    return isinstance(value, str) and (_takes_int(parameter) or is_bound(parameter, value))


def _names(formula: str) -> tuple[str, ...]:
    return tuple(parse_shape(formula).names())


def _takes_int(parameter: Parameter) -> bool:
    hint = parameter.spec.hint
    return isinstance(parameter.spec, PlainSpec) and (hint is int or int in typing.get_args(hint))
