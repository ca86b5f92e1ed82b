"""What a type checker knows of a value: the shape of a tensor, or the values in a tuple, a structure, a container.

None stands for a value of which it knows nothing, here and wherever a `Value | None` is asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from cs336_basics.contracts.plugin.polynomials import Size, evaluate, named, number, unknown, unknown_name
from cs336_basics.contracts.shapes import Anything, Expression, Fixed, Named, Shape, Variadic

_FLOAT, _INT, _UINT, _BOOL, _COMPLEX = "float", "int", "uint", "bool", "complex"

KINDS: Final[dict[str, frozenset[str]]] = {
    **{name: frozenset({_FLOAT}) for name in ("Float", "Float16", "Float32", "Float64", "BFloat16")},
    **{f"Float8{name}": frozenset({_FLOAT}) for name in ("e4m3b11fnuz", "e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz")},
    **{f"Int{bits}": frozenset({_INT}) for bits in ("", 2, 4, 8, 16, 32, 64)},
    **{f"UInt{bits}": frozenset({_UINT}) for bits in ("", 2, 4, 8, 16, 32, 64)},
    **{name: frozenset({_COMPLEX}) for name in ("Complex", "Complex64", "Complex128")},
    "Bool": frozenset({_BOOL}),
    "Integer": frozenset({_INT, _UINT}),
    "Inexact": frozenset({_FLOAT, _COMPLEX}),
    "Real": frozenset({_FLOAT, _INT, _UINT}),
    "Num": frozenset({_FLOAT, _INT, _UINT, _COMPLEX}),
    "Shaped": frozenset({_FLOAT, _INT, _UINT, _BOOL, _COMPLEX}),
}
"""The kinds of dtype that each of jaxtyping's names lets pass."""


@dataclass(frozen=True)
class TensorForm:
    """A tensor's annotation: `Float[Tensor, "*batch d_in"]`."""

    dtype: str
    array: str
    shape: Shape

    def __str__(self) -> str:
        return f'{self.dtype}[{self.array}, "{self.shape.text}"]'


@dataclass(frozen=True)
class TupleForm:
    """The annotations in a tuple of fixed length; None for what holds no tensor."""

    items: tuple["Form | None", ...]


@dataclass(frozen=True)
class StructForm:
    """The annotations of a NamedTuple or a dataclass, by field and in order."""

    fields: tuple[tuple[str, "Form | None"], ...]


@dataclass(frozen=True)
class ManyForm:
    """The annotation of each item of a container."""

    item: "Form"


Form: TypeAlias = TensorForm | TupleForm | StructForm | ManyForm


@dataclass(frozen=True)
class Several:
    """Axes of which it is known only that they are those that bear this name; with `?` in front, any at all."""

    name: str

    def __str__(self) -> str:
        return "..." if self.name.startswith("?") else f"*{self.name}"


Axes: TypeAlias = tuple[Size | Several, ...]


@dataclass(frozen=True)
class TensorValue:
    """A tensor; `dtype` is one of jaxtyping's names, or None."""

    dtype: str | None
    axes: Axes

    def __str__(self) -> str:
        shape = f'"{written(self.axes)}"'
        return f"{self.dtype}[Tensor, {shape}]" if self.dtype else shape


@dataclass(frozen=True)
class TupleValue:
    """A tuple of fixed length."""

    items: tuple["Value | None", ...]


@dataclass(frozen=True)
class StructValue:
    """A NamedTuple or a dataclass."""

    fields: tuple[tuple[str, "Value | None"], ...]

    def get(self, name: str) -> "Value | None":
        """The value of a field."""
        return dict(self.fields).get(name)


@dataclass(frozen=True)
class ManyValue:
    """A container all of whose items have one shape."""

    item: "Value"


Value: TypeAlias = TensorValue | TupleValue | StructValue | ManyValue


def written(axes: Axes) -> str:
    """Axes as the text of a shape."""
    return " ".join(map(str, axes))


def clash(one: str, other: str) -> bool:
    """Whether no dtype is of both names."""
    every = KINDS["Shaped"]
    return not KINDS.get(one, every) & KINDS.get(other, every)


def resolve(form: Form | None, size: Callable[[str], Size], several: Callable[[str], Axes]) -> "Value | None":
    """The value that has an annotation, its names replaced by what they stand for."""
    if isinstance(form, TensorForm):
        return TensorValue(form.dtype, _axes(form.shape, size, several))
    if isinstance(form, TupleForm):
        return TupleValue(tuple(resolve(item, size, several) for item in form.items))
    if isinstance(form, StructForm):
        return StructValue(tuple((name, resolve(field, size, several)) for name, field in form.fields))
    if isinstance(form, ManyForm):
        item = resolve(form.item, size, several)
        return None if item is None else ManyValue(item)
    return None


def own(form: Form | None, rigid: "frozenset[str]", label: str = "") -> "Value | None":
    """The value of something annotated: names in `rigid` stand for themselves, others for sizes not known.

    The sizes not known keep their names, so that two values with one label agree where their annotations do.
    """

    def size(name: str) -> Size:
        return named(name if name in rigid else f"?{label}{name}")

    def several(name: str) -> Axes:
        return (Several(name if f"*{name}" in rigid else f"?{label}{name}"),)

    return resolve(form, size, several)


def names(form: Form | None) -> frozenset[str]:
    """The names in an annotation; those of several axes with their star."""
    if isinstance(form, TensorForm):
        several = (f"*{axis.name}" for axis in form.shape.axes if isinstance(axis, Variadic))
        return frozenset((*form.shape.names(), *several))
    if isinstance(form, TupleForm):
        return frozenset().union(*map(names, form.items))
    if isinstance(form, StructForm):
        return frozenset().union(*(names(field) for _, field in form.fields))
    return names(form.item) if isinstance(form, ManyForm) else frozenset()


def _axes(shape: Shape, size: Callable[[str], Size], several: Callable[[str], Axes]) -> Axes:
    axes: list[Size | Several] = []
    for axis in shape.axes:
        if isinstance(axis, Variadic) and not axis.broadcast:
            axes.extend(several(axis.name))
        elif isinstance(axis, Variadic) or axis == Anything(variadic=True):
            axes.append(Several(unknown_name("")))
        elif isinstance(axis, Anything):
            axes.append(unknown("_"))
        elif axis.broadcast:  # it may be 1
            axes.append(unknown(axis.name if isinstance(axis, Named) else "_"))
        elif isinstance(axis, Fixed):
            axes.append(number(axis.size))
        elif isinstance(axis, Expression):
            values: Mapping[str, Size] = {name: size(name) for name in axis.names}
            axes.append(evaluate(axis.text, values) or unknown(axis.text))
        else:
            axes.append(size(axis.name))
    return tuple(axes)
