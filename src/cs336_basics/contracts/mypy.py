"""A plugin for mypy that holds shapes at call sites: `plugins = ["cs336_basics.contracts.mypy"]`.

It reads the annotations that `contract` reads, of any function whether decorated or not. At each call the names of the
function called are unified with the sizes that the caller knows; a wrong number of axes, two names that cannot be one
size, swapped arguments and a wrong kind of dtype are errors of code `shape`. What a call returns is known where its
arguments are, through functions, methods, tuples, NamedTuples, dataclasses, and the patterns of einops. It is gradual:
a tensor of unknown shape passes, and so does all that cannot be decided.

Within a function the names of its own signature are different sizes, since it promises to hold for all; unless its
code compares sizes itself. Bodies are not checked against results: that is `prove`'s part. A decorator must keep the
function's type (`F -> F`), as `contract` does, or mypy loses the annotations.
"""

import contextlib
import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mypy.errorcodes import ErrorCode
from mypy.nodes import Decorator, FuncDef, OverloadedFuncDef, SymbolTableNode, TypeAlias, TypeInfo, Var
from mypy.options import Options
from mypy.plugin import (
    AnalyzeTypeContext,
    FunctionContext,
    FunctionSigContext,
    MethodContext,
    MethodSigContext,
    Plugin,
    ReportConfigContext,
)
from mypy.typeanal import TypeAnalyser
from mypy.types import FunctionLike, Instance, Type, get_proper_type

if TYPE_CHECKING:  # imported by the first hook: a run with nothing to check is over in half a second
    from cs336_basics.contracts.plugin.calls import Calls

SHAPE: Final = ErrorCode("shape", "A call with a tensor of the wrong shape or kind of dtype", "General")

# What the plugin's verdicts follow from: a change here makes mypy read its cache no more.
_SOURCES: Final = (
    Path(__file__),
    *sorted(Path(__file__).parent.glob("plugin/*.py")),
    Path(__file__).with_name("shapes.py"),
)
_VERSION: Final = hashlib.sha256(b"".join(path.read_bytes() for path in _SOURCES)).hexdigest()

_EINOPS: Final = {f"einops.einops.{name}": name for name in ("rearrange", "reduce", "repeat", "einsum")}

_NO_SHAPES: Final = frozenset({"builtins", "typing", "typing_extensions", "torch", "collections", "abc", "enum"})

C = TypeVar("C")
R = TypeVar("R")


def plugin(_version: str) -> type[Plugin]:
    """What mypy asks a plugin for."""
    return ShapePlugin


