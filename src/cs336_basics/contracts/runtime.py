"""Contracts checked at run time: jaxtyping reads the shapes, beartype everything else."""

import contextlib
import functools
import inspect
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

from cs336_basics.contracts.errors import ContractError

F = TypeVar("F", bound=Callable[..., Any])

SWITCH = "CS336_CONTRACTS"


def contract(fn: F) -> F:
    """Check the annotations of `fn` at every call: shapes, dtypes and plain types, results included.

    Axis names are bound across one call, so `Float[Tensor, "*batch d_in"]` and
    `Float[Tensor, "d_out d_in"]` must agree on `d_in`. Inside `torch.compile` the checks step aside
    (dynamo would trace them). `CS336_CONTRACTS=off` in the environment at import returns `fn` itself.

    Raises: ContractError at a call that breaks the contract, naming the function, the argument, the
        annotation, what came, and the axes bound so far.
    Source: jaxtyping (Kidger 2022) and beartype do the checking; the message is ours.
    """
    mode = os.environ.get(SWITCH, "on")
    if mode == "off":
        return fn
    if mode != "on":
        raise ContractError(f"contract: {SWITCH} must be 'on' or 'off', got {mode!r}")
    from jaxtyping import TypeCheckError, jaxtyped

    signature = inspect.signature(fn)
    checked = jaxtyped(fn, typechecker=_beartype())
    is_compiling = _is_compiling()

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if is_compiling():
            return fn(*args, **kwargs)
        try:
            return checked(*args, **kwargs)
        except TypeCheckError as error:
            if _ran(fn, error):
                raise  # a function that `fn` called, checked by jaxtyping but not by us, broke its own promise
            message = _explain(fn, signature, args, kwargs, error)
        except TypeError:
            # An inner contract has already told its own story, closer to the cause.
            _refuse_unbindable(fn, signature, args, kwargs)
            raise
        raise ContractError(message)

    # Dynamo counts recompilations by code object: one shared by all contracts would soon be at its limit.
    wrapper.__code__ = wrapper.__code__.replace(co_name=fn.__name__)
    return cast("F", functools.wraps(fn)(wrapper))


def _beartype() -> Callable[[Any], Any]:
    from beartype import BeartypeConf, beartype

    # The numeric tower: an int is welcome where a float is asked for (eps=0).
    return cast("Callable[[Any], Any]", beartype(conf=BeartypeConf(is_pep484_tower=True)))


def _is_compiling() -> Callable[[], bool]:
    """torch.compiler.is_compiling where torch is loaded already; a torch-free room is never compiled."""
    torch = sys.modules.get("torch")
    return cast("Callable[[], bool]", torch.compiler.is_compiling) if torch else (lambda: False)


def _ran(fn: Callable[..., Any], error: TypeError) -> bool:
    """Whether the body of `fn` was under way: arguments are checked before it, the result after it."""
    return any(frame.f_code is fn.__code__ for frame, _ in traceback.walk_tb(error.__traceback__))


def _refuse_unbindable(
    fn: Callable[..., Any], signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ContractError(f"{fn.__qualname__}: {error}; its signature is {_plain(signature)}") from None


def _explain(
    fn: Callable[..., Any],
    signature: inspect.Signature,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    error: TypeError,
) -> str:
    """Say which argument (or the result) broke which annotation, by checking them again in order."""
    from beartype import BeartypeConf
    from beartype.door import is_bearable
    from jaxtyping import jaxtyped, print_bindings

    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    conf = BeartypeConf(is_pep484_tower=True)
    with jaxtyped("context"):  # type: ignore[call-overload,unused-ignore]  # a context manager when given the string
        culprit = "the result"
        hint: Any = signature.return_annotation
        got = _actual(str(error))
        for name, annotation, value in _annotated(bound):
            if not is_bearable(value, annotation, conf=conf):
                culprit, hint, got = name, annotation, describe(value)
                break
        axes = io.StringIO()
        with contextlib.redirect_stdout(axes):
            print_bindings()  # type: ignore[no-untyped-call]  # jaxtyping leaves it unannotated
    bindings = [line for line in axes.getvalue().splitlines() if "=" in line]
    known = f" where {', '.join(bindings)}" if bindings else ""
    return f"{fn.__qualname__}: {culprit} must be {_name(hint)}{known}, got {got}"


def _annotated(bound: inspect.BoundArguments) -> Iterator[tuple[str, Any, Any]]:
    """Name, annotation and value of each annotated argument; an annotation of *args is one of each of them."""
    for name, value in bound.arguments.items():
        parameter = bound.signature.parameters[name]
        if parameter.annotation is inspect.Parameter.empty:
            continue
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            yield from ((f"{name}[{index}]", parameter.annotation, item) for index, item in enumerate(value))
        elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
            yield from ((key, parameter.annotation, item) for key, item in value.items())
        else:
            yield name, parameter.annotation, value


def describe(value: object) -> str:
    """A short account of a value for an error message: shape and dtype of a tensor, else its repr.

    >>> describe([1, 2])
    'list [1, 2]'
    """
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        kind = "parameter" if type(value).__name__ == "Parameter" else type(value).__name__.lower()
        return f"{kind} {str(value.dtype).removeprefix('torch.')}{tuple(value.shape)}"
    text = " ".join(repr(value).split())  # on one line
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def _actual(message: str) -> str:
    """What jaxtyping says it got, for a result that no longer exists when we explain."""
    for line in message.splitlines():
        if line.startswith("Actual value: "):
            return line.removeprefix("Actual value: ")
    return "something else"


def _name(hint: Any) -> str:
    text = getattr(hint, "__name__", None) if isinstance(hint, type) else None
    return re.sub(r"\b(?:[a-z]\w*\.)+(?=[A-Z])", "", text or str(hint))  # without the modules' names


def _plain(signature: inspect.Signature) -> str:
    return "(" + ", ".join(signature.parameters) + ")"
