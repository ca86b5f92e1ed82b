"""What a function promises: its annotations read once into values that every check walks.

A `Spec` is one annotation: a tensor with its shape, a choice, a tuple, a named tuple or dataclass of others, a
container of others, or anything else, which is beartype's to judge.
"""

import collections.abc
import dataclasses
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, Union

from cs336_basics.contracts.errors import ContractError
from cs336_basics.contracts.shapes import Expression, Named, Shape, parse_shape, rename_axes


@dataclass(frozen=True)
class TensorSpec:
    """`Float[Tensor, "*batch d_in"]`; `dtypes` are names as in `str(dtype)` without `torch.`, None for any."""

    hint: Any
    array_type: Any
    dtypes: tuple[str, ...] | None
    shape: Shape


@dataclass(frozen=True)
class UnionSpec:
    """`A | B | None`."""

    hint: Any
    options: tuple["Spec", ...]


@dataclass(frozen=True)
class TupleSpec:
    """`tuple[A, B]`."""

    hint: Any
    items: tuple["Spec", ...]


@dataclass(frozen=True)
class StructSpec:
    """A NamedTuple or a dataclass some of whose fields hold tensors."""

    hint: type
    fields: Mapping[str, "Spec"]


@dataclass(frozen=True)
class ManySpec:
    """`list[A]`, `tuple[A, ...]`, `Sequence[A]`, `Iterable[A]`: a container, or for the last perhaps an iterator."""

    hint: Any
    origin: type
    item: "Spec"


@dataclass(frozen=True)
class MappingSpec:
    """`dict[K, V]`, `Mapping[K, V]`."""

    hint: Any
    origin: type
    key: "Spec"
    value: "Spec"


@dataclass(frozen=True)
class PlainSpec:
    """Any other type; also what has no annotation (hint Any)."""

    hint: Any


class Axes:
    """Other sizes for the axes of a record: `Annotated[KVCache, Axes(cached="cached+seq")]` is a grown KVCache."""

    def __init__(self, **texts: str) -> None:
        self.texts = texts


Spec: TypeAlias = TensorSpec | UnionSpec | TupleSpec | StructSpec | ManySpec | MappingSpec | PlainSpec


@dataclass(frozen=True)
class Parameter:
    """One parameter; `spec` is that of each item where the kind is *args or **kwargs."""

    name: str
    kind: Any
    default: Any
    spec: Spec


@dataclass(frozen=True, eq=False)
class Signature:
    """A function's parameters and result, and the int parameters that are named like an axis."""

    function: Callable[..., Any]
    python: inspect.Signature
    parameters: tuple[Parameter, ...]
    result: Spec

    @property
    def name(self) -> str:
        """The name that errors call the function by."""
        return str(self.function.__qualname__)

    @functools.cached_property
    def sizes(self) -> tuple[str, ...]:
        """Int parameters named like an axis: their values are that axis's size."""
        specs = (self.result, *(parameter.spec for parameter in self.parameters))
        axes = {name for spec in specs for tensor in tensors(spec) for name in tensor.shape.names()}
        return tuple(p.name for p in self.parameters if p.name in axes and _may_be_int(p.spec))

    @functools.cached_property
    def in_order(self) -> tuple[Parameter, ...]:
        """The parameters as they are checked: sizes first, a formula with two unbound names after what binds one."""
        waiting = sorted(self.parameters, key=lambda parameter: parameter.name not in self.sizes)
        known, ordered = set(self.sizes), list[Parameter]()
        while waiting:
            ready = (p for p in waiting if _unknown(p.spec, known) is not None)
            ordered.append(next(ready, waiting[0]))
            waiting.remove(ordered[-1])
            known |= _unknown(ordered[-1].spec, known) or set()
        return tuple(ordered)


def read_signature(function: Callable[..., Any]) -> Signature:
    """Read the annotations of a function, each once.

    Raises: ContractError for an annotation that is text (a forward reference, or `from __future__ import
        annotations`) and for a shape that cannot be read, naming the parameter, the text and the position.
    """
    signature = inspect.signature(function)
    parameters = []
    for parameter in signature.parameters.values():
        spec = _read_as(function, parameter.name, parameter.annotation)
        parameters.append(Parameter(parameter.name, parameter.kind, parameter.default, spec))
    # What a call of a coroutine function gives is a coroutine.
    hint = Any if inspect.iscoroutinefunction(function) else signature.return_annotation
    found = Signature(function, signature, tuple(parameters), _read_as(function, "the result", hint))
    _require_bound(found)
    return found


def _require_bound(signature: Signature) -> None:
    """Refuse a formula with two names that nothing in the signature ever binds: no size could be told from it."""
    specs = (signature.result, *(parameter.spec for parameter in signature.parameters))
    axes = [axis for spec in specs for tensor in tensors(spec) for axis in tensor.shape.axes]
    bound = {axis.name for axis in axes if isinstance(axis, Named)} | set(signature.sizes)
    formulas = [axis for axis in axes if isinstance(axis, Expression)]
    for _ in formulas:
        bound |= {name for axis in formulas if len(free := set(axis.names) - bound) == 1 for name in free}
    for axis in formulas:
        if unbound := sorted(set(axis.names) - bound):
            names = " and ".join(unbound)
            raise ContractError(f"{signature.name}: the size {axis.text!r} cannot be told: nothing binds {names}")


def _read_as(function: Callable[..., Any], name: str, hint: Any) -> Spec:
    try:
        return PlainSpec(Any) if hint is inspect.Parameter.empty else read(hint)
    except ContractError as error:
        raise ContractError(f"{function.__qualname__}: the annotation of {name}: {error}") from None


