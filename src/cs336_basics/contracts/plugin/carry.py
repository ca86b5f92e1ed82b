"""The text of a shape carried by mypy's plain `Tensor` type, into its cache and back.

jaxtyping's names are `typing.Annotated` to mypy, which forgets what is in them. The plugin keeps it on the type, in
`extra_attrs`, where mypy keeps what it knows of one value beyond its class: it is written to the cache, ignored where
types are compared, and dropped where types with different shapes are joined.
"""

from typing import Final

from mypy.nodes import (
    AssignmentStmt,
    Context,
    Expression,
    IndexExpr,
    MemberExpr,
    MypyFile,
    NameExpr,
    StrExpr,
    TupleExpr,
    TypeAlias,
    TypeInfo,
    Var,
)
from mypy.types import (
    ExtraAttrs,
    Instance,
    NoneType,
    RawExpressionType,
    TupleType,
    Type,
    TypeAliasType,
    UnboundType,
    UnionType,
    get_proper_type,
)

from cs336_basics.contracts.errors import ContractError
from cs336_basics.contracts.plugin.values import KINDS, Form, ManyForm, StructForm, TensorForm, TupleForm
from cs336_basics.contracts.shapes import parse_shape

_MARK: Final = "jaxtyping: "

_CONTAINERS: Final = frozenset(
    {
        *("builtins.list", "builtins.tuple", "builtins.set", "builtins.frozenset", "collections.deque"),
        *("typing.Sequence", "typing.MutableSequence", "typing.Collection", "typing.Iterable", "typing.Iterator"),
    }
)

_DEEPEST: Final = 4  # structures within structures that are looked into: a type may hold itself


class Carried:
    """The shapes on the types of one run of mypy.

    Where mypy joins two shapes it takes the mark off the first type itself, not off a copy, and that may be the
    type in a signature. So the types marked in this run are remembered, and marked again before they are cached.
    """

    def __init__(self) -> None:
        self._marked: dict[int, tuple[Instance, ExtraAttrs]] = {}
        self._noted: dict[MypyFile, dict[str, str]] = {}

    def analyze(self, annotation: UnboundType, unmarked: Type) -> Type:
        """The type of `Float[Tensor, "..."]`, with a mark that says so; that of any other Annotated, as it is."""
        dtype, instance = annotation.name.rpartition(".")[2], get_proper_type(unmarked)
        if dtype not in KINDS or len(annotation.args) != 2 or not isinstance(instance, Instance):
            return unmarked
        text = _text(annotation.args[1])
        # In Float[Float[Tensor, "a"], "b"] the axes of both would count: no shape is known of it.
        nested = self._mark(instance) is not None
        return self._marking(instance, None if text is None or nested else ExtraAttrs({}, {f"{_MARK}{dtype} {text}"}))

    def _marking(self, instance: Instance, attrs: ExtraAttrs | None) -> Instance:
        marked = instance.copy_modified()
        marked.extra_attrs = attrs
        if attrs is not None:
            self._marked[id(marked)] = (marked, attrs)
        return marked

    def alias(self, node: TypeAlias, module: MypyFile, place: Context) -> Instance | None:
        """The marked type that `Vector = Float[Tensor, "d"]` stands for; None for any other alias.

        mypy drops what is in Float[...] as it reads it here, so it is put on again from the module's code: on a copy,
        for mypy reads a module's aliases until none of them changes, and a mark put on one would be a change.
        """
        if not isinstance(node.target, Instance) or not node.no_args:
            return None
        attrs = self._attrs(node.target) if self._mark(node.target) is not None else None
        if attrs is None and (mark := self._aliases(module).get(node.name)) is not None:
            attrs = ExtraAttrs({}, {_MARK + mark})
        if attrs is None:
            return None
        copied = self._marking(node.target, attrs)
        copied.set_line(place)
        return copied

    def _aliases(self, module: MypyFile) -> dict[str, str]:
        """The marks of the aliases at the top of a module, which has no code where it comes from the cache."""
        if module.defs and module not in self._noted:
            self._noted[module] = {
                target.name: mark
                for statement in module.defs
                if isinstance(statement, AssignmentStmt) and (mark := written_mark(statement.rvalue)) is not None
                for target in statement.lvalues
                if isinstance(target, NameExpr)
            }
        return self._noted.get(module, {})

    def restore(self, module: MypyFile) -> None:
        """Put back every mark that mypy took off, and those of a module's aliases, before they are cached."""
        for instance, mark in self._marked.values():
            instance.extra_attrs = mark
        for name in self._aliases(module):
            node = module.names[name].node
            if isinstance(node, TypeAlias) and (marked := self.alias(node, module, node)) is not None:
                node.target = marked

    def form(self, declared: Type | None, depth: int = 0) -> Form | None:
        """What a declared type says of shapes; None where it says nothing, or more than one thing."""
        if isinstance(declared, TypeAliasType) and declared.is_recursive:
            return None  # it has no end to look for
        proper = get_proper_type(declared)
        if isinstance(proper, Instance):
            return self._of_instance(proper, depth)
        if isinstance(proper, TupleType):
            if (fallback := proper.partial_fallback.type).is_named_tuple:
                return self._struct(fallback, depth)
            items = tuple(self.form(item, depth) for item in proper.items)
            return TupleForm(items) if any(items) else None
        if isinstance(proper, UnionType):
            options = [t for t in proper.items if not isinstance(get_proper_type(t), NoneType)]
            return _one([self.form(option, depth) for option in options])
        return None

    def _of_instance(self, instance: Instance, depth: int) -> Form | None:
        mark = self._mark(instance)
        if mark is not None:
            return marked_form(mark, instance.type.name)
        if instance.type.fullname in _CONTAINERS and len(instance.args) == 1:
            item = self.form(instance.args[0], depth)
            return None if item is None else ManyForm(item)
        if "dataclass" in instance.type.metadata or instance.type.is_named_tuple:
            return self._struct(instance.type, depth)
        return None

    def _mark(self, instance: Instance) -> str | None:
        attrs = self._attrs(instance)
        texts = attrs.immutable if attrs is not None else ()
        return next((text.removeprefix(_MARK) for text in texts if text.startswith(_MARK)), None)

    def _attrs(self, instance: Instance) -> ExtraAttrs | None:
        known = self._marked.get(id(instance))
        if known is None and instance.extra_attrs is not None:  # from the cache: mypy may take this mark off too
            known = self._marked[id(instance)] = (instance, instance.extra_attrs)
        return None if known is None else known[1]

    def _struct(self, info: TypeInfo, depth: int) -> StructForm | None:
        if depth >= _DEEPEST:
            return None
        fields = {
            name: self.form(symbol.node.type, depth + 1)
            for base in reversed(info.mro)
            if base.is_named_tuple or "dataclass" in base.metadata
            for name, symbol in base.names.items()
            if not name.startswith("__") and isinstance(symbol.node, Var) and not symbol.node.is_classvar
        }
        if info.is_named_tuple:
            fields = {name: fields.get(name) for name in info.metadata.get("namedtuple", {}).get("fields", fields)}
        return StructForm(tuple(fields.items())) if any(fields.values()) else None


