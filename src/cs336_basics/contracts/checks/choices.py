"""Choices in annotations, as the straight line sees them."""

from collections.abc import Iterator

from cs336_basics.contracts.checks.lines import TooRichError
from cs336_basics.contracts.signature import ManySpec, PlainSpec, Spec, TensorSpec, UnionSpec, parts


def merged(spec: Spec) -> Spec:
    """Tensors that differ in their dtypes alone are one tensor with the dtypes of all."""
    if not isinstance(spec, UnionSpec):
        return spec
    options = [option for option in spec.options if isinstance(option, TensorSpec)]
    others = [option for option in spec.options if not isinstance(option, TensorSpec)]
    if len(options) < 2 or len({(option.shape.text, option.array_type) for option in options}) > 1:
        return spec
    names = [option.dtypes for option in options]
    dtypes = None if None in names else tuple(name for part in names if part is not None for name in part)
    merged = TensorSpec(spec.hint, options[0].array_type, dtypes, options[0].shape)
    return UnionSpec(spec.hint, (merged, *others)) if others else merged


def is_optional(spec: UnionSpec) -> bool:
    """Whether there is one choice beside None."""
    return len(spec.options) == 2 and PlainSpec(type(None)) in spec.options


def optional(spec: UnionSpec) -> Spec:
    """The one choice beside None."""
    if not is_optional(spec):
        raise TooRichError
    return next(option for option in spec.options if option != PlainSpec(type(None)))


def reached(spec: Spec, conditional: bool = False) -> Iterator[tuple[TensorSpec, bool]]:
    """Every tensor of an annotation, and whether a value may lack it."""
    spec = merged(spec)
    if isinstance(spec, TensorSpec):
        yield spec, conditional
    for part in parts(spec):
        yield from reached(part, conditional or isinstance(spec, UnionSpec | ManySpec))