class ShapePlugin(Plugin):
    """Hooks for annotations and for calls; one that fails ends the checks of shapes, and never mypy."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._shaped: set[str] = set()
        self._failed = False

    @functools.cached_property
    def _calls(self) -> "Calls":
        from cs336_basics.contracts.plugin.calls import Calls

        return Calls(SHAPE)

    def report_config_data(self, ctx: ReportConfigContext) -> str:
        # Called last before a module is written to the cache, and when it is read. What is returned is kept with the
        # module, and must be the same for it to be read: mypy itself keeps one hash of this file for the whole cache.
        if not ctx.is_check and "_calls" in self.__dict__:
            with contextlib.suppress(Exception):
                self._calls.carried.restore((self._modules or {})[ctx.id])
        return _VERSION

    def get_type_analyze_hook(self, fullname: str) -> Callable[[AnalyzeTypeContext], Type] | None:
        if self._failed:
            return None
        if fullname == "typing.Annotated":
            return self._annotation
        return self._aliased(fullname)

    def get_function_signature_hook(self, fullname: str) -> Callable[[FunctionSigContext], FunctionLike] | None:
        return self._begin if self._has_shapes(fullname) else None

    def get_method_signature_hook(self, fullname: str) -> Callable[[MethodSigContext], FunctionLike] | None:
        return self._begin if self._has_shapes(fullname) else None

    def get_function_hook(self, fullname: str) -> Callable[[FunctionContext], Type] | None:
        if fullname in _EINOPS and not self._failed:
            operation = _EINOPS[fullname]
            return lambda context: self._safely(lambda c: self._calls.pattern(operation, c), context, _as_it_was)
        return self._end if fullname in self._shaped and not self._failed else None

    def get_method_hook(self, fullname: str) -> Callable[[MethodContext], Type] | None:
        return self._end if fullname in self._shaped and not self._failed else None

    def _aliased(self, fullname: str) -> Callable[[AnalyzeTypeContext], Type] | None:
        module = (self._modules or {}).get(fullname.rpartition(".")[0])
        if module is None or fullname.partition(".")[0] in _NO_SHAPES:
            return None
        with contextlib.suppress(Exception):  # what mypy cannot look up has no shape
            symbol = self.lookup_fully_qualified(fullname)
            node = symbol.node if symbol is not None else None
            if isinstance(node, TypeAlias) and self._calls.carried.alias(node, module, node) is not None:
                return lambda context: self._calls.carried.alias(node, module, context.context) or node.target
        return None

    def _annotation(self, context: AnalyzeTypeContext) -> Type:
        return self._safely(lambda c: self._calls.carried.analyze(c.type, _plain(c)), context, _plain)

    def _begin(self, context: FunctionSigContext | MethodSigContext) -> FunctionLike:
        return self._safely(lambda c: self._calls.begin(c), context, lambda c: c.default_signature)

    def _end(self, context: FunctionContext | MethodContext) -> Type:
        return self._safely(lambda c: self._calls.end(c), context, _as_it_was)

    def _safely(self, hook: Callable[[C], R], context: C, otherwise: Callable[[C], R]) -> R:
        if not self._failed:
            try:
                return hook(context)
            except Exception as error:  # whatever it is, mypy's own checks must go on
                self._failed = True
                _note(context, f"shapes are not checked from here on: {type(error).__name__}: {error}")
        return otherwise(context)

    def _has_shapes(self, fullname: str) -> bool:
        if self._failed or fullname.partition(".")[0] in _NO_SHAPES:
            return False
        if fullname not in self._shaped:
            try:
                # A name without a module is local: what it says is to be seen at the call.
                if "." in fullname and not self._says_shapes(self.lookup_fully_qualified(fullname)):
                    return False
            except Exception:  # mypy cannot look it up, so neither can we
                return False
            self._shaped.add(fullname)
        return True

    def _says_shapes(self, symbol: SymbolTableNode | None) -> bool:
        """Whether a function, or the making of an object, has shapes in its signature; True where it has none yet."""
        node = symbol.node if symbol is not None else None
        if isinstance(node, TypeInfo):
            made = node.names.get("__init__")
            return self._calls.carried.form(Instance(node, [])) is not None or (
                made is not None and self._says_shapes(made)
            )
        if isinstance(node, Decorator):
            node = node.var
        if not isinstance(node, Var | FuncDef | OverloadedFuncDef):
            return False
        declared = get_proper_type(node.type)
        if declared is None:
            return True
        signatures = declared.items if isinstance(declared, FunctionLike) else []
        return any(self._calls.forms(signature) for signature in signatures)


def _plain(context: AnalyzeTypeContext) -> Type:
    """The type of any Annotated, as mypy has it without a plugin."""
    assert isinstance(context.api, TypeAnalyser)
    plain = context.api.try_analyze_special_unbound_type(context.type, "typing.Annotated")
    assert plain is not None
    return plain


def _as_it_was(context: FunctionContext | MethodContext) -> Type:
    return context.default_return_type


def _note(context: Any, message: str) -> None:
    """Say something at the place of a hook; every kind of context has an api that can."""
    with contextlib.suppress(Exception):
        context.api.note(message, context.context, code=SHAPE)
