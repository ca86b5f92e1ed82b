"""The text of a shape carried by mypy's plain `Tensor` type, into its cache and back.

jaxtyping's names are `typing.Annotated` to mypy, which forgets what is in them. The plugin keeps it on the type, in
`extra_attrs`, where mypy keeps what it knows of one value beyond its class: it is written to the cache, ignored where
types are compared, and dropped where types with different shapes are joined.
"""

from typing import Final

from mypy.nodes import TypeInfo, Var
from mypy.plugin import AnalyzeTypeContext
from mypy.typeanal import TypeAnalyser
from mypy.types import (
    ExtraAttrs,
    Instance,
    NoneType,
    RawExpressionType,
    TupleType,
    Type,
    UnboundType,
    UnionType,
    get_proper_type,
)

from cs336_basics.contracts.errors import ContractError
from cs336_basics.contracts.shapes import parse_shape
from cs336_basics.contracts.values import KINDS, Form, ManyForm, StructForm, TensorForm, TupleForm

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

    def analyze(self, context: AnalyzeTypeContext) -> Type:
        """The type of `Float[Tensor, "..."]`, with a mark that says so; of any other Annotated, what mypy says."""
        annotation = context.type
        unmarked = plain(context)
        dtype, instance = annotation.name.rpartition(".")[2], get_proper_type(unmarked)
        if dtype not in KINDS or len(annotation.args) != 2 or not isinstance(instance, Instance):
            return unmarked
        text = _text(annotation.args[1])
        marked = instance.copy_modified()
        # In Float[Float[Tensor, "a"], "b"] the axes of both would count: no shape is known of it.
        nested = self._mark(instance) is not None
        marked.extra_attrs = None if text is None or nested else ExtraAttrs({}, {f"{_MARK}{dtype} {text}"})
        if marked.extra_attrs is not None:
            self._marked[id(marked)] = (marked, marked.extra_attrs)
        return marked

    def restore(self) -> None:
        """Put back every mark that mypy took off."""
        for instance, mark in self._marked.values():
            instance.extra_attrs = mark

    def form(self, declared: Type | None, depth: int = 0) -> Form | None:
        """What a declared type says of shapes; None where it says nothing, or more than one thing."""
        proper = get_proper_type(declared)
        if isinstance(proper, Instance):
            return self._instance(proper, depth)
        if isinstance(proper, TupleType):
            if (fallback := proper.partial_fallback.type).is_named_tuple:
                return self._struct(fallback, depth)
            items = tuple(self.form(item, depth) for item in proper.items)
            return TupleForm(items) if any(items) else None
        if isinstance(proper, UnionType):
            options = [t for t in proper.items if not isinstance(get_proper_type(t), NoneType)]
            return _one([self.form(option, depth) for option in options])
        return None

    def _instance(self, instance: Instance, depth: int) -> Form | None:
        mark = self._mark(instance)
        if mark is not None:
            dtype, _, text = mark.partition(" ")
            try:
                return TensorForm(dtype, instance.type.name, parse_shape(text))
            except ContractError:  # refused where the function is decorated, with the place in the text
                return None
        if instance.type.fullname in _CONTAINERS and len(instance.args) == 1:
            item = self.form(instance.args[0], depth)
            return None if item is None else ManyForm(item)
        if "dataclass" in instance.type.metadata or instance.type.is_named_tuple:
            return self._struct(instance.type, depth)
        return None

    def _mark(self, instance: Instance) -> str | None:
        known = self._marked.get(id(instance))
        attrs = instance.extra_attrs if known is None or known[0] is not instance else known[1]
        if attrs is None:
            return None
        if known is None:  # from the cache: mypy may take this mark off too
            self._marked[id(instance)] = (instance, attrs)
        return next((text.removeprefix(_MARK) for text in attrs.immutable if text.startswith(_MARK)), None)

    def _struct(self, info: TypeInfo, depth: int) -> StructForm | None:
        if depth >= _DEEPEST:
            return None
        fields = {
            name: self.form(symbol.node.type, depth + 1)
            for base in reversed(info.mro)
            if base.is_named_tuple or "dataclass" in base.metadata
            for name, symbol in base.names.items()
            if isinstance(symbol.node, Var) and not symbol.node.is_property and not symbol.node.is_classvar
        }
        if info.is_named_tuple:
            fields = {name: fields.get(name) for name in info.metadata.get("namedtuple", {}).get("fields", fields)}
        return StructForm(tuple(fields.items())) if any(fields.values()) else None


def plain(context: AnalyzeTypeContext) -> Type:
    """The type of any Annotated, as mypy has it without a plugin."""
    assert isinstance(context.api, TypeAnalyser)
    unmarked = context.api.try_analyze_special_unbound_type(context.type, "typing.Annotated")
    assert unmarked is not None
    return unmarked


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
