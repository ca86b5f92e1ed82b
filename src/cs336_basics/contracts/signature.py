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
from cs336_basics.contracts.shapes import Shape, parse_shape, rename_axes


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
    """A function's name, parameters and result, and the int parameters that are named like an axis."""

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
    return Signature(
        function, signature, tuple(parameters), _read_as(function, "the result", signature.return_annotation)
    )


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
    if sys.version_info >= (3, 12) and isinstance(hint, typing.TypeAliasType):
        return read(hint.__value__)
    if _is_jaxtyping(hint):
        return TensorSpec(hint, hint.array_type, _dtype_names(hint), parse_shape(hint.dim_str))
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        renames = {name: text for mark in arguments[1:] if isinstance(mark, Axes) for name, text in mark.texts.items()}
        return _renamed(read(arguments[0]), renames) if renames else read(arguments[0])
    if origin in (Union, types.UnionType):
        return _or_plain(hint, UnionSpec(hint, tuple(map(read, arguments))))
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return _or_plain(hint, ManySpec(hint, tuple, read(arguments[0])))
        return _or_plain(hint, TupleSpec(hint, tuple(map(read, arguments))))
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping) and len(arguments) == 2:
        return MappingSpec(hint, origin, read(arguments[0]), read(arguments[1]))
    if isinstance(origin, type) and _is_walkable(origin) and len(arguments) == 1:
        return ManySpec(hint, origin, read(arguments[0]))
    if isinstance(hint, type) and (fields := _fields(hint)):
        specs = {name: read(annotation) for name, annotation in fields.items()}
        if any(True for spec in specs.values() for _ in tensors(spec)):
            return StructSpec(hint, specs)
    for argument in arguments:  # Iterator["Tensor"] and the like: text is refused wherever it stands
        if isinstance(argument, typing.ForwardRef):
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
        return UnionSpec(spec.hint, tuple(map(again, spec.options)))
    if isinstance(spec, TupleSpec):
        return TupleSpec(spec.hint, tuple(map(again, spec.items)))
    if isinstance(spec, StructSpec):
        return StructSpec(spec.hint, {name: again(field) for name, field in spec.fields.items()})
    if isinstance(spec, ManySpec):
        return ManySpec(spec.hint, spec.origin, again(spec.item))
    if isinstance(spec, MappingSpec):
        return MappingSpec(spec.hint, spec.origin, again(spec.key), again(spec.value))
    return spec


def _or_plain(hint: Any, spec: Spec) -> Spec:
    """A choice or a tuple of plain types is plain, as long as no container in it must be walked."""
    return PlainSpec(hint) if all(isinstance(part, PlainSpec) for part in parts(spec)) else spec


def _is_jaxtyping(hint: Any) -> bool:
    """By its attributes, so that jaxtyping is not imported for functions that have no tensors."""
    return (
        isinstance(hint, type) and hasattr(hint, "dim_str") and hasattr(hint, "array_type") and hasattr(hint, "dtypes")
    )


def _dtype_names(hint: Any) -> tuple[str, ...] | None:
    return tuple(hint.dtypes) if isinstance(hint.dtypes, tuple | list) else None


def _is_walkable(origin: type) -> bool:
    """Whether a value of that type may be a container whose items can be looked at without using them up."""
    return issubclass(origin, collections.abc.Iterable) and not issubclass(origin, collections.abc.Iterator)


def _fields(hint: type) -> dict[str, Any]:
    """The annotated fields of a NamedTuple or a dataclass."""
    if dataclasses.is_dataclass(hint):
        return {field.name: field.type for field in dataclasses.fields(hint)}
    if issubclass(hint, tuple) and hasattr(hint, "_fields"):
        return dict(inspect.get_annotations(hint))
    return {}


def _may_be_int(spec: Spec) -> bool:
    return isinstance(spec, PlainSpec) and (spec.hint is int or int in typing.get_args(spec.hint))
