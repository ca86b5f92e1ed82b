"""`@contract`: the annotations of a function held at every call, in three modes."""

import functools
import inspect
import linecache
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Final, Literal, TypeVar, cast, get_args, overload

from cs336_basics.contracts.checks.authority import NO_RESULT, bears, is_size, judge
from cs336_basics.contracts.checks.lines import TooRichError, outside
from cs336_basics.contracts.checks.linked import body, linked
from cs336_basics.contracts.checks.straight import write
from cs336_basics.contracts.errors import ContractError
from cs336_basics.contracts.signature import Signature, Spec, read_signature

F = TypeVar("F", bound=Callable[..., Any])

SWITCH: Final = "CS336_CONTRACTS"
MODES: Final = ("on", "full", "off")
HeldBy = Literal["checks", "proof", "callee"]


@dataclass(frozen=True, eq=False)
class Contract:
    """What a function decorated with `contract` carries as `__contract__`."""

    function: Callable[..., Any]
    signature: Signature
    unproved: str  # why `prove` cannot hold the function, where it cannot
    held_by: HeldBy
    source: str  # the straight-line checks; empty where the authority judges every call


class _TracedContractError(ContractError, AssertionError):
    """A ContractError while torch.compile traces: dynamo hands on an AssertionError as it is, and little else."""


@overload
def contract(fn: F, /) -> F: ...
@overload
def contract(*, unproved: str = "", held_by: HeldBy = "checks") -> Callable[[F], F]: ...
def contract(fn: F | None = None, /, *, unproved: str = "", held_by: HeldBy = "checks") -> F | Callable[[F], F]:
    """Hold `fn` to its annotations at every call: shapes, dtypes and plain types, the result included.

    Axis names are bound across one call, so `Float[Tensor, "*batch d_in"]` and `Float[Tensor, "d_out d_in"]` must
    agree on `d_in`. A formula (`heads*d_k`) with one name that nothing has bound yet is solved for it. An int
    parameter named like an axis is that axis. Fields of NamedTuples and dataclasses are looked into, and every item
    of a container.

    Straight-line Python made from the annotations accepts right calls; what it does not accept goes to jaxtyping and
    beartype, which alone refuse. `CS336_CONTRACTS`, read at decoration, chooses: `on`, the default; `full`, jaxtyping
    and beartype at every call; `off`, which returns `fn` itself. Inside `torch.compile` the checks run while it
    traces; of them a graph for all sizes keeps comparisons of sizes that nothing uses. `unproved` states why `prove`
    cannot hold the function.

    `held_by` says what, while contracts are `on`, need not be checked at every call. `"proof"`: `prove` holds the
    function, so its arguments are checked, but neither its result nor its calls of other functions held by proof.
    `"callee"`: the function hands what it is given to a contract that refuses as much, and returns what that returns.

    Raises: ContractError at a call that breaks the contract, naming the function, the argument, the annotation, what
        came, and the axes bound so far; at decoration, for an annotation that cannot be read.
    Source: jaxtyping (Kidger 2022) for the grammar of shapes.
    """
    if fn is None:
        return lambda function: _decorated(function, unproved, held_by)
    return _decorated(fn, unproved, held_by)


def _decorated(fn: F, unproved: str, held_by: HeldBy) -> F:
    mode = os.environ.get(SWITCH, "on")
    if mode not in MODES:
        raise ContractError(f"contract: {SWITCH} must be 'on', 'full' or 'off', got {mode!r}")
    if mode == "off":
        return fn
    if not inspect.isfunction(fn):
        kind = type(fn).__name__
        raise ContractError(
            f"contract: must decorate a function, got a {kind}; of a class decorate its methods, and put @contract "
            "below @classmethod or @staticmethod"
        )
    if held_by not in get_args(HeldBy):
        raise ContractError(f"contract: held_by must be one of {get_args(HeldBy)}, got {held_by!r}")
    signature = read_signature(fn)
    wrapper, source = _checked(fn, signature, held_by)
    if mode == "full":
        wrapper = _in_full(fn, signature, wrapper)
    wrapper = fn if mode == "on" and held_by == "callee" else functools.wraps(fn)(wrapper)
    cast("Any", wrapper).__contract__ = Contract(fn, signature, unproved, held_by, source)
    return cast("F", wrapper)


