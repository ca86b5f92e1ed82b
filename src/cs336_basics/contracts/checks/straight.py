"""From annotations to straight-line Python that accepts right calls quickly, and does nothing else.

The source for `linear` begins (`_again` asks the authority, which alone refuses):

    def checked(x=_absent, weight=_absent, /, *_extra, **_unknown):
        if _extra or _unknown:
            return _rebind((x, weight, *_extra), {**_unknown})
        while True:
            if not _isinstance(x, _type_0) or x.dtype not in _dtypes_1:
                break
            _s2 = x.shape
            if _len(_s2) < 1:
                break
            _n_batch = _len(_s2) - 1
            _a_d_in = _s2[-1]
            ...
            return _function(x, weight)
        return _again((x, weight), {})
"""

import inspect
import sys
from dataclasses import dataclass
from typing import Any

from cs336_basics.contracts.checks.choices import is_optional, merged, optional, reached
from cs336_basics.contracts.checks.lines import ShapeWriter, TooRichError
from cs336_basics.contracts.checks.linked import is_proved
from cs336_basics.contracts.checks.quick import quick_test
from cs336_basics.contracts.shapes import Anything, Named, Variadic
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

_BUILTINS = (all, bytes, callable, float, int, isinstance, len, list, max, min, str, tuple, type)


def write(signature: Signature, namespace: dict[str, Any], held_by: str = "checks") -> str:
    """The source of `checked`, the checked twin of a function; what it refers to is put into `namespace`.

    `namespace` must already hold `_function`, `_absent`, `_again`, `_rebind`, `_judged`, `_outside`, `_plain` and
    `_is_size`. Every name of our own begins with `_`, so that a parameter may be called `len`.

    Raises: TooRichError.
    """
    if any(parameter.name.startswith("_") for parameter in signature.parameters):
        raise TooRichError  # names of our own begin so
    namespace |= {f"_{builtin.__name__}": builtin for builtin in _BUILTINS}
    writer = _Writer(namespace=namespace, signature=signature, held_by=held_by)
    writer.function()
    return "\n".join(writer.lines) + "\n"


