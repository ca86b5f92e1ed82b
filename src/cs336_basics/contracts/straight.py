"""From annotations to straight-line Python that accepts right calls quickly, and does nothing else.

The source for `linear` begins (`again` asks the authority, which alone refuses):

    def checked(x=absent, weight=absent, /, *extra, **unknown):
        if extra or unknown:
            return rebind((x, weight, *extra), {**unknown})
        if not isinstance(x, type_0) or x.dtype not in dtypes_0:
            return again((x, weight), {})
        s0 = x.shape
        if len(s0) < 1:
            return again((x, weight), {})
        n_batch = len(s0) - 1
        a_d_in = s0[-1]
        ...
"""

import inspect
from dataclasses import dataclass
from typing import Any

from cs336_basics.contracts.lines import ShapeWriter, TooRichError
from cs336_basics.contracts.quick import quick_test
from cs336_basics.contracts.shapes import Anything, Named, Shape, Variadic
from cs336_basics.contracts.signature import (
    ManySpec,
    Parameter,
    PlainSpec,
    Signature,
    Spec,
    StructSpec,
    TensorSpec,
    TupleSpec,
    UnionSpec,
    tensors,
)


def write(signature: Signature, namespace: dict[str, Any]) -> str:
    """The source of `checked`, the checked twin of a function; what it refers to is put into `namespace`.

    `namespace` must already hold `function`, `absent`, `again`, `rebind`, `judged`, `outside` and `plain`.

    Raises: TooRichError.
    """
    writer = _Writer(namespace=namespace, signature=signature)
    writer.function()
    return "\n".join(writer.lines) + "\n"


