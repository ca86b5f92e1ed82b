"""One call held against the annotations of what it calls, as mypy comes to it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from mypy.checker import TypeChecker
from mypy.errorcodes import ErrorCode
from mypy.nodes import (
    ARG_POS,
    ARG_STAR,
    ARG_STAR2,
    ArgKind,
    CallExpr,
    Context,
    Expression,
    FuncItem,
    MemberExpr,
    MypyFile,
    NameExpr,
    StrExpr,
)
from mypy.plugin import FunctionContext, FunctionSigContext, MethodContext, MethodSigContext
from mypy.types import CallableType, Instance, Type, UnionType, get_proper_type

from cs336_basics.contracts.plugin.carry import Carried
from cs336_basics.contracts.plugin.infer import Inference, Scope, item
from cs336_basics.contracts.plugin.patterns import PatternError, apply
from cs336_basics.contracts.plugin.reach import Reach
from cs336_basics.contracts.plugin.unify import Bindings, pairs
from cs336_basics.contracts.plugin.values import Form, TensorValue, Value, names, written

HELD: Final[Counter[str]] = Counter()
"""How many tensors of known shape this process has held against an annotation or a pattern, by file. For tests."""


class Calls:
    """What is known of the calls in the function (or the top of the module) that mypy is in."""

    def __init__(self, code: ErrorCode) -> None:
        self.carried = Carried()
        self._code = code
        self._signatures: dict[Context, list[CallableType]] = {}
        self._results: dict[Expression, Value] = {}
        self._reaches: dict[FuncItem | MypyFile, Reach] = {}
        self._place: FuncItem | MypyFile | None = None

    def forms(self, signature: CallableType) -> list[Form]:
        """What the annotations of a function say of shapes."""
        forms = map(self.carried.form, (*signature.arg_types, signature.ret_type))
        return [form for form in forms if form is not None]

    def begin(self, context: FunctionSigContext | MethodSigContext) -> CallableType:
        """Keep the signature until the arguments are known: mypy does not show it then."""
        if self.forms(context.default_signature):
            self._enter(context.api)
            self._signatures.setdefault(context.context, []).append(context.default_signature)
        return context.default_signature

    def end(self, context: FunctionContext | MethodContext) -> Type:
        """Unify arguments and annotations, report a clash, and keep what the call returns."""
        self._enter(context.api)
        signature = self._signature(context)
        if signature is None:
            return self._returns(context, None)
        scope, inference = self._look(context.api)
        axes = frozenset().union(*map(names, self.forms(signature)))
        bindings = Bindings(scope.rigid)
        arguments: list[tuple[Form | None, Value | None]] = []
        places: list[tuple[str, Expression]] = []
        for formal, name, kind, expression, value in _given(context, inference):
            declared = signature.arg_types[formal]
            if name in axes and kind in (ARG_POS, ArgKind.ARG_NAMED) and _is_int(declared):
                bindings.sizes[name] = inference.size(expression)
            arguments.append((self.carried.form(declared), value))
            places.append((name or f"argument {formal + 1}", expression))
        HELD[context.api.path] += sum(1 for argument in arguments for _ in pairs(*argument))
        clash = bindings.unify(arguments)
        if clash is not None:
            name, place = places[clash.argument]
            message = (
                f"{_called(signature, context.context)}: {name} must be {clash.form}, got {clash.value}: {clash.why}"
            )
            self._report(context.api, message, place)
            return self._returns(context, None)
        return self._returns(context, bindings.result(self.carried.form(signature.ret_type)))

    def pattern(self, operation: str, context: FunctionContext) -> Type:
        """Apply an einops pattern to the shapes of its tensors."""
        self._enter(context.api)
        scope, inference = self._look(context.api)
        tensors: list[Value | None] = []
        sizes = {}
        text: str | None = None
        for _, name, kind, expression, value in _given(context, inference):
            if name == "pattern" or (text is None and isinstance(expression, StrExpr)):
                text = expression.value if isinstance(expression, StrExpr) else None
                if text is None:
                    return self._returns(context, None)
            elif text is None:
                tensors.append(value)
            elif name == "reduction":
                continue
            elif kind == ArgKind.ARG_NAMED and (given := _keyword(context, expression)) is not None:
                sizes[given] = inference.size(expression)
            else:
                return self._returns(context, None)
        known = [tensor for tensor in tensors if isinstance(tensor, TensorValue)]
        if text is None or not known:
            return self._returns(context, None)
        HELD[context.api.path] += len(known)
        try:
            given_axes = [tensor.axes if isinstance(tensor, TensorValue) else None for tensor in tensors]
            axes = apply(operation, text, given_axes, sizes, rigid=scope.rigid)
        except PatternError as error:
            shapes = " and ".join(f'"{written(tensor.axes)}"' for tensor in known)
            self._report(context.api, f'{operation}: pattern "{text}" does not fit {shapes}: {error}', context.context)
            return self._returns(context, None)
        dtypes = {tensor.dtype for tensor in known}
        dtype = dtypes.pop() if len(dtypes) == 1 and len(known) == len(tensors) else None
        return self._returns(context, TensorValue(dtype, axes))

    def _enter(self, api: object) -> None:
        """Forget the last function when mypy goes on to another."""
        assert isinstance(api, TypeChecker)
        place = next((part for part in api.scope.stack if isinstance(part, FuncItem)), None) or api.tree
        if place is not self._place:
            self._place = place
            for held in (self._signatures, self._results, self._reaches):
                held.clear()

    def _look(self, api: object) -> tuple[Scope, Inference]:
        assert isinstance(api, TypeChecker)
        scope = Scope(api, self.carried, self._reaches)
        return scope, Inference(api, scope, self.carried, self._results)

    def _signature(self, context: FunctionContext | MethodContext) -> CallableType | None:
        """The signature of this call; of an overloaded function, that of the overload being tried."""
        kept = [s for s in self._signatures.get(context.context, []) if s.arg_names == context.callee_arg_names]
        same = [s for s in kept if s.ret_type is context.default_return_type]
        if same:
            return same[-1]
        said = {tuple(map(str, (*map(self.carried.form, s.arg_types), self.carried.form(s.ret_type)))) for s in kept}
        return kept[-1] if len(said) == 1 else None

    def _returns(self, context: FunctionContext | MethodContext, value: Value | None) -> Type:
        assert isinstance(context.context, Expression)
        if value is None:
            self._results.pop(context.context, None)
        else:
            self._results[context.context] = value
        return context.default_return_type

    def _report(self, api: object, message: str, place: Context) -> None:
        assert isinstance(api, TypeChecker)
        api.fail(message, place, code=self._code)


def _given(
    context: FunctionContext | MethodContext, inference: Inference
) -> Iterator[tuple[int, str | None, ArgKind, Expression, Value | None]]:
    """Place and name of the parameter, kind, expression and value of each argument; `*xs` is one for each parameter."""
    starred: dict[Expression, int] = {}
    for formal, expressions in enumerate(context.args):
        for expression, kind in zip(expressions, context.arg_kinds[formal], strict=True):
            value: Value | None = None
            if kind == ARG_STAR:
                place = starred.get(expression, 0)
                starred[expression] = place + 1
                value = item(inference.value(expression), place)
            elif kind != ARG_STAR2:
                value = inference.value(expression)
            yield formal, context.callee_arg_names[formal], kind, expression, value


def _keyword(context: FunctionContext, expression: Expression) -> str | None:
    """The name that an argument was given by."""
    for expressions, given in zip(context.args, context.arg_names, strict=True):
        for candidate, name in zip(expressions, given, strict=True):
            if candidate is expression:
                return name
    return None


def _is_int(declared: Type) -> bool:
    proper = get_proper_type(declared)
    options: Sequence[Type] = proper.items if isinstance(proper, UnionType) else [proper]
    kinds = (get_proper_type(option) for option in options)
    return any(isinstance(kind, Instance) and kind.type.fullname == "builtins.int" for kind in kinds)


def _called(signature: CallableType, call: Context) -> str:
    """What a message calls a function by; an object that is called, by its own name."""
    name = (signature.name or "").partition(" of ")[0].strip('"')
    if name in ("", "__call__") and isinstance(call, CallExpr) and isinstance(call.callee, NameExpr | MemberExpr):
        return call.callee.name
    return name or "the function"
