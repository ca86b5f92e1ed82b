"""The shape of an expression, from what its names were defined as and what calls were found to return.

mypy's own inference is not asked: it joins types where this file has to know that it does not know.
"""

from collections.abc import Sequence
from typing import Final

from mypy.checker import TypeChecker
from mypy.nodes import (
    AssignmentExpr,
    CallExpr,
    CastExpr,
    ConditionalExpr,
    Decorator,
    Expression,
    FloatExpr,
    FuncDef,
    FuncItem,
    IndexExpr,
    IntExpr,
    LambdaExpr,
    ListExpr,
    MemberExpr,
    MypyFile,
    NameExpr,
    OpExpr,
    TupleExpr,
    UnaryExpr,
    Var,
)
from mypy.types import CallableType, Instance, get_proper_type

from cs336_basics.contracts.plugin.carry import Carried, marked_form, written_mark
from cs336_basics.contracts.plugin.polynomials import Size, calculate, named, number, unknown
from cs336_basics.contracts.plugin.reach import Definition, Reach
from cs336_basics.contracts.plugin.values import (
    Form,
    ManyValue,
    Several,
    StructValue,
    TensorValue,
    TupleValue,
    Value,
    names,
    own,
)

_KEEP: Final = frozenset(
    {
        *("abs", "clone", "contiguous", "cos", "cpu", "cuda", "detach", "exp", "log", "neg", "relu", "requires_grad_"),
        *("rsqrt", "sigmoid", "sin", "sqrt", "square", "tanh"),
    }
)
"""Methods, and functions of torch, whose result has the shape and the kind of dtype of what they are given."""

_OPERATORS: Final = {"+": "Add", "-": "Sub", "*": "Mult", "//": "FloorDiv", "%": "Mod", "**": "Pow"}

_DEEPEST: Final = 40


class Scope:
    """Where an expression stands: the functions around it, innermost first, and the names they promise sizes for."""

    def __init__(self, api: TypeChecker, carried: Carried, reaches: dict[FuncItem | MypyFile, Reach]) -> None:
        self._carried = carried
        around = [part for part in reversed(api.scope.stack) if isinstance(part, FuncItem)]
        for function in around:
            if function not in reaches:
                reaches[function] = Reach(function, function.body.body)
        if not around and api.tree not in reaches:
            reaches[api.tree] = Reach(None, api.tree.defs)
        self._reaches = [reaches[function] for function in around] or [reaches[api.tree]]
        promised = [frozenset[str]() if isinstance(part, LambdaExpr) else self._promised(part) for part in around]
        self._home = next((i for i, axes in enumerate(promised) if axes), len(around))
        self.names = promised[self._home] if self._home < len(around) else frozenset()
        compared = {name for reach in self._reaches[: self._home + 1] for name in reach.compared}
        self.rigid = not compared & {"", *self.names}
        """Whether the names are all different sizes: not where the code itself compares sizes."""

    def _promised(self, function: FuncItem) -> frozenset[str]:
        signature = get_proper_type(function.type)
        if not isinstance(signature, CallableType):
            return frozenset()
        return frozenset().union(*(names(self._carried.form(t)) for t in (*signature.arg_types, signature.ret_type)))

    def definition(self, name: NameExpr) -> tuple[Definition | None, bool]:
        """The one definition that reaches a name, and whether it is from outside the function that has the names."""
        var, used = name.node, False
        for depth, reach in enumerate(self._reaches):
            here = name in reach.at
            if isinstance(var, Var) and var in reach.only and (here or used or depth > 0):
                return (reach.at[name] if here else reach.only[var]), depth > self._home
            used = used or here
        return None, True


