"""The verdict on a call: jaxtyping reads the tensors, beartype everything else; only they may refuse.

What they know of a call is a value, `Known`, so that a choice tried in vain leaves no trace. Containers are walked
whole: beartype alone would look at one item of a thousand.
"""

import functools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from inspect import BoundArguments, Parameter
from typing import Any, cast

from cs336_basics.contracts.describe import describe, hint_text
from cs336_basics.contracts.errors import ContractError
from cs336_basics.contracts.shapes import Expression, Named, Shape, Variadic
from cs336_basics.contracts.signature import (
    MappingSpec,
    PlainSpec,
    Signature,
    Spec,
    StructSpec,
    TensorSpec,
    TupleSpec,
    UnionSpec,
)
from cs336_basics.contracts.sizes import solve

NO_RESULT = object()


@dataclass(frozen=True)
class Known:
    """Axes bound so far: sizes of single ones, and shapes of those that stand for several (with their #)."""

    sizes: Mapping[str, int] = field(default_factory=dict)
    several: Mapping[str, tuple[bool, tuple[int, ...]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal:
    """Which part of a value broke which annotation, and what was known by then."""

    path: str
    hint: Any
    value: object
    known: Known


def judge(signature: Signature, args: tuple[Any, ...], kwargs: dict[str, Any], result: object = NO_RESULT) -> None:
    """Check every argument of a call, and its result where there is one.

    Raises: ContractError naming the function, the argument, the annotation, what came, and the axes bound so far.
    """
    bound = _bind(signature, args, kwargs)
    known = Known({name: value for name in signature.sizes if is_size(value := bound.arguments[name])})
    for name, spec, value in _arguments(signature, bound):
        known = _or_raise(signature, _fits(spec, value, known, name))
    if result is not NO_RESULT:
        _or_raise(signature, _fits(signature.result, result, known, "the result"))


def bears(spec: Spec, value: object) -> bool:
    """Whether a value that shares no axis with others fits its annotation."""
    return isinstance(_fits(spec, value, Known(), ""), Known)


def is_size(value: object) -> bool:
    """Whether a value can be the size of an axis: an int, or torch's symbol for one."""
    return (isinstance(value, int) and not isinstance(value, bool)) or type(value).__name__ == "SymInt"


def _bind(signature: Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BoundArguments:
    try:
        bound = signature.python.bind(*args, **kwargs)
    except TypeError as error:
        names = ", ".join(parameter.name for parameter in signature.parameters)
        raise ContractError(f"{signature.name}: {error}; its signature is ({names})") from None
    bound.apply_defaults()
    return bound


def _arguments(signature: Signature, bound: BoundArguments) -> Iterator[tuple[str, Spec, Any]]:
    """Name, annotation and value of each argument; the annotation of *args is one of each of them."""
    for parameter in signature.in_order:
        value = bound.arguments[parameter.name]
        if parameter.kind is Parameter.VAR_POSITIONAL:
            yield from ((f"{parameter.name}[{index}]", parameter.spec, item) for index, item in enumerate(value))
        elif parameter.kind is Parameter.VAR_KEYWORD:
            yield from ((key, parameter.spec, item) for key, item in value.items())
        else:
            yield parameter.name, parameter.spec, value


def _or_raise(signature: Signature, verdict: Known | Refusal) -> Known:
    if isinstance(verdict, Known):
        return verdict
    known = verdict.known
    axes = [f"{name}={size}" for name, size in known.sizes.items()]
    axes += [f"{name}={tuple(shape)}" for name, (_, shape) in known.several.items()]
    where = f" where {', '.join(axes)}" if axes else ""
    raise ContractError(
        f"{signature.name}: {verdict.path} must be {hint_text(verdict.hint)}{where}, got {describe(verdict.value)}"
    )


def _fits(spec: Spec, value: Any, known: Known, path: str) -> Known | Refusal:
    """What is known once `value` has been found to fit, or why it does not."""
    refusal = Refusal(path, spec.hint, value, known)
    if isinstance(spec, TensorSpec):
        return _fits_tensor(spec, value, known) or refusal
    if isinstance(spec, UnionSpec):
        return _fits_union(spec, value, known, refusal)
    if isinstance(spec, PlainSpec):
        return known if spec.hint is Any or _is_bearable(value, spec.hint) else refusal
    if isinstance(spec, StructSpec):
        if not isinstance(value, spec.hint):
            return refusal
        return _all_fit(known, ((f"{path}.{name}", part, getattr(value, name)) for name, part in spec.fields.items()))
    if isinstance(spec, TupleSpec):
        if not isinstance(value, tuple) or len(value) != len(spec.items):
            return refusal
        items = enumerate(zip(spec.items, value, strict=True))
        return _all_fit(known, ((f"{path}[{index}]", part, item) for index, (part, item) in items))
    if not isinstance(value, spec.origin):
        return refusal
    if isinstance(spec, MappingSpec):
        value = cast("Mapping[Any, Any]", value)
        keys = ((f"a key of {path}", spec.key, key) for key in value)
        verdict = _all_fit(known, keys)
        if isinstance(verdict, Refusal):
            return verdict
        return _all_fit(verdict, ((f"{path}[{key!r}]", spec.value, item) for key, item in value.items()))
    if not isinstance(value, Collection):
        return known  # looking at the items of an iterator would use them up
    return _all_fit(known, ((f"{path}[{index}]", spec.item, item) for index, item in enumerate(value)))


def _all_fit(known: Known, parts: Iterator[tuple[str, Spec, Any]]) -> Known | Refusal:
    for path, spec, value in parts:
        verdict = _fits(spec, value, known, path)
        if isinstance(verdict, Refusal):
            return verdict
        known = verdict
    return known


def _fits_union(spec: UnionSpec, value: Any, known: Known, refusal: Refusal) -> Known | Refusal:
    """The first choice that fits; where there is but one beside None, its own story is the better one."""
    verdicts = []
    for option in spec.options:
        verdict = _fits(option, value, known, refusal.path)
        if isinstance(verdict, Known):
            return verdict
        if not (isinstance(option, PlainSpec) and option.hint is type(None)):
            verdicts.append(verdict)
    deeper = len(verdicts) == 1 and verdicts[0].path != refusal.path
    return verdicts[0] if deeper else refusal


def _fits_tensor(spec: TensorSpec, value: Any, known: Known) -> Known | None:
    """jaxtyping's verdict on one tensor, told what is known; what it binds is then read off the shape."""
    from jaxtyping import AnnotationError, jaxtyped

    sizes = known.sizes
    if isinstance(value, spec.array_type if isinstance(spec.array_type, type) else object) and hasattr(value, "shape"):
        sizes = _solved(spec.shape, value.shape, known.sizes)
    try:
        with jaxtyped("context"):  # type: ignore[call-overload,unused-ignore]  # a context manager when given the string
            for name, size in sizes.items():
                _tell(name, (size,))
            for name, (broadcast, shape) in known.several.items():
                _tell(f"*#{name}" if broadcast else f"*{name}", shape)
            if not isinstance(value, spec.hint):
                return None
    except (AnnotationError, ArithmeticError):
        return None  # a formula with two names that nothing has bound, or one that divides by a size of 0
    return _extended(spec.shape, value.shape, Known(sizes, known.several))


class _Sizes:
    """Something with a shape, by which jaxtyping is told what an axis is bound to."""

    dtype = "any"

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape


def _tell(axis: str, shape: tuple[int, ...]) -> None:
    from jaxtyping import Shaped

    hint: Any = Shaped[_Sizes, axis]
    isinstance(_Sizes(shape), hint)


def placed(shape: Shape, actual: tuple[int, ...]) -> Iterator[tuple[Any, Any]]:
    """Each axis of a shape with its size, the variadic one with its sizes; nothing where the ranks do not fit."""
    at, extra = shape.variadic, len(actual) - len(shape.axes)
    if (extra != 0) if at is None else (extra < -1):
        return
    for index, axis in enumerate(shape.axes):
        if index == at:
            yield axis, actual[index : index + extra + 1]
        else:
            yield axis, actual[index if at is None or index < at else index + extra]


def _solved(shape: Shape, actual: tuple[int, ...], sizes: Mapping[str, int]) -> Mapping[str, int]:
    """The sizes, and those that a formula with one unknown name gives: jaxtyping cannot solve it."""
    found = dict(sizes)
    for axis, size in placed(shape, actual):
        if isinstance(axis, Named) and not (axis.broadcast and size == 1):
            found.setdefault(axis.name, size)
        elif isinstance(axis, Expression) and not (axis.broadcast and size == 1):
            unknown = [name for name in axis.names if name not in found]
            if len(set(unknown)) == 1 and (value := solve(axis, unknown[0], size, found)) is not None:
                found[unknown[0]] = value
    wanted = {name for axis in shape.axes if isinstance(axis, Expression) for name in axis.names}
    return {name: size for name, size in found.items() if name in sizes or name in wanted}


def _extended(shape: Shape, actual: tuple[int, ...], known: Known) -> Known:
    sizes, several = dict(known.sizes), dict(known.several)
    for axis, size in placed(shape, actual):
        if isinstance(axis, Named) and not (axis.broadcast and size == 1):
            sizes.setdefault(axis.name, size)
        elif isinstance(axis, Variadic):
            before = several.get(axis.name)
            if before is None:
                several[axis.name] = (axis.broadcast, tuple(size))
            elif before[0]:
                several[axis.name] = (axis.broadcast, _broadcast(before[1], tuple(size)))
    return Known(sizes, several)


def _broadcast(left: tuple[int, ...], right: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that two shapes, known to agree, broadcast to."""
    rank = max(len(left), len(right))
    pairs = zip((1,) * (rank - len(left)) + left, (1,) * (rank - len(right)) + right, strict=True)
    return tuple(b if a == 1 else a for a, b in pairs)


def _is_bearable(value: object, hint: Any) -> bool:
    # A symbol of torch stands for a number that nothing has fixed yet.
    stand_in = {"SymInt": 1, "SymFloat": 0.5, "SymBool": True}.get(type(value).__name__)
    from beartype.roar import BeartypeException

    try:
        return bool(_beartype()(value if stand_in is None else stand_in, hint))
    except BeartypeException as error:
        why = str(error).splitlines()[0]
        raise ContractError(
            f"the annotation {hint_text(hint)} cannot be checked; use Any or another type: {why}"
        ) from None


@functools.cache
def _beartype() -> Callable[[object, Any], bool]:
    from beartype import BeartypeConf
    from beartype.door import is_bearable

    # The numeric tower: an int is welcome where a float is asked for (eps=0).
    conf = BeartypeConf(is_pep484_tower=True)
    return lambda value, hint: is_bearable(value, hint, conf=conf)
