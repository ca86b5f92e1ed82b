"""Sizes as symbols: one for each axis, and a ShapeEnv that remembers what is asked of them.

Only `prove` imports this file, when it is called: it needs torch.
"""

import os
import random
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final, TypeAlias

import beartype
import jaxtyping
import numpy
import sympy  # type: ignore[import-untyped]  # it has no types
import torch
from torch._dynamo.source import ConstantSource
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv
from torch.utils._sympy.functions import Mod, PythonMod

from cs336_basics.contracts.errors import require
from cs336_basics.contracts.proof.algebra import divided

IntLike: TypeAlias = int | torch.SymInt

# Examples of sizes: never what is proved, only what a size answers when a function insists on a number.
PRIMES: Final = tuple(n for n in range(5, 400) if all(n % k for k in range(2, n)))
HERE: Final = str(Path(__file__).parents[1])
BETWEEN: Final = tuple(str(Path(__file__).with_name(name)) for name in ("watch.py", "standins.py"))
INSISTS: Final = frozenset({"__bool__", "__int__", "__index__", "__float__"})  # how Python asks a symbol for a number
BENEATH: Final = tuple(str(Path(module.__file__ or "").parent) for module in (torch, sympy, numpy, jaxtyping, beartype))


@dataclass(frozen=True)
class Asked:
    """A condition on sizes that the run needed an answer to.

    `asker` is "body", "torch", "contract" (a check of annotations), "require" in the function's own file, or
    "other require".
    """

    condition: Any
    asker: str
    place: str


@dataclass
class Premises:
    """What a function asks of sizes in its own words, by `require`, and refuses otherwise.

    `products` says of an axis what it is the product of: of heads % kv_heads == 0 comes heads = kv_heads · (a new
    axis), which is what it means; of d_k == 2*half comes d_k = 2 · half. Any other condition is a fact, which the
    examples must agree with.
    """

    products: dict[str, tuple[str | int, ...]] = field(default_factory=dict)
    facts: list[Any] = field(default_factory=list)
    examples: dict[str, int] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)

    def add(self, asked: Asked) -> bool:
        """Whether what was asked could be taken in.

        An annotation says best that two sizes are equal; only in its own file may a function say it by `require`.
        """
        condition = asked.condition
        equal = isinstance(condition, sympy.Eq | sympy.Ne)
        if equal and not condition.atoms(Mod, PythonMod):
            added = asked.asker == "require" and isinstance(condition, sympy.Eq) and self._add_equality(*condition.args)
        else:
            added = self._add_factor(condition) or self._add_fact(condition)
        self.texts += [_text(condition)] if added else []
        return added

    def leaves(self, name: str) -> Iterator[str | int]:
        """The axes and numbers whose product an axis is."""
        if name not in self.products:
            yield name
        for factor in self.products.get(name, ()):
            yield from (factor,) if isinstance(factor, int) else self.leaves(factor)

    def example(self, name: str) -> int:
        """A number for an axis that is no product, another one for each name."""
        if name not in self.examples:
            self.examples[name] = next(prime for prime in PRIMES if prime not in self.examples.values())
        return self.examples[name]

    def key(self) -> tuple[Any, ...]:
        """What tells these premises from others."""
        return tuple(sorted(self.products.items(), key=str))

    def _add_factor(self, condition: Any) -> bool:
        """Mod(heads, kv_heads) == 0: heads is a product."""
        modulos = condition.atoms(Mod, PythonMod)
        if not isinstance(condition, sympy.Eq) or len(modulos) != 1 or 0 not in condition.args:
            return False
        base, divisor = next(iter(modulos)).args
        return self._add_product(base, divisor, f"({base}/{divisor})")

    def _add_equality(self, one: Any, other: Any) -> bool:
        """Eq(d_k, 2*half) between axes; a size that must be a number is for the annotation to say."""
        if not (one.free_symbols and other.free_symbols):
            return False
        return self._add_product(one, other) or self._add_product(other, one)

    def _add_product(self, axis: Any, of: Any, *new: str) -> bool:
        parts = sympy.Mul.make_args(of)
        if not axis.is_Symbol or axis in of.free_symbols or not all(p.is_Symbol or p.is_Integer for p in parts):
            return False
        self.products[str(axis)] = (*(str(part) if part.is_Symbol else int(part) for part in parts), *new)
        return True

    def at(self, axis: str, size: int) -> "Premises":
        """The same, with an axis of that size."""
        return Premises({**self.products, axis: (size,)}, list(self.facts), dict(self.examples), list(self.texts))

    def _add_fact(self, condition: Any) -> bool:
        """Find examples that agree with all facts."""
        if condition in self.facts:
            return False
        facts = [*self.facts, condition]
        names = sorted({str(symbol) for fact in facts for symbol in fact.free_symbols})
        draw = random.Random(0)  # noqa: S311  # examples, not secrets
        for _ in range(5000):
            drawn = dict(zip(names, draw.sample(range(2, 200), len(names)), strict=True))
            at = {named(name): value for name, value in drawn.items()}
            if all(fact.subs(at) == sympy.true for fact in facts):
                self.facts = facts
                self.examples |= drawn
                return True
        return False


