"""Which assignment a name's value comes from, at each place in a function, where it can be only one.

mypy forgets an assignment where branches meet, and then goes by the first one: a shape that it remembers may be that of
another value. So a name has a shape only where one definition reaches it on every path.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from mypy.nodes import (
    AssignmentExpr,
    AssignmentStmt,
    Block,
    BreakStmt,
    CallExpr,
    ClassDef,
    ComparisonExpr,
    ContinueStmt,
    DelStmt,
    DictionaryComprehension,
    Expression,
    ForStmt,
    FuncDef,
    FuncItem,
    GeneratorExpr,
    IfStmt,
    IntExpr,
    LambdaExpr,
    ListExpr,
    MatchStmt,
    MemberExpr,
    NameExpr,
    Node,
    OperatorAssignmentStmt,
    OpExpr,
    RaiseStmt,
    ReturnStmt,
    StarExpr,
    Statement,
    TryStmt,
    TupleExpr,
    Var,
    WhileStmt,
    WithStmt,
)

from cs336_basics.contracts.plugin.trees import assigned, assigned_within_functions, parts, read, variables

_RESHAPES: Final = frozenset(
    {
        *("squeeze_", "unsqueeze_", "transpose_", "t_", "swapaxes_", "swapdims_", "resize_", "resize_as_", "set_"),
        *("as_strided_", "permute_"),
    }
)
"""Methods that change the shape of the very tensor they are called on."""


@dataclass(frozen=True, eq=False)
class Definition:
    """Where a value comes from: a parameter, an annotated variable, a value (the part at `path`), an item of one.

    `value` is what was assigned, or iterated over; `before`, for `x += ...`, the definition that held before.
    """

    kind: Literal["parameter", "declared", "value", "item", "augmented"]
    var: Var
    value: Expression | None = None
    path: tuple[int, ...] = ()
    before: "Definition | None" = None


_Known: TypeAlias = dict[Var, Definition | None]


class Reach:
    """The definitions in one function (or at the top of one module), functions within it left out.

    at: the definition that reaches each name used; missing or None where there may be several.
    only: the variables that are defined once, with that definition: what functions within may count on.
    compared: names held against others with == or !=; "" among them where sizes are read from a tensor for it.
    """

    def __init__(self, function: FuncItem | None, body: Sequence[Statement]) -> None:
        self.at: dict[NameExpr, Definition | None] = {}
        self.only: _Known = {}
        self.compared: set[str] = set()
        self._known: _Known = {}
        self._alive = True
        for argument in function.arguments if function is not None else ():
            self._define(argument.variable, Definition("parameter", argument.variable))
        for statement in body:
            self._visit(statement)
        self.only.update(dict.fromkeys(assigned_within_functions(body)))

    def _visit(self, node: Node | None) -> None:
        if node is None:
            return
        if type(node) in _HANDLERS:
            _HANDLERS[type(node)](self, node)
        else:
            for part in parts(node):
                self._visit(part)

    def _name(self, o: NameExpr) -> None:
        if isinstance(o.node, Var):
            self.at[o] = self._known.get(o.node)

    def _assignment(self, o: AssignmentStmt) -> None:
        self._visit(o.rvalue)
        for target in o.lvalues:
            if o.type is not None and isinstance(target, NameExpr) and isinstance(target.node, Var):
                self._define(target.node, Definition("declared", target.node))
            else:
                self._assign(target, "value", o.rvalue)

    def _augmented(self, o: OperatorAssignmentStmt) -> None:
        self._visit(o.rvalue)
        self._visit(o.lvalue)
        if isinstance(o.lvalue, NameExpr) and isinstance(o.lvalue.node, Var):
            before = self._known.get(o.lvalue.node)
            self._define(o.lvalue.node, Definition("augmented", o.lvalue.node, before=before))

    def _walrus(self, o: AssignmentExpr) -> None:
        self._visit(o.value)
        self._forget([o.target])  # it may stand where it does not always run

    def _delete(self, o: DelStmt) -> None:
        self._forget([o.expr])

    def _if(self, o: IfStmt) -> None:
        ends: list[_Known] = []
        for test, body in zip(o.expr, o.body, strict=True):
            self._visit(test)
            ends.extend(self._branch([body]))
        ends.extend(self._branch([o.else_body]))
        self._meet(ends)

    def _while(self, o: WhileStmt) -> None:
        self._loop(o, None, o.expr, o.body, o.else_body)

    def _for(self, o: ForStmt) -> None:
        self._visit(o.expr)
        self._loop(o, o.index, o.expr, o.body, o.else_body)

    def _try(self, o: TryStmt) -> None:
        before = dict(self._known)
        self._visit(o.body)
        self._visit(o.else_body)
        self._known, self._alive = before, True
        self._forget(assigned(o))
        for handler in (*o.handlers, o.finally_body):
            self._branch([handler])

    def _with(self, o: WithStmt) -> None:
        for context, target in zip(o.expr, o.target, strict=True):
            self._visit(context)
            self._forget([] if target is None else [target])
        self._visit(o.body)

    def _match(self, o: MatchStmt) -> None:
        self._visit(o.subject)
        self.compared |= read(o.subject)
        self._forget(assigned(o))
        for pattern, guard, body in zip(o.patterns, o.guards, o.bodies, strict=True):
            self._branch([pattern, guard, body])

    def _generator(self, o: GeneratorExpr) -> None:
        self._comprehend(o.indices, o.sequences, o.condlists, [o.left_expr])

    def _dictionary(self, o: DictionaryComprehension) -> None:
        self._comprehend(o.indices, o.sequences, o.condlists, [o.key, o.value])

    def _leave(self, o: Node) -> None:
        """return, raise, break, continue"""
        for part in parts(o):
            self._visit(part)
        self._alive = False

    def _call(self, o: CallExpr) -> None:
        for part in parts(o):
            self._visit(part)
        if isinstance(o.callee, MemberExpr) and o.callee.name in _RESHAPES:
            self._known = dict.fromkeys(self._known)  # any name may be another for the same tensor
            self.only = dict.fromkeys(self.only)

    def _comparison(self, o: ComparisonExpr) -> None:
        for operand in o.operands:
            self._visit(operand)
        divides = isinstance(o.operands[0], OpExpr) and o.operands[0].op == "%"
        zero = isinstance(o.operands[-1], IntExpr) and o.operands[-1].value == 0
        if any(operator in ("==", "!=", "in", "not in") for operator in o.operators) and not divides and not zero:
            self.compared.update(*map(read, o.operands))

    def _skip(self, o: Node) -> None:
        """A function within, whose names are its own; a class within, whose names are attributes."""

    def _define(self, var: Var, definition: Definition | None) -> None:
        self.only[var] = None if var in self.only else definition
        self._known[var] = definition

    def _assign(
        self, target: Expression, kind: Literal["value", "item"], value: Expression, path: tuple[int, ...] = ()
    ) -> None:
        if isinstance(target, NameExpr):
            if isinstance(target.node, Var):
                self._define(target.node, Definition(kind, target.node, value, path))
        elif isinstance(target, TupleExpr | ListExpr):
            if any(isinstance(item, StarExpr) for item in target.items):
                self._forget([target])
                return
            for index, item in enumerate(target.items):
                self._assign(item, kind, value, (*path, index))
        else:
            self._visit(target)

    def _forget(self, targets: Sequence[Expression | Var]) -> None:
        for target in targets:
            if isinstance(target, Var):
                self._define(target, None)
            else:
                self._forget(variables(target))

    def _branch(self, path: Sequence[Node | None]) -> list[_Known]:
        """Walk one of several ways; what is known at its end, if it has one. The state is then that of its start."""
        before, alive = dict(self._known), self._alive
        for part in path:
            self._visit(part)
        end = [self._known] if self._alive else []
        self._known, self._alive = before, alive
        return end

    def _meet(self, ends: list[_Known]) -> None:
        """Go on where several ways meet."""
        self._alive = self._alive and bool(ends)
        if ends:
            first, *others = ends
            self._known = {
                var: definition if all(other.get(var) is definition for other in others) else None
                for var, definition in first.items()
            }

    def _loop(
        self, loop: Statement, index: Expression | None, test: Expression, body: Block, otherwise: Block | None
    ) -> None:
        self._forget(assigned(loop))
        if index is None:
            self._visit(test)
        before = dict(self._known)
        if index is not None:
            self._assign(index, "item", test)
        self._visit(body)
        self._known, self._alive = before, True
        self._visit(otherwise)
        self._alive = True

    def _comprehend(
        self,
        indices: Sequence[Expression],
        sequences: Sequence[Expression],
        conditions: Sequence[Sequence[Expression]],
        results: Sequence[Expression | None],
    ) -> None:
        for index, sequence, tests in zip(indices, sequences, conditions, strict=True):
            self._visit(sequence)
            self._assign(index, "item", sequence)
            for test in tests:
                self._visit(test)
        for result in results:
            self._visit(result)


_HANDLERS: Final[dict[type, Callable[[Reach, Any], None]]] = {
    NameExpr: Reach._name,
    AssignmentStmt: Reach._assignment,
    OperatorAssignmentStmt: Reach._augmented,
    AssignmentExpr: Reach._walrus,
    DelStmt: Reach._delete,
    IfStmt: Reach._if,
    WhileStmt: Reach._while,
    ForStmt: Reach._for,
    TryStmt: Reach._try,
    WithStmt: Reach._with,
    MatchStmt: Reach._match,
    GeneratorExpr: Reach._generator,
    DictionaryComprehension: Reach._dictionary,
    ReturnStmt: Reach._leave,
    RaiseStmt: Reach._leave,
    BreakStmt: Reach._leave,
    ContinueStmt: Reach._leave,
    CallExpr: Reach._call,
    ComparisonExpr: Reach._comparison,
    FuncDef: Reach._skip,
    LambdaExpr: Reach._skip,
    ClassDef: Reach._skip,
}
