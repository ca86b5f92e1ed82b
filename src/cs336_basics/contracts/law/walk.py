"""Values together with their annotations: every tensor in them, and one index of a batch axis wherever it stands."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from cs336_basics.contracts.checks.authority import placed
from cs336_basics.contracts.shapes import Variadic
from cs336_basics.contracts.signature import (
    ManySpec,
    MappingSpec,
    PlainSpec,
    Spec,
    StructSpec,
    TensorSpec,
    TupleSpec,
    UnionSpec,
)


class Leaf(NamedTuple):
    """A tensor in a value, where it stands (`cache.keys`), its annotation, and the others it might have met."""

    path: str
    tensor: Any
    spec: TensorSpec
    options: tuple[TensorSpec, ...]


def leaves(spec: Spec, value: Any, path: str = "") -> list[Leaf]:
    """Every annotated tensor in a value, from left to right."""
    found: list[Leaf] = []

    def keep(leaf: Leaf) -> Any:
        found.append(leaf)
        return leaf.tensor

    rebuild(spec, value, keep, path)
    return found


def rebuild(spec: Spec, value: Any, change: Callable[[Leaf], Any], path: str = "") -> Any:
    """The value with every annotated tensor changed, in new containers; whatever else it holds stays itself."""
    if isinstance(spec, UnionSpec):
        fitting = next((option for option in spec.options if _may_be(option, value)), None)
        if isinstance(fitting, TensorSpec):
            options = tuple(option for option in spec.options if isinstance(option, TensorSpec))
            return change(Leaf(path, value, fitting, options))
        return value if fitting is None else rebuild(fitting, value, change, path)
    if isinstance(spec, TensorSpec):
        return change(Leaf(path, value, spec, (spec,))) if _may_be(spec, value) else value
    if isinstance(spec, PlainSpec) or not _may_be(spec, value):
        return value
    if isinstance(spec, StructSpec):
        fields = {
            name: rebuild(part, getattr(value, name), change, f"{path}.{name}") for name, part in spec.fields.items()
        }
        is_record = dataclasses.is_dataclass(value) and not isinstance(value, type)
        return dataclasses.replace(value, **fields) if is_record else value._replace(**fields)
    if isinstance(spec, MappingSpec):
        return {key: rebuild(spec.value, item, change, f"{path}[{key!r}]") for key, item in value.items()}
    parts = spec.items if isinstance(spec, TupleSpec) else (spec.item,) * len(value)
    items = [
        rebuild(part, item, change, f"{path}[{index}]")
        for index, (part, item) in enumerate(zip(parts, value, strict=True))
    ]
    return type(value)(items) if type(value) in (list, tuple, set, frozenset) else tuple(items)


class BatchAxis(NamedTuple):
    """Axis number `place` of those that `*name` stands for, of which there are `rank`; it has `size` entries."""

    name: str
    place: int
    rank: int
    size: int

    def __str__(self) -> str:
        return f"{self.place} of *{self.name}"


def position(leaf: Leaf, axis: BatchAxis) -> int | None:
    """The place of a batch axis among the tensor's own axes; None where it has none, or broadcasts without it."""
    at = 0
    for one, sizes in placed(leaf.spec.shape, tuple(leaf.tensor.shape)):
        if isinstance(one, Variadic) and one.name == axis.name:
            missing = axis.rank - len(sizes)  # a tensor that broadcasts may lack the first axes
            return at + axis.place - missing if axis.place >= missing else None
        at += len(sizes) if isinstance(sizes, tuple) else 1
    return None


def several(spec: TensorSpec) -> set[str]:
    """The names, if any, that stand for several axes of a tensor."""
    return {axis.name for axis in spec.shape.axes if isinstance(axis, Variadic)}


def select(leaf: Leaf, axis: BatchAxis, index: int) -> Any:
    """The tensor at one index of a batch axis, without that axis; itself where it does not have it."""
    at = position(leaf, axis)
    if at is None:
        return leaf.tensor
    spread = leaf.tensor.shape[at] == 1 and axis.size != 1
    return leaf.tensor.select(at, 0 if spread else index)


def _may_be(spec: Spec, value: Any) -> bool:
    """Whether a value is of the kind that the annotation names; which of several tensors is told by dtype and rank."""
    if isinstance(spec, TensorSpec):
        if not (hasattr(value, "shape") and hasattr(value, "dtype")):
            return False
        dtype, rank, axes = str(value.dtype).removeprefix("torch."), len(value.shape), len(spec.shape.axes)
        fits = rank == axes if spec.shape.variadic is None else rank >= axes - 1
        return fits and (spec.dtypes is None or dtype in spec.dtypes)
    if isinstance(spec, UnionSpec):
        return any(_may_be(option, value) for option in spec.options)
    if isinstance(spec, StructSpec):
        return isinstance(value, spec.hint)
    if isinstance(spec, TupleSpec):
        return isinstance(value, tuple) and len(value) == len(spec.items)
    if isinstance(spec, ManySpec):
        return isinstance(value, Collection) and isinstance(value, spec.origin)
    if isinstance(spec, MappingSpec):
        return isinstance(value, Mapping)
    return value is None if spec.hint is type(None) else not hasattr(value, "shape")
