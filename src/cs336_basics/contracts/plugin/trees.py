"""A walk over mypy's syntax trees, whose own visitors are compiled and cannot be extended, and what it finds."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from mypy.nodes import (
    AssignmentExpr,
    AssignmentStmt,
    DelStmt,
    Expression,
    ForStmt,
    FuncDef,
    LambdaExpr,
    ListExpr,
    MemberExpr,
    NameExpr,
    Node,
    OperatorAssignmentStmt,
    StarExpr,
    Statement,
    TryStmt,
    TupleExpr,
    Var,
    WithStmt,
)
from mypy.patterns import AsPattern, MappingPattern, StarredPattern

_PARTS: Final[dict[str, tuple[str, ...]]] = {
    # expressions
    "AssertTypeExpr": ("expr",),
    "AssignmentExpr": ("value", "target"),
    "AwaitExpr": ("expr",),
    "CallExpr": ("callee", "args"),
    "CastExpr": ("expr",),
    "ComparisonExpr": ("operands",),
    "ConditionalExpr": ("cond", "if_expr", "else_expr"),
    "DictExpr": ("items",),
    "DictionaryComprehension": ("sequences", "indices", "condlists", "key", "value"),
    "GeneratorExpr": ("sequences", "indices", "condlists", "left_expr"),
    "IndexExpr": ("base", "index"),
    "LambdaExpr": ("body",),
    "ListComprehension": ("generator",),
    "ListExpr": ("items",),
    "MemberExpr": ("expr",),
    "OpExpr": ("left", "right"),
    "RevealExpr": ("expr",),
    "SetComprehension": ("generator",),
    "SetExpr": ("items",),
    "SliceExpr": ("begin_index", "end_index", "stride"),
    "StarExpr": ("expr",),
    "SuperExpr": ("call",),
    "TupleExpr": ("items",),
    "UnaryExpr": ("expr",),
    "YieldExpr": ("expr",),
    "YieldFromExpr": ("expr",),
    # statements
    "AssertStmt": ("expr", "msg"),
    "AssignmentStmt": ("rvalue", "lvalues"),
    "Block": ("body",),
    "ClassDef": ("defs",),
    "Decorator": ("decorators", "func"),
    "DelStmt": ("expr",),
    "ExpressionStmt": ("expr",),
    "ForStmt": ("expr", "index", "body", "else_body"),
    "FuncDef": ("body",),
    "IfStmt": ("expr", "body", "else_body"),
    "MatchStmt": ("subject", "patterns", "guards", "bodies"),
    "OperatorAssignmentStmt": ("rvalue", "lvalue"),
    "OverloadedFuncDef": ("items", "impl"),
    "RaiseStmt": ("expr", "from_expr"),
    "ReturnStmt": ("expr",),
    "TryStmt": ("body", "types", "vars", "handlers", "else_body", "finally_body"),
    "WhileStmt": ("expr", "body", "else_body"),
    "WithStmt": ("expr", "target", "body"),
    # patterns
    "AsPattern": ("pattern", "name"),
    "ClassPattern": ("class_ref", "positionals", "keyword_values"),
    "MappingPattern": ("keys", "values", "rest"),
    "OrPattern": ("patterns",),
    "SequencePattern": ("patterns",),
    "StarredPattern": ("capture",),
    "ValuePattern": ("expr",),
}
"""The parts of each kind of node, in the order in which they run."""

_SIZES: Final = frozenset({"shape", "ndim", "size", "dim", "numel"})

_FUNCTIONS: Final = (FuncDef, LambdaExpr)


def parts(node: Node) -> Iterator[Node]:
    """The nodes directly inside one."""
    for name in _PARTS.get(type(node).__name__, ()):
        yield from _nodes(getattr(node, name))


def inside(node: Node, *, functions: bool = False) -> Iterator[Node]:
    """A node and all inside it; functions within it only where asked for."""
    yield node
    for part in parts(node):
        if functions or not isinstance(part, _FUNCTIONS):
            yield from inside(part, functions=functions)


def assigned(statement: Statement) -> list[Var]:
    """The variables that a statement may assign, functions within it left out."""
    return [var for node in inside(statement) for target in _targets(node) for var in variables(target)]


def assigned_within_functions(body: Iterable[Statement]) -> list[Var]:
    """The variables that the functions within some code may assign: by nonlocal, those of the code are among them."""
    nodes = (node for statement in body for node in inside(statement, functions=True))
    functions = [node for node in nodes if isinstance(node, FuncDef)]
    return [
        var
        for function in functions
        for node in inside(function, functions=True)
        for target in _targets(node)
        for var in variables(target)
    ]


def read(expression: Expression) -> set[str]:
    """The names that an expression reads, and "" where it reads the shape or size of something."""
    nodes = list(inside(expression))
    sizes = {"" for node in nodes if isinstance(node, MemberExpr) and node.name in _SIZES}
    return sizes | {node.name for node in nodes if isinstance(node, NameExpr)}


def variables(target: Expression) -> list[Var]:
    """The variables in a target of an assignment; `x` in `x[0]` is none of them."""
    if isinstance(target, NameExpr):
        return [target.node] if isinstance(target.node, Var) else []
    if isinstance(target, StarExpr):
        return variables(target.expr)
    return [var for item in target.items for var in variables(item)] if isinstance(target, TupleExpr | ListExpr) else []


def _targets(node: Node) -> Sequence[Expression]:
    targets: Sequence[Expression | None] = ()
    if isinstance(node, AssignmentStmt):
        targets = node.lvalues
    elif isinstance(node, OperatorAssignmentStmt):
        targets = [node.lvalue]
    elif isinstance(node, AssignmentExpr):
        targets = [node.target]
    elif isinstance(node, ForStmt):
        targets = [node.index]
    elif isinstance(node, WithStmt):
        targets = node.target
    elif isinstance(node, TryStmt):
        targets = node.vars
    elif isinstance(node, DelStmt):
        targets = [node.expr]
    elif isinstance(node, AsPattern):
        targets = [node.name]
    elif isinstance(node, StarredPattern):
        targets = [node.capture]
    elif isinstance(node, MappingPattern):
        targets = [node.rest]
    return [target for target in targets if target is not None]


def _nodes(value: object) -> Iterator[Node]:
    if isinstance(value, Node):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _nodes(item)
