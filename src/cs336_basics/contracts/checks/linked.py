"""What is proved is not checked again: calls among functions held by proof go to their bodies."""

from collections.abc import Callable
from types import FunctionType
from typing import Any, Final

_LINKED: Final[dict[Callable[..., Any], Callable[..., Any]]] = {}


def linked(fn: FunctionType) -> Callable[..., Any]:
    """A twin of `fn` that calls the bodies of the functions held by proof of which it calls the wrappers, and so on
    down.

    The twin has the module's names as they stand now: to be made when the module is whole, at the first call.
    """
    if fn in _LINKED:
        return _LINKED[fn]
    inner = {name: value for name, value in fn.__globals__.items() if is_proved(value)}
    names = dict(fn.__globals__)
    names.pop("__name__", None)  # torch.compile would look the module up, and guard its wrappers in place of bodies
    twin = FunctionType(fn.__code__, names, fn.__name__, fn.__defaults__, fn.__closure__)
    twin.__kwdefaults__ = fn.__kwdefaults__
    _LINKED[fn] = twin  # before the rest, so that two which call each other end
    names.update({name: body(wrapper) for name, wrapper in inner.items()})
    return twin


def body(wrapper: Any) -> Callable[..., Any]:
    """What a wrapper of a function held by proof comes to where its arguments are proved to be right."""
    return linked(wrapper.__contract__.function)


def is_proved(value: Any) -> bool:
    """Whether a value is the wrapper of a function held by proof."""
    return isinstance(value, FunctionType) and getattr(getattr(value, "__contract__", None), "held_by", "") == "proof"