@dataclass(kw_only=True)
class _Writer(ShapeWriter):
    signature: Signature

    def function(self) -> None:
        positional, call_args, call_kwargs = self._head()
        self.depth = 1
        args = f"({''.join(f'{arg}, ' for arg in call_args)})"
        kwargs = "{" + ", ".join(call_kwargs) + "}"
        self.fail = f"return again({args}, {kwargs})"
        extra = [name for name in ("extra", "unknown") if f"{name}_" in positional]
        if extra:
            more = "*extra_, " if "extra_" in positional else ""
            rest = ["**unknown_"] if "unknown_" in positional else []
            self.line(f"if {' or '.join(f'{name}_' for name in extra)}:")
            self.line(f"    return rebind({args[:-1]}{more}), {{{', '.join([*call_kwargs, *rest])}}})")
        self._sizes()
        for parameter in sorted(self.signature.parameters, key=lambda p: p.name not in self.signature.sizes):
            self._parameter(parameter)
        call = ", ".join([*call_args, *(_as_keyword(item) for item in call_kwargs)])
        self.line(f"y = function({call})")
        self.fail = f"return judged({args}, {kwargs}, y)"
        self._check("y", self.signature.result)
        self.line("return y")

    def _head(self) -> tuple[set[str], list[str], list[str]]:
        """Write the `def` line; return its own extra names, and how the function is called with what came."""
        P = inspect.Parameter
        parts: list[str] = []
        args: list[str] = []
        kwargs: list[str] = []
        kinds = {parameter.kind for parameter in self.signature.parameters}
        own: set[str] = set()
        before = [p for p in self.signature.parameters if p.kind in (P.POSITIONAL_ONLY, P.POSITIONAL_OR_KEYWORD)]
        for parameter in before:
            parts.append(f"{parameter.name}={self._default(parameter)}")
            args.append(parameter.name)
        if before:
            parts.append("/")
        for parameter in self.signature.parameters:
            if parameter.kind is P.VAR_POSITIONAL:
                parts.append(f"*{parameter.name}")
                args.append(f"*{parameter.name}")
        if P.VAR_POSITIONAL not in kinds:
            parts.append("*extra_")
            own.add("extra_")
        for parameter in self.signature.parameters:
            if parameter.kind is P.KEYWORD_ONLY:
                parts.append(f"{parameter.name}={self._default(parameter)}")
                kwargs.append(f"'{parameter.name}': {parameter.name}")
            elif parameter.kind is P.VAR_KEYWORD:
                parts.append(f"**{parameter.name}")
                kwargs.append(f"**{parameter.name}")
        if P.VAR_KEYWORD not in kinds:
            parts.append("**unknown_")
            own.add("unknown_")
        elif before:
            # A tensor given by name would hide among them; the authority's binding sorts it out.
            raise TooRichError
        self.line(f"def checked({', '.join(parts)}):")
        return own, args, kwargs

    def _default(self, parameter: Parameter) -> str:
        if parameter.default is inspect.Parameter.empty:
            return "absent"
        return self.refer("default", parameter.default)

    def _sizes(self) -> None:
        """Names start unbound; an int parameter named like an axis binds it at once."""
        specs = [self.signature.result, *(parameter.spec for parameter in self.signature.parameters)]
        names = dict.fromkeys(name for spec in specs for tensor in tensors(spec) for name in tensor.shape.names())
        wide = {
            axis.name for spec in specs for t in tensors(spec) for axis in t.shape.axes if isinstance(axis, Variadic)
        }
        if any(not (name.isidentifier() and name.isascii()) for name in (*names, *wide)):
            raise TooRichError
        for name in self.signature.sizes:
            self.line(f"a_{name} = {name}")
            parameter = next(p for p in self.signature.parameters if p.name == name)
            exact = isinstance(parameter.spec, PlainSpec) and parameter.spec.hint is int
            (self.certain if exact else self.maybe).add(name)
        for name in self._bound_in_branches() - self.certain - self.maybe:
            self.line(f"a_{name} = None")
            self.maybe.add(name)

    def _bound_in_branches(self) -> set[str]:
        """Single names that a choice or a loop is the first to bind."""
        specs = [parameter.spec for parameter in self.signature.parameters] + [self.signature.result]
        sure: set[str] = set(self.signature.sizes)
        found: set[str] = set()
        for spec in specs:
            inside = {name for part in _branches(spec) for tensor in tensors(part) for name in tensor.shape.names()}
            found |= inside - sure
            for tensor in _unconditional(spec):
                sure |= {a.name for a in tensor.shape.axes if isinstance(a, Named) and not a.broadcast}
                found |= {a.name for a in tensor.shape.axes if isinstance(a, Named) and a.broadcast} - sure
        return found

    def _parameter(self, parameter: Parameter) -> None:
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            if list(tensors(parameter.spec)):
                self._loop(parameter.name, parameter.spec)
            elif parameter.spec != PlainSpec(Any):
                raise TooRichError
            return
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            if parameter.spec != PlainSpec(Any):
                raise TooRichError
            return
        has_default = parameter.default is not inspect.Parameter.empty
        if parameter.spec == PlainSpec(Any) and not has_default:
            self.fail_if(f"{parameter.name} is absent")
        self._check(parameter.name, parameter.spec, default=parameter.default if has_default else None)

    def _check(self, var: str, spec: Spec, *, default: object = None) -> None:
        """Go on if the value in `var` fits."""
        spec = _merged(spec)
        if isinstance(spec, TensorSpec):
            self._tensor(var, spec)
        elif isinstance(spec, UnionSpec):
            option = _optional(spec)
            self.line(f"if {var} is not None:")
            self.depth += 1
            self._branch(var, option)
            self.depth -= 1
        elif isinstance(spec, TupleSpec):
            self.fail_if(f"type({var}) is not tuple or len({var}) != {len(spec.items)}")
            for index, item in enumerate(spec.items):
                part = self.new("t")
                self.line(f"{part} = {var}[{index}]")
                self._check(part, item)
        elif isinstance(spec, StructSpec):
            self.fail_if(f"not isinstance({var}, {self.refer('type', spec.hint)})")
            for name, item in spec.fields.items():
                part = self.new("t")
                self.line(f"{part} = {var}.{name}")
                self._check(part, item)
        elif isinstance(spec, ManySpec) and list(tensors(spec)):
            self.fail_if(f"type({var}) is not {_exact(spec.origin)}")
            self._loop(var, spec.item)
        elif isinstance(spec, PlainSpec | ManySpec) and not list(tensors(spec)):
            test = quick_test(var, spec, default, self.refer)
            if test:
                self.fail_if(f"not ({test})")
        else:
            raise TooRichError

    def _loop(self, var: str, item: Spec) -> None:
        part = self.new("i")
        self.line(f"for {part} in {var}:")
        self.depth += 1
        self._branch(part, item)
        self.depth -= 1

    def _branch(self, var: str, spec: Spec) -> None:
        """A check that may not be reached: what it binds is not certain afterwards."""
        certain, spans, seen = set(self.certain), dict(self.spans), dict(self.seen)
        if any(isinstance(a, Variadic) and a.name not in spans for t in tensors(spec) for a in t.shape.axes):
            raise TooRichError
        self._check(var, spec)
        self.maybe |= self.certain - certain
        self.certain, self.spans, self.seen = certain, spans, seen

    def _tensor(self, var: str, spec: TensorSpec) -> None:
        import torch

        if not (isinstance(spec.array_type, type) and issubclass(spec.array_type, torch.Tensor)):
            raise TooRichError
        test = f"not isinstance({var}, {self.refer('type', spec.array_type)})"
        if spec.dtypes is not None:
            known = frozenset(getattr(torch, name) for name in spec.dtypes if hasattr(torch, name))
            name = next((n for n, v in self.namespace.items() if n.startswith("dtypes_") and v == known), None)
            test += f" or {var}.dtype not in {name or self.refer('dtypes', known)}"
        self.fail_if(test)
        if not spec.shape.axes:
            self.fail_if(f"{var}.ndim")
            return
        if spec.shape == _any_shape():
            return
        shape = self.new("s")
        self.line(f"{shape} = {var}.shape")
        twin = self.seen.get(spec.shape.text)
        if twin is not None:
            self.fail_if(f"{shape} != {twin}")
            return
        self.shape(shape, spec.shape)
        if not any(getattr(axis, "broadcast", False) or isinstance(axis, Anything) for axis in spec.shape.axes):
            self.seen[spec.shape.text] = shape


