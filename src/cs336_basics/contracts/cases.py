"""The calls that a signature stands for: which choices there are, and what stands for a parameter without a value.

The laws and the prover try the same cases: the base case, and every variation of one choice from it.
"""

import enum
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from cs336_basics.contracts.errors import ContractError
from cs336_basics.contracts.signature import (
    ManySpec,
    MappingSpec,
    Parameter,
    PlainSpec,
    Signature,
    Spec,
    StructSpec,
    TensorSpec,
    TupleSpec,
    UnionSpec,
    tensors,
)


@dataclass(frozen=True)
class Value:
    """This value, as it is."""

    value: Any


@dataclass(frozen=True)
class Made:
    """A value that whoever builds the call makes: the size of the axis `name`, or a value of a type of torch."""

    kind: Literal["size", "generator", "dtype", "device"]
    name: str = ""


@dataclass(frozen=True)
class Tensors:
    """A tensor. Where there are several annotations they differ in dtype alone, and the builder takes what fits."""

    specs: tuple[TensorSpec, ...]


Inside: TypeAlias = TupleSpec | StructSpec | ManySpec | MappingSpec
Choice: TypeAlias = Value | Made | Tensors | Inside


@dataclass(frozen=True)
class Case:
    """One way to call a function; `picks` says, by path, which choice is taken where it is not the first."""

    name: str
    picks: Mapping[str, int]


@dataclass(frozen=True)
class Builder:
    """How a tensor comes about, told its path (`cache.keys`), and how a value that must be made."""

    tensor: Callable[[Tensors, str], Any]
    made: Callable[[Made], Any]


def cases(signature: Signature, given: Iterable[str] = ()) -> list[Case]:
    """The base case first, then each variation; the parameters `given` have none.

    Base: the default where there is one, else None where it is allowed, the first value of a Literal, False; an int
    named like an axis is that axis's size, any other 1, a float 0.5. A torch.Generator is given even where None is
    allowed, for None is the hidden one. Variations: each other choice, also inside named tuples and dataclasses,
    with everything else as in the base case.

    Raises: ContractError for a parameter of which nothing is known: a callable, a model, a class of one's own.
    """
    found = [Case("base", {})]
    for parameter in signature.parameters:
        if parameter.name not in given:
            path = f"{parameter.name}[0]" if parameter.kind is inspect.Parameter.VAR_POSITIONAL else parameter.name
            found += _variations(path, _first_choices(signature, parameter), signature, {})
    return found


def build(signature: Signature, parameter: Parameter, case: Case, builder: Builder) -> Any:
    """The value of one parameter in a case; of *args two items where they hold tensors, else none."""
    holds = any(True for _ in tensors(parameter.spec))
    choices = _first_choices(signature, parameter)
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return {}
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        paths = [f"{parameter.name}[{index}]" for index in range(2)] if holds else []
        return tuple(_build(choices, path, signature, case, builder) for path in paths)
    return _build(choices, parameter.name, signature, case, builder)


def _build(choices: tuple[Choice, ...], path: str, signature: Signature, case: Case, builder: Builder) -> Any:
    choice = choices[case.picks.get(path, 0)]
    if isinstance(choice, Value):
        return choice.value
    if isinstance(choice, Made):
        return builder.made(choice)
    if isinstance(choice, Tensors):
        return builder.tensor(choice, path)
    inside = {
        key: _build(_choices(part, signature, str(key)), path + step, signature, case, builder)
        for key, step, part in _parts(choice)
    }
    if isinstance(choice, StructSpec):
        return choice.hint(**inside)
    if isinstance(choice, MappingSpec):
        return inside
    kind = choice.origin if isinstance(choice, ManySpec) and choice.origin in (list, set, frozenset) else tuple
    return kind(inside.values())


def _variations(
    path: str, choices: tuple[Choice, ...], signature: Signature, picks: Mapping[str, int]
) -> Iterator[Case]:
    for index, choice in enumerate(choices):
        taken = {**picks, path: index} if index else picks
        if index:
            yield Case(f"{path}={repr(choice.value) if isinstance(choice, Value) else 'given'}", taken)
        if not isinstance(choice, Value | Made | Tensors):
            for key, step, part in _parts(choice):
                yield from _variations(path + step, _choices(part, signature, str(key)), signature, taken)


