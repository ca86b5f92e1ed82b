"""Arguments for one call of a function of the corpus, at chosen sizes: what a plain test would pass."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch

from cs336_basics.contracts.shapes import Anything, Axis, Expression, Fixed, Variadic
from cs336_basics.contracts.signature import (
    Parameter,
    PlainSpec,
    Spec,
    StructSpec,
    TensorSpec,
    TupleSpec,
    UnionSpec,
    read_signature,
)

NAMES: Final = (
    *("kv_heads", "groups", "half", "heads", "cached", "seq", "queries", "keys", "d_k", "d_v", "d_model", "d_ff"),
    *("d_in", "d_out", "vocab", "experts", "n", "width", "positions", "rows", "cols", "low_rank", "part"),
)
# One size for each axis name, no two the same and none 1.
GENERIC: Final[Mapping[str, int]] = {name: size for size, name in enumerate(NAMES, start=3)}
EQUAL: Final[Mapping[str, int]] = dict.fromkeys(NAMES, 4)
EQUAL_BATCH: Final = (4,)
PLAIN: Final[Mapping[Any, Any]] = {int: 1, float: 0.5, bool: False, torch.Generator: torch.Generator()}


@dataclass(frozen=True)
class Call:
    """One call, ready to be made."""

    args: list[Any]
    kwargs: dict[str, Any]


def calls(function: Any, *, batch: tuple[int, ...], sizes: Mapping[str, int]) -> Iterator[Call]:
    """A call with every optional tensor absent, and, where there is one, a call with all of them present.

    Axes take `sizes`, the others GENERIC; floats are normal, whole numbers are 0, masks are half true.
    """
    signature = read_signature(function)
    optional = any(_is_optional(parameter.spec) for parameter in signature.parameters)
    for present in (False, True) if optional else (True,):
        maker = _Maker(batch, {**GENERIC, **sizes}, present)
        values = {p.name: maker.argument(p, is_size=p.name in signature.sizes) for p in signature.parameters}
        by_name = {p.name: values.pop(p.name) for p in signature.parameters if p.kind is p.kind.KEYWORD_ONLY}
        yield Call(list(values.values()), by_name)


def _is_optional(spec: Spec) -> bool:
    return isinstance(spec, UnionSpec) and any(option.hint is type(None) for option in spec.options)


class _Maker:
    """Makes values for annotations, at one set of sizes."""

    def __init__(self, batch: tuple[int, ...], sizes: Mapping[str, int], present: bool) -> None:
        self.batch, self.sizes, self.present = batch, sizes, present
        self.generator = torch.Generator().manual_seed(0)

    def argument(self, parameter: Parameter, *, is_size: bool) -> Any:
        if _is_optional(parameter.spec) and not self.present:
            return None
        if not isinstance(parameter.spec, PlainSpec):
            return self.value(parameter.spec)
        if parameter.default is not inspect.Parameter.empty:
            return parameter.default
        return self.sizes[parameter.name] if is_size else PLAIN[parameter.spec.hint]

    def value(self, spec: Spec) -> Any:
        if isinstance(spec, UnionSpec):
            return self.value(next(option for option in spec.options if not isinstance(option, PlainSpec)))
        if isinstance(spec, TupleSpec):
            return tuple(map(self.value, spec.items))
        if isinstance(spec, StructSpec):
            return spec.hint(**{name: self.value(field) for name, field in spec.fields.items()})
        assert isinstance(spec, TensorSpec), spec
        shape = [size for axis in spec.shape.axes for size in self.axis(axis)]
        dtypes = spec.dtypes or ("float32",)
        if "bool" in dtypes:
            return torch.rand(shape, generator=self.generator) > 0.5
        return torch.randn(shape, generator=self.generator) if "float32" in dtypes else torch.zeros(shape).long()

    def axis(self, axis: Axis) -> tuple[int, ...]:
        if isinstance(axis, Variadic):
            return self.batch
        if isinstance(axis, Expression):
            return (int(eval(axis.text, {}, dict(self.sizes))),)  # noqa: S307  # a formula of our own annotations
        assert not isinstance(axis, Anything), "the corpus names every axis"
        return (axis.size if isinstance(axis, Fixed) else self.sizes[axis.name],)
