"""A call's arguments held against the annotations of the function called: one size for each name, or a clash.

Names of the function called are variables; sizes and names of the caller are what they are bound to. A clash is
reported only where no sizes could make the call right, or where right sizes would have to be special ones.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cs336_basics.contracts.plugin.polynomials import Size, evaluate, number, same, solve, unknown, unknown_name
from cs336_basics.contracts.plugin.values import (
    Axes,
    Form,
    ManyForm,
    ManyValue,
    Several,
    StructForm,
    StructValue,
    TensorForm,
    TensorValue,
    TupleForm,
    TupleValue,
    Value,
    clash,
    resolve,
    written,
)
from cs336_basics.contracts.shapes import Anything, Axis, Expression, Fixed, Named, Shape, Variadic


@dataclass(frozen=True)
class Clash:
    """Why an argument, by its place among the arguments, breaks its annotation."""

    argument: int
    form: TensorForm
    value: TensorValue
    why: str


@dataclass
class Bindings:
    """What the names of one call stand for. `rigid`: the caller's names are all different sizes."""

    rigid: bool
    sizes: dict[str, Size] = field(default_factory=dict)
    several: dict[str, Axes] = field(default_factory=dict)

    def unify(self, arguments: "Sequence[tuple[Form | None, Value | None]]") -> Clash | None:
        """Bind the names of all arguments; the first clash, plain axes before broadcast and computed ones."""
        later: list[tuple[int, TensorForm, TensorValue, Axis, Size]] = []
        broadcasts: list[tuple[int, TensorForm, TensorValue, str, Axes]] = []
        for index, (given_form, given_value) in enumerate(arguments):
            for form, value in pairs(given_form, given_value):
                if value.dtype is not None and clash(form.dtype, value.dtype):
                    return Clash(index, form, value, f"{form.dtype}, not {value.dtype}")
                aligned = align(form.shape, value.axes, rigid=self.rigid)
                if isinstance(aligned, str):
                    return Clash(index, form, value, aligned)
                single, middle = aligned
                for axis, size in single:
                    if isinstance(axis, Expression) or (isinstance(axis, Named | Fixed) and axis.broadcast):
                        later.append((index, form, value, axis, size))
                    elif why := self._bind(axis, size):
                        return Clash(index, form, value, why)
                axis_of_several = None if form.shape.variadic is None else form.shape.axes[form.shape.variadic]
                if isinstance(axis_of_several, Variadic) and middle is not None:
                    if axis_of_several.broadcast:
                        broadcasts.append((index, form, value, axis_of_several.name, middle))
                    elif why := self._bind_several(axis_of_several.name, middle):
                        return Clash(index, form, value, why)
        for index, form, value, axis, size in self._by_what_is_known(later):
            if why := self._bind(axis, size):
                return Clash(index, form, value, why)
        for index, form, value, name, middle in broadcasts:
            if name in self.several and (why := self._may_broadcast(name, middle, self.several[name])):
                return Clash(index, form, value, why)
        return None

    def result(self, form: Form | None) -> Value | None:
        """The value of an annotation under these bindings; a name without one stands for a size not known."""
        return resolve(form, self._size, self._several)

    def _size(self, name: str) -> Size:
        return self.sizes.setdefault(name, unknown(name))

    def _several(self, name: str) -> Axes:
        return self.several.setdefault(name, (Several(unknown_name(name)),))

    def _bind(self, axis: Axis, size: Size) -> str | None:
        if isinstance(axis, Anything | Variadic) or (axis.broadcast and size.number == 1):
            return None
        expected: Size | None
        if isinstance(axis, Named):
            expected, text = self.sizes.setdefault(axis.name, size), axis.name
        elif isinstance(axis, Fixed):
            expected, text = number(axis.size), str(axis.size)
        else:
            self._solve(axis, size)
            expected, text = evaluate(axis.text, self.sizes), axis.text
        if expected is None or same(expected, size, rigid=self.rigid) is not False:
            return None
        return f"{text} is {expected}, not {size}" if text != str(expected) else f"{text}, not {size}"

    def _solve(self, axis: Expression, size: Size) -> None:
        """Bind the one name of a formula that is not bound yet."""
        unbound = [name for name in axis.names if name not in self.sizes]
        if len(set(unbound)) == 1 and (solution := solve(axis.text, unbound[0], size, self.sizes)):
            self.sizes[unbound[0]] = solution

    def _by_what_is_known(
        self, axes: "list[tuple[int, TensorForm, TensorValue, Axis, Size]]"
    ) -> "Iterator[tuple[int, TensorForm, TensorValue, Axis, Size]]":
        """The computed axes, first those whose names are bound: one may bind a name for the next."""
        rest = list(axes)
        while rest:
            chosen = min(rest, key=lambda item: self._unbound(item[3]))
            rest.remove(chosen)
            yield chosen

    def _unbound(self, axis: Axis) -> int:
        names = axis.names if isinstance(axis, Expression) else (axis.name,) if isinstance(axis, Named) else ()
        return sum(name not in self.sizes for name in names)

    def _bind_several(self, name: str, axes: Axes) -> str | None:
        bound = self.several.setdefault(name, axes)
        if _same_axes(bound, axes, rigid=self.rigid) is not False:
            return None
        return f'*{name} is "{written(bound)}", not "{written(axes)}"'

    def _may_broadcast(self, name: str, axes: Axes, bound: Axes) -> str | None:
        several, others = ([axis for axis in each if isinstance(axis, Several)] for each in (axes, bound))
        wrong = len(axes) > len(bound) and several == others  # as many on both sides, whatever they are
        for axis, target in zip(reversed(axes), reversed(bound), strict=False):
            if isinstance(axis, Several) or isinstance(target, Several):
                break
            wrong = wrong or (axis.number != 1 and same(axis, target, rigid=self.rigid) is False)
        return f'"{written(axes)}" does not broadcast to *{name}, which is "{written(bound)}"' if wrong else None