def _parts(choice: Inside) -> Iterator[tuple[Any, str, Spec]]:
    """Key, step of the path and annotation of everything directly inside; a container of any length holds two."""
    if isinstance(choice, StructSpec):
        yield from ((name, f".{name}", part) for name, part in choice.fields.items())
    elif isinstance(choice, TupleSpec):
        yield from ((index, f"[{index}]", part) for index, part in enumerate(choice.items))
    elif isinstance(choice, ManySpec):
        yield from ((index, f"[{index}]", choice.item) for index in range(2))
    else:
        yield from ((key, f"[{key!r}]", choice.value) for key in ("a", "b"))


def _first_choices(signature: Signature, parameter: Parameter) -> tuple[Choice, ...]:
    """The choices of a whole parameter: its default first, and none beside it that is only another number."""
    many = parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found = _choices(parameter.spec, signature, parameter.name)
    if parameter.name in signature.sizes:  # a size is given where it may be: None leaves it to the function
        return tuple(sorted(found, key=lambda choice: not isinstance(choice, Made)))
    if parameter.default is not inspect.Parameter.empty and not (found and _is_given(found[0])):
        default = Value(parameter.default)
        others = found if len(found) > 1 else ()
        return (default, *(choice for choice in others if not _same(choice, default)))
    if not found and not many:
        hint = getattr(parameter.spec.hint, "__name__", parameter.spec.hint)
        raise ContractError(
            f"{signature.name}: {parameter.name} must be given a value, as in {parameter.name}=..., "
            f"since nothing stands for {hint} by itself"
        )
    return found


def _choices(spec: Spec, signature: Signature, name: str) -> tuple[Choice, ...]:
    """What may stand for an annotation, the base case first; nothing where nothing is known."""
    if isinstance(spec, TensorSpec):
        return (Tensors((spec,)),)
    if isinstance(spec, PlainSpec):
        return _plain(spec.hint, signature, name)
    if not isinstance(spec, UnionSpec):
        return (spec,)
    found: list[Choice] = []
    by_shape: dict[str, list[TensorSpec]] = {}
    for option in spec.options:
        if isinstance(option, TensorSpec):
            by_shape.setdefault(option.shape.text, []).append(option)
        else:
            found += _choices(option, signature, name)
    found += [Tensors(tuple(specs)) for specs in by_shape.values()]
    return _none_first(found)


def _plain(hint: Any, signature: Signature, name: str) -> tuple[Choice, ...]:
    arguments = typing.get_args(hint)
    if hint is type(None):
        return (Value(None),)
    if hint is int:
        return (Made("size", name) if name in signature.sizes else Value(1),)
    if hint is float:
        return (Value(0.5),)
    if hint is bool:
        return (Value(False), Value(True))
    if getattr(hint, "__module__", "").split(".")[0] == "torch" and hint.__name__ in _OF_TORCH:
        return (Made(_OF_TORCH[hint.__name__]),)
    if typing.get_origin(hint) is Literal:
        return tuple(map(Value, arguments))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return tuple(map(Value, hint))
    if typing.get_origin(hint) is tuple and Ellipsis not in arguments:
        items = [_plain(argument, signature, "") for argument in arguments]
        firsts = [item[0].value for item in items if item and isinstance(item[0], Value)]
        return (Value(tuple(firsts)),) if len(firsts) == len(items) else ()
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        found = [choice for argument in arguments for choice in _plain(argument, signature, name)]
        given = [choice for choice in found if _is_given(choice)]
        return tuple(given) or _none_first(found)
    return ()


_OF_TORCH: Final[dict[str, Literal["generator", "dtype", "device"]]] = {
    "Generator": "generator",
    "dtype": "dtype",
    "device": "device",
}


def _same(choice: Choice, other: Choice) -> bool:
    """Equal plain values; True is not 1, and values of other types (a tensor) are not compared at all."""
    if not (isinstance(choice, Value) and isinstance(other, Value)):
        return False
    simple = isinstance(choice.value, bool | int | float | str | None | enum.Enum | tuple)
    return simple and type(choice.value) is type(other.value) and bool(choice.value == other.value)


def _is_given(choice: Choice) -> bool:
    """Whether it is given even where None is allowed: the global generator and the default device are hidden ones."""
    return isinstance(choice, Made) and choice.kind in ("generator", "device")


def _none_first(choices: list[Choice]) -> tuple[Choice, ...]:
    return tuple(sorted(choices, key=lambda choice: not _same(choice, Value(None))))