def _checked(fn: FunctionType, signature: Signature, held_by: HeldBy) -> tuple[Callable[..., Any], str]:
    """The checked twin of a function, and its source where it is straight-line."""
    is_compiling, refuse_traced, traced_bears = _tracing(signature)

    def again(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call that the straight line did not accept."""
        args, kwargs = _present(args, kwargs)
        if is_compiling():
            refuse_traced(False, *_flat((args, kwargs)))
            return fn(*args, **kwargs)
        judge(signature, args, kwargs)
        return judged(args, kwargs, fn(*args, **kwargs))

    def judged(args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
        """A result that the straight line did not accept."""
        if is_compiling():
            refuse_traced(True, *_flat((args, kwargs, result)))
        else:
            judge(signature, args, kwargs, result)
        return result

    def first(*args: Any, **kwargs: Any) -> Any:
        """The first call of a function held by proof: by now its module is whole."""
        if is_compiling():
            return fn(*args, **kwargs)
        namespace.update({name: body(value) for name, value in namespace.items() if name.startswith("_body_")})
        namespace["_function"] = linked(fn)
        return namespace["_function"](*args, **kwargs)

    def rebind(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call with parameters given by name that stand before the options, or that the function does not have."""
        given = [value for value in args if value is not _ABSENT]
        positional, named = list(given), dict(kwargs)
        for name in order[len(given) :]:
            if name in named and name in by_name:
                positional.append(named.pop(name))
            elif name in defaults:
                positional.append(defaults[name])
            else:
                return again(tuple(given), kwargs)
        if (len(positional) > len(order) and not takes_more) or not named.keys() <= options:
            return again(tuple(given), kwargs)
        return namespace["checked"](*positional, **named)

    def plain(value: Any, spec: Spec) -> bool:
        if value is _ABSENT or not is_compiling():
            return value is not _ABSENT and bears(spec, value)
        # What dynamo cannot tell us of (closures, modules) is let through.
        return not isinstance(value, str | int | float | None) or traced_bears(spec, _told(value))

    kinds = inspect.Parameter
    before = [p for p in signature.parameters if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
    order = [p.name for p in before]
    by_name = {p.name for p in before if p.kind is kinds.POSITIONAL_OR_KEYWORD}
    defaults = {p.name: p.default for p in before if p.default is not kinds.empty}
    options = {p.name for p in signature.parameters if p.kind is kinds.KEYWORD_ONLY}
    takes_more = any(p.kind is kinds.VAR_POSITIONAL for p in signature.parameters)
    namespace: dict[str, Any] = {"_absent": _ABSENT, "_again": again, "_rebind": rebind, "_judged": judged}
    namespace |= {"_plain": plain, "_outside": outside, "_is_size": is_size}
    namespace |= {"_function": first if held_by == "proof" else fn}
    try:
        source = write(signature, namespace, held_by)
    except TooRichError:
        return _own_code(lambda *args, **kwargs: again(args, kwargs), fn.__name__), ""
    file = f"<contract of {fn.__module__}.{fn.__qualname__}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)  # for tracebacks and debuggers
    exec(compile(source, file, "exec"), namespace)  # noqa: S102  # the source is ours
    return _own_code(namespace["checked"], fn.__name__), source


def _in_full(fn: Callable[..., Any], signature: Signature, straight: Callable[..., Any]) -> Callable[..., Any]:
    """Judge every call, but with the straight line where sizes are symbols: dynamo cannot trace jaxtyping, which makes
    numbers of them."""
    is_compiling = _tracing(signature)[0]

    def full(*args: Any, **kwargs: Any) -> Any:
        if is_compiling() or _has_symbols((args, kwargs)):
            return straight(*args, **kwargs)
        judge(signature, args, kwargs)
        result = fn(*args, **kwargs)
        judge(signature, args, kwargs, result)
        return result

    return _own_code(full, fn.__name__)


def _has_symbols(value: Any) -> bool:
    if isinstance(value, tuple | list | dict):
        return any(map(_has_symbols, value.values() if isinstance(value, dict) else value))
    shape = getattr(value, "shape", ())
    return isinstance(shape, tuple) and any(type(size).__name__ == "SymInt" for size in shape)


class _Absent:
    """Stands for an argument that was not given."""

    def __repr__(self) -> str:
        return "absent"


_ABSENT: Final = _Absent()
_TOLD: Final = 1 << 16


def _present(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that were given: none after one that is absent, whose places then hold defaults."""
    given = next((index for index, value in enumerate(args) if value is _ABSENT), len(args))
    return args[:given], {name: value for name, value in kwargs.items() if value is not _ABSENT}


def _own_code(wrapper: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Dynamo counts recompilations by code object: one shared by all contracts would soon be at its limit."""
    function = cast("Any", wrapper)
    function.__code__ = function.__code__.replace(co_name=name)
    return wrapper


def _tracing(signature: Signature) -> tuple[Callable[[], bool], Callable[..., None], Callable[[Spec, Any], bool]]:
    """Whether torch.compile is tracing, and how to refuse and to judge then; a torch-free room is never compiled.

    Dynamo runs a function marked as a constant while it traces, if it can tell each argument: tensors, plain values
    and classes, but no tuples. So a call comes in pieces.
    """

    def refuse_traced(with_result: bool, *pieces: Any) -> None:
        call = _joined(list(pieces))
        try:
            judge(signature, call[0], call[1], call[2] if with_result else NO_RESULT)
        except ContractError as error:
            raise _TracedContractError(str(error)) from None

    torch = sys.modules.get("torch")
    if torch is None:
        return lambda: False, refuse_traced, bears
    constant = torch.compiler.assume_constant_result
    return torch.compiler.is_compiling, constant(refuse_traced), constant(lambda spec, value: bears(spec, value))


def _flat(value: Any) -> list[Any]:
    """A value in pieces: each container announced by its type and length, each leaf by None and a 1."""
    if isinstance(value, dict):
        pieces = [dict, len(value)]
        for name, item in value.items():
            pieces += [name, *_flat(item)]
        return pieces
    if isinstance(value, tuple | list):
        pieces = [type(value), len(value)]
        for item in value:
            pieces += _flat(item)
        return pieces
    return [None, 1, _told(value)]


def _told(value: Any) -> Any:
    """A number in a form that dynamo can tell, though it may be a symbol: a float by its type alone, an int by its
    value, unless it is too large to be the size of an axis in an error."""
    if type(value) is int:
        size = min(abs(value), _TOLD)
        return len([None] * size) * (1 if value >= 0 else -1)
    return 0.5 if type(value) is float else value


def _joined(pieces: list[Any]) -> Any:
    """The value that `_flat` took apart; uses up the pieces."""
    kind, count = pieces.pop(0), pieces.pop(0)
    if kind is None:
        return pieces.pop(0)
    if kind is dict:
        return {pieces.pop(0): _joined(pieces) for _ in range(count)}
    items = [_joined(pieces) for _ in range(count)]
    return kind(*items) if hasattr(kind, "_fields") else kind(items)