def written_mark(expression: Expression) -> str | None:
    """The mark of `Float[Tensor, "..."]` where it is an expression, of which mypy's type keeps nothing."""
    if not isinstance(expression, IndexExpr) or not isinstance(expression.base, NameExpr | MemberExpr):
        return None
    index = expression.index
    if expression.base.name not in KINDS or not isinstance(index, TupleExpr) or len(index.items) != 2:
        return None
    tensor, text = index.items
    plain_tensor = isinstance(tensor, NameExpr | MemberExpr)
    return f"{expression.base.name} {text.value}" if plain_tensor and isinstance(text, StrExpr) else None


def marked_form(mark: str, array: str) -> TensorForm | None:
    """What a mark says; None where its shape cannot be read, which `contract` refuses with its place in the text."""
    dtype, _, text = mark.partition(" ")
    try:
        return TensorForm(dtype, array, parse_shape(text))
    except ContractError:
        return None


def _text(argument: Type) -> str | None:
    """The string in an annotation, which mypy may have read as a type."""
    if isinstance(argument, RawExpressionType) and isinstance(argument.literal_value, str):
        return argument.literal_value
    return argument.original_str_expr if isinstance(argument, UnboundType) else None


def _one(options: list[Form | None]) -> Form | None:
    """The one thing that all members of a union say."""
    first, *others = options or [None]
    if not others:
        return first
    tensors = [option for option in options if isinstance(option, TensorForm)]
    if len(tensors) < len(options) or len({tensor.shape for tensor in tensors}) > 1:
        return None
    same_kind = len({KINDS[tensor.dtype] for tensor in tensors}) == 1
    return TensorForm(tensors[0].dtype if same_kind else "Shaped", tensors[0].array, tensors[0].shape)
