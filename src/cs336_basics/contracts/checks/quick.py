"""Quick tests for values that are no tensors: true only for what beartype accepts; the rest is asked of `_plain`."""

import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, Union

from cs336_basics.contracts.signature import ManySpec, PlainSpec

Refer = Callable[[str, Any], str]


def quick_test(var: str, spec: PlainSpec | ManySpec, default: object, refer: Refer) -> str:
    """A Python expression that is true where `var` fits; empty where anything does.

    The default comes first: it is what most calls leave as it is. What the quick part does not know goes to
    `_plain(value, spec)`, which asks beartype (and accepts inside a compiled region, where nothing can be asked).
    """
    if spec.hint is Any:
        return ""
    known = _known(var, spec, refer)
    tests = [f"{var} is {refer('default', default)}"] if _is_sure(default, spec.hint) else []
    tests += [known] if known else []
    return " or ".join([*tests, f"_plain({var}, {refer('spec', spec)})"])


def _known(var: str, spec: PlainSpec | ManySpec, refer: Refer) -> str:
    if isinstance(spec, ManySpec):
        inner = _known("_item", spec.item, refer) if isinstance(spec.item, PlainSpec) else ""
        if not inner or not issubclass(list, spec.origin):
            return ""
        return f"(_type({var}) is _list and _all([{inner} for _item in {var}]))"
    hint = spec.hint
    if hint is None or hint is type(None):
        return f"{var} is None"
    if hint is bool:
        return f"{var} is True or {var} is False"
    if hint is float:  # the numeric tower: an int will do
        return f"_type({var}) is _float or _type({var}) is _int"
    if hint in (int, str, bytes):
        return f"_type({var}) is _{hint.__name__}"
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        options = [_known(var, PlainSpec(option), refer) for option in typing.get_args(hint)]
        return " or ".join(option for option in options if option)
    if hint is Callable or origin is Callable:  # of a function's own types nothing can be seen from outside
        return f"_callable({var})"
    if origin is Literal and all(type(value) is str for value in typing.get_args(hint)):
        return f"_type({var}) is _str and {var} in {typing.get_args(hint)!r}"
    if isinstance(hint, type) and origin is None and not _is_protocol(hint) and hint is not complex:
        return f"_isinstance({var}, {refer('type', hint)})"
    return ""


def _is_protocol(hint: type) -> bool:
    """isinstance with a protocol compares every method: slow, and not to be traced."""
    return bool(getattr(hint, "_is_protocol", False)) or inspect.isabstract(hint)


def _is_sure(default: object, hint: Any) -> bool:
    """Whether a default surely fits; asking beartype at decoration would import it."""
    try:
        return isinstance(hint, type) and default is not None and isinstance(default, hint)
    except TypeError:  # a protocol that is not for run time
        return False