def _any_shape() -> Shape:
    """The shape `...`, which needs no look."""
    return Shape("...", (Anything(variadic=True),))


def _as_keyword(item: str) -> str:
    """`'eps': eps` of a dict display as `eps=eps` of a call."""
    return item if item.startswith("**") else "{0}={0}".format(item.split(": ")[1])


def _exact(origin: type) -> str:
    if origin is list or origin is tuple:
        return origin.__name__
    raise TooRichError


def _merged(spec: Spec) -> Spec:
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


def _optional(spec: UnionSpec) -> Spec:
    """The one choice beside None."""
    options = [option for option in spec.options if option != PlainSpec(type(None))]
    if len(options) != 1 or len(options) == len(spec.options):
        raise TooRichError
    return options[0]


def _branches(spec: Spec) -> list[Spec]:
    """The parts of an annotation that a value may not have."""
    spec = _merged(spec)
    if isinstance(spec, UnionSpec | ManySpec):
        return [spec]
    inside = spec.items if isinstance(spec, TupleSpec) else spec.fields.values() if isinstance(spec, StructSpec) else ()
    return [branch for part in inside for branch in _branches(part)]


def _unconditional(spec: Spec) -> list[TensorSpec]:
    spec = _merged(spec)
    if isinstance(spec, TensorSpec):
        return [spec]
    inside = spec.items if isinstance(spec, TupleSpec) else spec.fields.values() if isinstance(spec, StructSpec) else ()
    return [tensor for part in inside for tensor in _unconditional(part)]