class Inference:
    """What is known of the expressions of one function; `results` holds what its calls were found to return."""

    def __init__(self, api: TypeChecker, scope: Scope, carried: Carried, results: dict[Expression, Value]) -> None:
        self._api, self._scope, self._carried, self._results = api, scope, carried, results

    def value(self, expression: Expression, depth: int = 0) -> Value | None:
        """What is known of the value of an expression."""
        depth += 1
        if depth > _DEEPEST:
            return None
        if isinstance(expression, CallExpr):
            return self._results.get(expression) or self._cast(expression) or self._kept(expression, depth)
        if isinstance(expression, NameExpr):
            return self._name(expression, depth)
        if isinstance(expression, MemberExpr):
            return self._member(expression, depth)
        if isinstance(expression, TupleExpr | ListExpr):
            return TupleValue(tuple(self.value(part, depth) for part in expression.items))
        if isinstance(expression, IndexExpr):
            return self._part(self.value(expression.base, depth), expression.index)
        if isinstance(expression, AssignmentExpr):
            return self.value(expression.value, depth)
        if isinstance(expression, ConditionalExpr):
            value = self.value(expression.if_expr, depth)
            return value if value == self.value(expression.else_expr, depth) else None
        if isinstance(expression, UnaryExpr) and expression.op == "-":
            return self.value(expression.expr, depth)
        if isinstance(expression, OpExpr) and expression.op in ("+", "-", "*", "/"):
            return self._elementwise(expression, depth)
        return None

    def size(self, expression: Expression, depth: int = 0) -> Size:
        """The size that an int expression stands for; one not known where nothing better is to be had."""
        depth += 1
        found: Size | None = None
        label = expression.name if isinstance(expression, NameExpr | MemberExpr) else "_"
        if depth > _DEEPEST:
            pass
        elif isinstance(expression, IntExpr):
            found = number(expression.value)
        elif isinstance(expression, NameExpr):
            definition, outside = self._scope.definition(expression)
            if definition is not None and definition.kind == "parameter":
                rigid = expression.name in self._scope.names and not outside
                found = named(expression.name if rigid else f"?{expression.name}")
            elif definition is not None and definition.kind == "value" and definition.value is not None and not outside:
                found = self._defined_size(definition.value, definition.path, depth)
        elif isinstance(expression, OpExpr) and expression.op in _OPERATORS:
            left, right = self.size(expression.left, depth), self.size(expression.right, depth)
            found = calculate(_OPERATORS[expression.op], left, right)
        elif isinstance(expression, IndexExpr | CallExpr):
            found = self._axis(expression, depth)
        return unknown(label) if found is None else found

    def _own(self, form: Form | None) -> Value | None:
        return own(form, self._scope.names)

    def _name(self, name: NameExpr, depth: int) -> Value | None:
        definition, outside = self._scope.definition(name)
        if definition is None:
            declared = name.node if isinstance(name.node, Var) and not name.node.is_inferred else None
            if declared is None or declared.is_argument or not declared.fullname.count("."):
                return None
            return own(self._carried.form(declared.type), frozenset(), f"{name.name}.")
        if outside and definition.kind == "parameter":
            return own(self._carried.form(definition.var.type), frozenset(), f"{name.name}.")
        return None if outside else self._defined(definition, depth)

    def _defined(self, definition: Definition | None, depth: int) -> Value | None:
        if definition is None:
            return None
        if definition.kind in ("parameter", "declared"):
            return self._own(self._carried.form(definition.var.type))
        if definition.kind == "augmented":
            before = self._defined(definition.before, depth + 1)
            return before if isinstance(before, TensorValue) else None
        value = None if definition.value is None else self.value(definition.value, depth)
        if definition.kind == "item":
            value = value.item if isinstance(value, ManyValue) else None
        for place in definition.path:
            value = item(value, place)
        return value

    def _defined_size(self, value: Expression, path: Sequence[int], depth: int) -> Size | None:
        if not path:
            return self.size(value, depth)
        if isinstance(value, TupleExpr) and path[0] < len(value.items):
            return self._defined_size(value.items[path[0]], path[1:], depth)
        if isinstance(value, MemberExpr) and value.name == "shape" and len(path) == 1:
            return _size_at(self.value(value.expr, depth), path[0])
        return None

    def _axis(self, expression: IndexExpr | CallExpr, depth: int) -> Size | None:
        """x.shape[i], x.size(i)"""
        if isinstance(expression, IndexExpr):
            tensor, place = expression.base, expression.index
            wanted = "shape"
        else:
            tensor, wanted = expression.callee, "size"
            if len(expression.args) != 1:
                return None
            place = expression.args[0]
        at = _integer(place)
        if not isinstance(tensor, MemberExpr) or tensor.name != wanted or at is None:
            return None
        return _size_at(self.value(tensor.expr, depth), at)

    def _member(self, member: MemberExpr, depth: int) -> Value | None:
        owner = self.value(member.expr, depth)
        if isinstance(owner, StructValue):
            return owner.get(member.name)
        if isinstance(owner, TensorValue):
            plain = len(owner.axes) >= 2 and not any(isinstance(axis, Several) for axis in owner.axes[-2:])
            turned = (*owner.axes[:-2], owner.axes[-1], owner.axes[-2]) if plain else ()
            return TensorValue(owner.dtype, turned) if plain and member.name == "mT" else None
        if not self._api.has_type(member.expr):
            return None
        holder = get_proper_type(self._api.lookup_type(member.expr))
        symbol = holder.type.get(member.name) if isinstance(holder, Instance) else None
        node = symbol.node if symbol is not None else None
        label = f"{member.expr.name}." if isinstance(member.expr, NameExpr) else "."
        if isinstance(node, Var) and not node.is_inferred:
            return own(self._carried.form(node.type), frozenset(), label)
        if isinstance(node, Decorator) and node.var.is_property:
            node = node.func
        kind = get_proper_type(node.type) if isinstance(node, FuncDef) and node.is_property else None
        return own(self._carried.form(kind.ret_type), frozenset(), label) if isinstance(kind, CallableType) else None

    def _part(self, value: Value | None, index: Expression) -> Value | None:
        if isinstance(value, ManyValue):
            return None if type(index).__name__ == "SliceExpr" else value.item
        place = _integer(index)
        return None if place is None else item(value, place)

    def _cast(self, call: CallExpr) -> Value | None:
        """cast(Float[Tensor, "..."], x)"""
        if not isinstance(call.analyzed, CastExpr):
            return None
        mark = written_mark(call.args[0])
        return None if mark is None else self._own(marked_form(mark, "Tensor"))

    def _kept(self, call: CallExpr, depth: int) -> Value | None:
        """x.exp(), torch.exp(x)"""
        if not isinstance(call.callee, MemberExpr) or call.callee.name not in _KEEP:
            return None
        if call.callee.fullname.startswith("torch."):
            value = self.value(call.args[0], depth) if len(call.args) == 1 else None
        else:
            value = self.value(call.callee.expr, depth)
        return value if isinstance(value, TensorValue) else None

    def _elementwise(self, operation: OpExpr, depth: int) -> Value | None:
        """A tensor with a number, or with a tensor of its own shape, is one of that shape."""
        left, right = self.value(operation.left, depth), self.value(operation.right, depth)
        if isinstance(left, TensorValue) and isinstance(right, TensorValue) and left.axes == right.axes:
            return TensorValue(left.dtype if left.dtype == right.dtype and operation.op != "/" else None, left.axes)
        tensor, other = (left, operation.right) if isinstance(left, TensorValue) else (right, operation.left)
        if not isinstance(tensor, TensorValue) or not self._is_number(other):
            return None
        return TensorValue(tensor.dtype if tensor.dtype == "Float" else None, tensor.axes)

    def _is_number(self, expression: Expression) -> bool:
        if isinstance(expression, IntExpr | FloatExpr):
            return True
        if not self._api.has_type(expression):
            return False
        known = get_proper_type(self._api.lookup_type(expression))
        return isinstance(known, Instance) and known.type.fullname in ("builtins.int", "builtins.float")


def _integer(expression: Expression) -> int | None:
    if isinstance(expression, UnaryExpr) and expression.op == "-" and isinstance(expression.expr, IntExpr):
        return -expression.expr.value
    return expression.value if isinstance(expression, IntExpr) else None


def item(value: Value | None, place: int) -> Value | None:
    """One of the items of a value."""
    if isinstance(value, ManyValue):
        return value.item
    items: Sequence[Value | None] = ()
    if isinstance(value, TupleValue):
        items = value.items
    elif isinstance(value, StructValue):
        items = [field for _, field in value.fields]
    return items[place] if -len(items) <= place < len(items) else None


def _size_at(value: Value | None, place: int) -> Size | None:
    """The size of an axis counted from the left or, below 0, from the right, where it is certain which one it is."""
    if not isinstance(value, TensorValue) or not -len(value.axes) <= place < len(value.axes):
        return None
    before = value.axes[place:] if place < 0 else value.axes[: place + 1]
    axis = value.axes[place]
    return axis if isinstance(axis, Size) and not any(isinstance(other, Several) for other in before) else None