@dataclass(kw_only=True)
class _Writer(ShapeWriter):
    signature: Signature
    held_by: str

    def function(self) -> None:
        positional, call_args, call_kwargs = self._head()
        self.depth = 1
        args = f"({''.join(f'{arg}, ' for arg in call_args)})"
        kwargs = "{" + ", ".join(call_kwargs) + "}"
        again = f"return _again({args}, {kwargs})"
        extra = [name for name in ("_extra", "_unknown") if name in positional]
        if extra:
            more = "*_extra, " if "_extra" in positional else ""
            rest = ["**_unknown"] if "_unknown" in positional else []
            self.line(f"if {' or '.join(extra)}:")
            self.line(f"    return _rebind({args[:-1]}{more}), {{{', '.join([*call_kwargs, *rest])}}})")
        self._defaults()
        call = f"_function({', '.join([*call_args, *map(_as_keyword, call_kwargs)])})"
        with self.failing(again):
            self._sizes()
            for parameter in self.signature.in_order:
                self._parameter(parameter)
            if self.held_by == "proof":
                self._bodies()
                self.line(f"return {call}")
                return
            self.line(f"_y = {call}")
            with self.failing(f"return _judged({args}, {kwargs}, _y)"):
                self._check("_y", self.signature.result)
                self.line("return _y")

    def _bodies(self) -> None:
        """A default that is held by proof goes in as its body: the proof ran with it."""
        for parameter in self.signature.parameters:
            if is_proved(parameter.default):
                default = self.refer("default", parameter.default)
                self.namespace[f"_body{default}"] = parameter.default  # until the first call
                self.line(f"if {parameter.name} is {default}:")
                self.line(f"    {parameter.name} = _body{default}")

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
            parts.append(f"{parameter.name}=_absent")  # so that `_rebind` can tell what was given
            args.append(parameter.name)
        if before:
            parts.append("/")
        for parameter in self.signature.parameters:
            if parameter.kind is P.VAR_POSITIONAL:
                parts.append(f"*{parameter.name}")
                args.append(f"*{parameter.name}")
        if P.VAR_POSITIONAL not in kinds:
            parts.append("*_extra")
            own.add("_extra")
        for parameter in self.signature.parameters:
            if parameter.kind is P.KEYWORD_ONLY:
                parts.append(f"{parameter.name}={self._default(parameter)}")
                kwargs.append(f"'{parameter.name}': {parameter.name}")
            elif parameter.kind is P.VAR_KEYWORD:
                parts.append(f"**{parameter.name}")
                kwargs.append(f"**{parameter.name}")
        if P.VAR_KEYWORD not in kinds:
            parts.append("**_unknown")
            own.add("_unknown")
        elif before:
            # A tensor given by name would hide among them; the authority's binding sorts it out.
            raise TooRichError
        self.line(f"def checked({', '.join(parts)}):")
        return own, args, kwargs

    def _defaults(self) -> None:
        for parameter in self.signature.parameters:
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY and self._default(parameter) != "_absent":
                self.line(f"if {parameter.name} is _absent:")
                self.line(f"    {parameter.name} = {self._default(parameter)}")

    def _default(self, parameter: Parameter) -> str:
        if parameter.default is inspect.Parameter.empty:
            return "_absent"
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
            parameter = next(p for p in self.signature.parameters if p.name == name)
            exact = parameter.spec == PlainSpec(int)
            self.line(f"_a_{name} = {name}" + ("" if exact else f" if _is_size({name}) else None"))
            (self.certain if exact else self.maybe).add(name)
        for name in self._bound_in_branches() - self.certain - self.maybe:
            self.line(f"_a_{name} = None")
            self.maybe.add(name)

    def _bound_in_branches(self) -> set[str]:
        """Single names that a choice, a loop or a # may be the first to bind."""
        sure: set[str] = set(self.signature.sizes)
        found: set[str] = set()
        for spec in [*(parameter.spec for parameter in self.signature.in_order), self.signature.result]:
            for tensor, conditional in reached(spec):
                for axis in tensor.shape.axes:
                    names = {axis.name} if isinstance(axis, Named) else set(getattr(axis, "names", ()))
                    if conditional or getattr(axis, "broadcast", False):
                        found |= names - sure
                    else:
                        sure |= names
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
        if isinstance(parameter.spec, PlainSpec) and parameter.spec.hint not in (int, float, str) and not has_default:
            self.fail_if(f"{parameter.name} is _absent")  # which an object, too, would accept
        if parameter.name in self.signature.sizes and parameter.spec == PlainSpec(int):
            # True is an int to beartype, and no size: the authority's to judge.
            self.fail_if(f"_type({parameter.name}) is not _int and not _is_size({parameter.name})")
            return
        self._check(parameter.name, parameter.spec, default=parameter.default if has_default else None)

    def _check(self, var: str, spec: Spec, *, default: object = None) -> None:
        """Go on if the value in `var` fits."""
        spec = merged(spec)
        if isinstance(spec, TensorSpec):
            self._tensor(var, spec)
        elif isinstance(spec, UnionSpec) and not is_optional(spec) and not list(tensors(spec)):
            self.fail_if(f"not _plain({var}, {self.refer('spec', spec)})")
        elif isinstance(spec, UnionSpec):
            option = optional(spec)
            self.line(f"if {var} is not None:")
            self.depth += 1
            self._branch(var, option)
            self.depth -= 1
        elif isinstance(spec, TupleSpec):
            self.fail_if(f"_type({var}) is not _tuple or _len({var}) != {len(spec.items)}")
            for index, item in enumerate(spec.items):
                part = self.new("t")
                self.line(f"{part} = {var}[{index}]")
                self._check(part, item)
        elif isinstance(spec, StructSpec):
            self.fail_if(f"not _isinstance({var}, {self.refer('type', spec.hint)})")
            for name, item in spec.fields.items():
                part = self.new("t")
                self.line(f"{part} = {var}.{name}")
                self._check(part, item)
        elif isinstance(spec, ManySpec) and list(tensors(spec)):
            self.fail_if(f"_type({var}) is not {_exact(spec.origin)}")
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
        fail, self.fail = self.fail, self.exit
        self.depth += 1
        self._branch(part, item)
        self.depth -= 1
        self.fail = fail

    def _branch(self, var: str, spec: Spec) -> None:
        """A check that may not be reached: what it binds is not certain afterwards."""
        certain, spans, seen = set(self.certain), dict(self.spans), dict(self.seen)
        if any(isinstance(a, Variadic) and a.name not in spans for t in tensors(spec) for a in t.shape.axes):
            raise TooRichError
        self._check(var, spec)
        self.maybe |= self.certain - certain
        self.certain, self.spans, self.seen = certain, spans, seen

    def _tensor(self, var: str, spec: TensorSpec) -> None:
        test = f"not _isinstance({var}, {self.refer('type', spec.array_type)})"
        if spec.dtypes is not None:
            known = _dtypes(spec.array_type, spec.dtypes)
            name = next((n for n, v in self.namespace.items() if n.startswith("_dtypes_") and v == known), None)
            test += f" or {var}.dtype not in {name or self.refer('dtypes', known)}"
        self.fail_if(test)
        if not spec.shape.axes:
            self.fail_if(f"{var}.ndim")
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


def _dtypes(array_type: Any, names: tuple[str, ...]) -> frozenset[Any]:
    """The dtypes of those names in torch or in numpy, whichever the arrays belong to; names it lacks are left out."""
    for library, owner in (("torch", "Tensor"), ("numpy", "ndarray")):
        module: Any = sys.modules.get(library)
        if module is not None and isinstance(array_type, type) and issubclass(array_type, getattr(module, owner)):
            found = [getattr(module, name) for name in names if hasattr(module, name)]
            return frozenset(found if library == "torch" else map(module.dtype, found))
    raise TooRichError


def _as_keyword(item: str) -> str:
    """`'eps': eps` of a dict display as `eps=eps` of a call."""
    return item if item.startswith("**") else "{0}={0}".format(item.split(": ")[1])


def _exact(origin: type) -> str:
    if origin is list or origin is tuple:
        return f"_{origin.__name__}"
    raise TooRichError
