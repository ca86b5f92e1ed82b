"""A result held against its annotation: shapes as symbols, the dtype that was promised, the device.

Only `prove` imports this file, when it is called: it needs torch.
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

import torch

from cs336_basics.contracts.proof.symbols import IntLike
from cs336_basics.contracts.proof.world import DEVICE, World
from cs336_basics.contracts.shapes import Anything, Axis, Expression, Fixed, Named, Shape, Variadic
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


class Fault(NamedTuple):
    """What is wrong, by which rule, and about which axis."""

    rule: Literal["shape", "dtype", "device"]
    axis: str
    expression: str
    message: str


def judge(world: World, spec: Spec, value: Any, path: str = "the result") -> Iterator[Fault]:
    """What of a value is not as its annotation says; names that are new to the world are bound by it."""
    if isinstance(spec, TensorSpec):
        yield from _judge_tensor(world, spec, value, path)
    elif isinstance(spec, UnionSpec):
        yield from _judge_union(world, spec, value, path)
    elif isinstance(spec, PlainSpec):
        # Plain values are beartype's, at run time; here they only tell the options of a union apart.
        if not _may_be(spec.hint, value):
            yield _wrong_type(spec, value, path)
    elif (items := _items(spec, value, path)) is None:
        yield _wrong_type(spec, value, path)
    else:
        for part, item, place in items:
            yield from judge(world, part, item, place)


def _judge_union(world: World, spec: UnionSpec, value: Any, path: str) -> Iterator[Fault]:
    """No fault where one option has none; else those of the option that comes closest."""
    found: list[list[Fault]] = []
    for option in spec.options:
        axes, several = dict(world.axes), dict(world.several)
        faults = list(judge(world, option, value, path))
        if not faults:
            return
        found.append(faults)
        world.axes, world.several = axes, several
    # An option that looked at the shape says more than one that saw another dtype, and both more than another type.
    yield from min(found, key=lambda faults: (faults[0].expression == "", faults[0].rule == "dtype"))


def _judge_tensor(world: World, spec: TensorSpec, value: Any, path: str) -> Iterator[Fault]:
    if not isinstance(value, torch.Tensor):
        yield _wrong_type(spec, value, path)
        return
    dtype = str(value.dtype).removeprefix("torch.")
    if spec.dtypes is not None and dtype not in spec.dtypes:
        yield Fault("dtype", "", dtype, f"{path} must be {' or '.join(spec.dtypes)}, got {dtype}")
    elif world.keeps_dtype and _is_float(spec) and dtype != world.dtype:
        yield Fault("dtype", "", dtype, f"{path} must keep the arguments' dtype {world.dtype}, got {dtype}")
    if world.has_device and value.device != DEVICE:
        yield Fault("device", "", str(value.device), f"{path} must be on the arguments' device, got {value.device}")
    yield from _judge_shape(world, spec.shape, list(value.shape), path)


def _judge_shape(world: World, shape: Shape, sizes: list[IntLike], path: str) -> Iterator[Fault]:
    """At most one fault: the first axis that is wrong."""
    at = shape.variadic
    few = len(shape.axes) - (at is not None)
    if len(sizes) < few or (at is None and len(sizes) > few):
        yield Fault("shape", "", world.shown(sizes), _message(world, shape, sizes, path))
        return
    end = len(sizes) - (few - at) if at is not None else 0
    before, after = (at, at + 1) if at is not None else (len(shape.axes), len(shape.axes))
    single = [*zip(shape.axes[:before], sizes, strict=False), *zip(shape.axes[after:], sizes[end:], strict=False)]
    if at is not None and not _several_fit(world, shape.axes[at], sizes[at:end]):
        name = getattr(shape.axes[at], "name", "...")
        yield Fault("shape", name, world.shown(sizes[at:end]), _message(world, shape, sizes, path))
        return
    for axis, size in single:
        if not _fits(world, axis, size):
            yield Fault("shape", _name(axis), str(world.read(size)), _message(world, shape, sizes, path))
            return


def _several_fit(world: World, axis: Axis, sizes: list[IntLike]) -> bool:
    if not isinstance(axis, Variadic):
        return True
    bound = world.several.setdefault(axis.name, tuple(sizes))
    if axis.broadcast and len(sizes) <= len(bound):
        tail = bound[len(bound) - len(sizes) :]
        return all(world.same(size, 1) or world.same(size, full) for size, full in zip(sizes, tail, strict=True))
    return len(bound) == len(sizes) and all(map(world.same, bound, sizes))


def _fits(world: World, axis: Axis, size: IntLike) -> bool:
    wanted = _wanted(world, axis, size)
    stretched = not isinstance(axis, Anything) and axis.broadcast and world.same(size, 1)
    return wanted is None or stretched or world.same(wanted, size)


def _wanted(world: World, axis: Axis, size: IntLike) -> IntLike | None:
    """The size that an axis must have; a new name takes the size it has. None for any."""
    if isinstance(axis, Fixed):
        return axis.size
    if isinstance(axis, Named):
        return world.axes.setdefault(axis.name, size)
    return world.value(axis, size) if isinstance(axis, Expression) else None


def _message(world: World, shape: Shape, sizes: list[IntLike], path: str) -> str:
    """What was promised, with the sizes as they are, and what came."""
    promised: list[str] = []
    for axis in shape.axes:
        if isinstance(axis, Variadic):
            promised += [str(world.read(size)) for size in world.several.get(axis.name, ())]
        elif isinstance(axis, Named) and axis.name in world.axes:
            promised.append(str(world.read(world.axes[axis.name])))
        else:
            promised.append(_name(axis))
    return f"{path} must be {shape.text!r}, here {_tuple(promised)}, got {world.shown(sizes)}"


def _tuple(parts: list[str]) -> str:
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


def _name(axis: Axis) -> str:
    if isinstance(axis, Fixed):
        return str(axis.size)
    if isinstance(axis, Anything):
        return "..." if axis.variadic else "_"
    return axis.text if isinstance(axis, Expression) else axis.name


def _wrong_type(spec: Spec, value: Any, path: str) -> Fault:
    return Fault(
        "shape", "", "", f"{path} must be {getattr(spec.hint, '__name__', spec.hint)}, got {type(value).__name__}"
    )


Inside: TypeAlias = tuple[Spec, Any, str]


def _items(spec: Spec, value: Any, path: str) -> list[Inside] | None:
    """The parts of a value with their annotations and places; None where it is of another kind."""
    if isinstance(spec, TupleSpec):
        if not isinstance(value, tuple) or len(value) != len(spec.items):
            return None
        return [(part, item, f"{path}[{i}]") for i, (part, item) in enumerate(zip(spec.items, value, strict=True))]
    if isinstance(spec, StructSpec) and isinstance(value, spec.hint):
        return [(part, getattr(value, name), f"{path}.{name}") for name, part in spec.fields.items()]
    if isinstance(spec, ManySpec) and isinstance(value, spec.origin):
        return [(spec.item, item, f"{path}[{i}]") for i, item in enumerate(value)]  # type: ignore[var-annotated,arg-type]  # walkable, or it would be plain
    if isinstance(spec, MappingSpec) and isinstance(value, spec.origin):
        return [(spec.value, item, f"{path}[{key!r}]") for key, item in value.items()]  # type: ignore[attr-defined]  # a mapping
    return None


def _is_float(spec: TensorSpec) -> bool:
    """Whether the annotation is `Float`: any floating dtype, which promises the arguments' own."""
    return spec.dtypes is not None and len(spec.dtypes) > 1 and all("float" in name for name in spec.dtypes)


def _may_be(hint: Any, value: Any) -> bool:
    """Whether a plain annotation leaves room for a tensor, for None, or for something else."""
    if isinstance(value, torch.Tensor):
        return hint in (Any, object, torch.Tensor) or "Tensor" in str(hint) or type(hint).__name__ == "TypeVar"
    if value is None:
        return hint in (type(None), object) or not isinstance(hint, type)
    return hint is not type(None)