def pairs(form: Form | None, value: Value | None) -> Iterator[tuple[TensorForm, TensorValue]]:
    """Every tensor in an annotation with the tensor given for it, where both are known."""
    if isinstance(form, TensorForm) and isinstance(value, TensorValue):
        yield form, value
    elif isinstance(form, TupleForm) and isinstance(value, TupleValue) and len(form.items) == len(value.items):
        for item, item_value in zip(form.items, value.items, strict=True):
            yield from pairs(item, item_value)
    elif isinstance(form, StructForm) and isinstance(value, StructValue):
        for name, item in form.fields:
            yield from pairs(item, value.get(name))
    elif isinstance(form, ManyForm) and isinstance(value, ManyValue):
        yield from pairs(form.item, value.item)
    elif isinstance(form, ManyForm) and isinstance(value, TupleValue):
        for item_value in value.items:
            yield from pairs(form.item, item_value)


def align(shape: Shape, axes: Axes, *, rigid: bool) -> tuple[list[tuple[Axis, Size]], Axes | None] | str:
    """The axes of a shape beside those of a value, and those that stand for several; or why they cannot be.

    Where it is not known how many axes the value has, only those that are certain to meet stand side by side.
    """
    wanted, place = shape.axes, shape.variadic
    several = next((i for i, axis in enumerate(axes) if isinstance(axis, Several)), None)
    least = len(wanted) - (place is not None)
    count = len(axes) - (several is not None)
    if several is None:
        if count < least or (place is None and count > least):
            return f"{_count(count)}, not {'' if place is None else 'at least '}{least}"
        if place is None:
            return _side_by_side(wanted, axes), None
        right = len(wanted) - 1 - place
        middle = axes[place : count - right]
        return _side_by_side(wanted[:place], axes[:place]) + _from_right(wanted, axes, right), middle
    promised = rigid and not str(axes[several]).startswith("...")  # any number of axes, for which the caller stands
    if count > least and place is None:
        return f"at least {_count(count)}, not {least}"
    if promised and (place is None or count < least):
        return f"{axes[several]} is any number of axes" + ("" if place is None else f": {count} or more, not {least}")
    left = min(len(wanted) if place is None else place, several)
    right = min(len(wanted) if place is None else len(wanted) - 1 - place, len(axes) - 1 - several)
    met = _side_by_side(wanted[:left], axes[:left]) + _from_right(wanted, axes, right)
    if place is None or place > several or len(wanted) - 1 - place > len(axes) - 1 - several:
        return met, None
    return met, axes[place : len(axes) - (len(wanted) - 1 - place)]


def _side_by_side(wanted: Sequence[Axis], axes: Axes) -> list[tuple[Axis, Size]]:
    return [(axis, size) for axis, size in zip(wanted, axes, strict=True) if isinstance(size, Size)]


def _from_right(wanted: Sequence[Axis], axes: Axes, how_many: int) -> list[tuple[Axis, Size]]:
    return _side_by_side(wanted[len(wanted) - how_many :], axes[len(axes) - how_many :])


def _count(axes: int) -> str:
    return "1 axis" if axes == 1 else f"{axes} axes"


def _same_axes(one: Axes, other: Axes, *, rigid: bool) -> bool | None:
    """Whether two runs of axes are the same ones; None where that is not known."""
    if one == other:
        return True
    several = [axis for axis in (*one, *other) if isinstance(axis, Several)]
    if any(axis.name.startswith("?") for axis in several) or (several and not rigid):
        return None
    places = [[(i, axis) for i, axis in enumerate(axes) if isinstance(axis, Several)] for axes in (one, other)]
    if len(one) != len(other) or places[0] != places[1]:
        return False
    found = [
        same(a, b, rigid=rigid) for a, b in zip(one, other, strict=True) if isinstance(a, Size) and isinstance(b, Size)
    ]
    return False if False in found else None if None in found else True