class Env(ShapeEnv):
    """A ShapeEnv that keeps every question it could not answer for all sizes."""

    def __init__(self, own_file: str) -> None:
        super().__init__(duck_shape=False)
        self._own_file = own_file
        self.asked: list[Asked] = []
        self.axis_of: dict[Any, Any] = {}
        self._seen = 0

    def symbol(self, name: str, example: int) -> torch.SymInt:
        """A size that may be any number from 2 on."""
        source = ConstantSource(name)
        symbol = self.create_symbol(example, source, dynamic_dim=DimDynamic.DYNAMIC)
        self.axis_of[symbol] = named(name)
        return self.create_symintnode(symbol, hint=example, source=source)  # type: ignore[return-value]  # not a constant

    def evaluate_expr(self, orig_expr: Any, *args: Any, **kwargs: Any) -> Any:
        """As ShapeEnv's, keeping what was asked."""
        answer = super().evaluate_expr(orig_expr, *args, **kwargs)
        for guard in self.guards[self._seen :]:
            asker, where = self._asker(sys._getframe(1))
            # A guard is what was found true; in `require` what matters is what was asked.
            condition = orig_expr if "require" in asker else guard.expr
            self.asked.append(Asked(condition.xreplace(self.axis_of), asker, where))
        self._seen = len(self.guards)
        return answer

    def _asker(self, frame: FrameType | None) -> tuple[str, str]:
        """Who asked, and from where."""
        start, asker, below = frame, "torch", ""
        while frame is not None:
            file = frame.f_code.co_filename
            if frame.f_code is require.__code__:
                own = frame.f_back is not None and frame.f_back.f_code.co_filename == self._own_file
                asker = "require" if own else "other require"
                break
            if not file.startswith(BENEATH) and file not in BETWEEN:
                if file.startswith((HERE, "<")):
                    asker = "contract"
                elif below in INSISTS:
                    asker = "body"
                break
            below = frame.f_code.co_name
            frame = frame.f_back
        return asker, place(start)

    def read(self, size: Any) -> Any:
        """A size in terms of the axes' names, as simple as it gets."""
        if isinstance(size, int):
            return sympy.Integer(size)
        return self.simplify(size.node.expr).xreplace(self.axis_of)

    def same(self, one: IntLike, other: IntLike) -> bool:
        """Whether two sizes are equal for all values of the axes; asking adds no guard."""
        if isinstance(one, int) and isinstance(other, int):
            return one == other
        return bool(divided(self.read(one) - self.read(other)) == 0)


def named(name: str) -> Any:
    """The symbol by which an axis is shown."""
    return sympy.Symbol(name, integer=True, positive=True)


def product(leaves: Iterator[IntLike]) -> IntLike:
    """The product of sizes, without a 1 in front."""
    total: IntLike = next(leaves)
    for leaf in leaves:
        total = total * leaf
    return total


def evaluate(text: str, sizes: Mapping[str, IntLike]) -> IntLike:
    """A computed size, `heads*d_k`, of numbers or symbols; asks nothing of the symbols."""
    names: dict[str, Any] = {"min": _fold(torch.sym_min), "max": _fold(torch.sym_max), "__builtins__": {}}
    found: IntLike = eval(text, names, dict(sizes))  # noqa: S307  # shapes.py has let only arithmetic through
    return found


def place(frame: FrameType | None) -> str:
    """File and line of the nearest frame that is neither torch's nor of this room."""
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((HERE, "<", *BENEATH)):
            return f"{os.path.basename(file)}:{frame.f_lineno}"  # noqa: PTH119  # a str, thousands of times
        frame = frame.f_back
    return ""


def _text(condition: Any) -> str:
    """A condition as one would write it."""
    if isinstance(condition, sympy.Eq) and (modulos := condition.atoms(Mod, PythonMod)):
        base, divisor = next(iter(modulos)).args
        return f"{base} % {divisor} == 0" if divisor.is_Atom else f"{base} % ({divisor}) == 0"
    return f"{condition.args[0]} == {condition.args[1]}" if isinstance(condition, sympy.Eq) else str(condition)


def _fold(function: Any) -> Any:
    def fold(*values: IntLike) -> Any:
        found: Any = values[0]
        for value in values[1:]:
            found = function(found, value)
        return found

    return fold