def read(hint: Any) -> Spec:
    """The value of one annotation.

    Raises: ContractError for text in place of a type, or a shape that cannot be read.
    """
    if isinstance(hint, str | typing.ForwardRef):
        text = hint if isinstance(hint, str) else hint.__forward_arg__
        raise ContractError(
            f"{text!r} is text at position 0, which cannot be checked; write the type itself, without quotes and "
            "without `from __future__ import annotations`"
        )
    if isinstance(hint, int | float | bytes | list | dict | set):
        raise ContractError(f"{hint!r} at position 0 is no type")
    if sys.version_info >= (3, 12) and isinstance(hint, typing.TypeAliasType):
        return read(hint.__value__)
    if hint is typing.Self:
        return PlainSpec(Any)  # which class it is, a function cannot tell
    if _is_jaxtyping(hint):
        dtypes = tuple(hint.dtypes) if isinstance(hint.dtypes, tuple | list) else None
        return TensorSpec(hint, hint.array_type, dtypes, parse_shape(hint.dim_str))
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        renames = {name: text for mark in arguments[1:] if isinstance(mark, Axes) for name, text in mark.texts.items()}
        spec = read(arguments[0])
        known = {name for tensor in tensors(spec) for name in tensor.shape.names()}
        for name in renames.keys() - known:
            raise ContractError(f"Axes({name}=...) names no single axis; its axes are {', '.join(sorted(known))}")
        return _renamed(spec, renames) if renames else spec
    if origin in (Union, types.UnionType):
        return _or_plain(hint, UnionSpec(hint, tuple(map(read, arguments))))
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return _or_plain(hint, ManySpec(hint, tuple, read(arguments[0])))
        return _or_plain(hint, TupleSpec(hint, tuple(map(read, arguments))))
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping) and len(arguments) == 2:
        return MappingSpec(hint, origin, read(arguments[0]), read(arguments[1]))
    walkable = isinstance(origin, type) and issubclass(origin, collections.abc.Iterable)
    if walkable and not issubclass(origin, collections.abc.Iterator) and len(arguments) == 1:
        return ManySpec(hint, origin, read(arguments[0]))  # an iterator would be used up by looking at its items
    if isinstance(hint, type) and (fields := _fields(hint)):
        specs = {name: read(annotation) for name, annotation in fields.items()}
        if any(True for spec in specs.values() for _ in tensors(spec)):
            return StructSpec(hint, specs)
    if origin is not typing.Literal:
        for argument in arguments:  # Iterator["Tensor"] and the like: text is refused wherever it stands
            if isinstance(argument, str | typing.ForwardRef):
                read(argument)
    return PlainSpec(hint)


def tensors(spec: Spec) -> Iterator[TensorSpec]:
    """Every tensor in an annotation, from left to right."""
    if isinstance(spec, TensorSpec):
        yield spec
    for part in parts(spec):
        yield from tensors(part)


def parts(spec: Spec) -> tuple[Spec, ...]:
    """The annotations directly inside one."""
    if isinstance(spec, UnionSpec):
        return spec.options
    if isinstance(spec, TupleSpec):
        return spec.items
    if isinstance(spec, StructSpec):
        return tuple(spec.fields.values())
    if isinstance(spec, ManySpec):
        return (spec.item,)
    if isinstance(spec, MappingSpec):
        return (spec.key, spec.value)
    return ()


def _renamed(spec: Spec, texts: Mapping[str, str]) -> Spec:
    """The annotation with single axes replaced by the texts."""
    if isinstance(spec, TensorSpec):
        shape = rename_axes(spec.shape, texts)
        return TensorSpec(spec.hint.dtype[spec.array_type, shape.text], spec.array_type, spec.dtypes, shape)
    again = functools.partial(_renamed, texts=texts)
    if isinstance(spec, UnionSpec):
        return dataclasses.replace(spec, options=tuple(map(again, spec.options)))
    if isinstance(spec, TupleSpec):
        return dataclasses.replace(spec, items=tuple(map(again, spec.items)))
    if isinstance(spec, StructSpec):
        return dataclasses.replace(spec, fields={name: again(field) for name, field in spec.fields.items()})
    if isinstance(spec, ManySpec):
        return dataclasses.replace(spec, item=again(spec.item))
    return dataclasses.replace(spec, value=again(spec.value)) if isinstance(spec, MappingSpec) else spec


def _or_plain(hint: Any, spec: Spec) -> Spec:
    """A choice or a tuple of plain types is plain, as long as no container in it must be walked."""
    return PlainSpec(hint) if all(isinstance(part, PlainSpec) for part in parts(spec)) else spec


def _is_jaxtyping(hint: Any) -> bool:
    """By its attributes, so that jaxtyping is not imported for functions that have no tensors."""
    return (
        isinstance(hint, type) and hasattr(hint, "dim_str") and hasattr(hint, "array_type") and hasattr(hint, "dtypes")
    )


def _fields(hint: type) -> dict[str, Any]:
    """The annotated fields of a NamedTuple or a dataclass."""
    if dataclasses.is_dataclass(hint):
        return {field.name: field.type for field in dataclasses.fields(hint)}
    if issubclass(hint, tuple) and hasattr(hint, "_fields"):
        return dict(inspect.get_annotations(hint))
    return {}


def _unknown(spec: Spec, known: set[str]) -> set[str] | None:
    """The names that an annotation binds beyond the known ones; None where a formula has two of them."""
    new: set[str] = set()
    for tensor in tensors(spec):
        for axis in tensor.shape.axes:
            names = {axis.name} if isinstance(axis, Named) else set(getattr(axis, "names", ()))
            if isinstance(axis, Expression) and len(names - known - new) > 1:
                return None
            new |= names - known
    return new


def _may_be_int(spec: Spec) -> bool:
    return isinstance(spec, PlainSpec) and int in (spec.hint, *typing.get_args(spec.hint))
