"""The sizes of one run by the names of axes, and the arguments built from them.

Only `prove` imports this file, when it is called: it needs torch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch

from cs336_basics.contracts.cases import Made, Tensors
from cs336_basics.contracts.proof.symbols import IntLike, evaluate
from cs336_basics.contracts.shapes import Anything, Axis, Expression, Fixed, Named, Variadic
from cs336_basics.contracts.signature import Signature, TensorSpec, tensors

DEVICE: Final = torch.device("meta")
# The dtype of an argument that may not have the run's, first of those that its annotation allows.
OTHERS: Final = ("int64", "bool", "int32", "uint8", "float32", "complex64")


@dataclass
class World:
    """Names bound to sizes (symbols or numbers), in one run of a function.

    `make` gives the size of a new axis. `same` and `read` compare and show sizes without asking anything of them.
    `stretched` says of a tensor, by its path, how its axes marked # are: "dropped", "ones", or as without the mark.
    """

    rank: int
    dtype: str
    make: Callable[[str], IntLike]
    same: Callable[[IntLike, IntLike], bool]
    read: Callable[[IntLike], Any]
    stretched: Mapping[str, str]
    axes: dict[str, IntLike] = field(default_factory=dict)
    several: dict[str, tuple[IntLike, ...]] = field(default_factory=dict)
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)  # the arguments made, by path
    marked: set[tuple[str, bool]] = field(default_factory=set)  # paths that # marks, and whether for several axes
    uses_rank: bool = False
    uses_dtype: bool = False
    keeps_dtype: bool = False  # a floating argument has the dtype of the run, so that results must have it
    has_device: bool = False
    _nameless: int = 0

    def made(self, choice: Made) -> Any:
        """A value that belongs to the run."""
        if choice.kind == "size":
            return self.size(choice.name)
        if choice.kind == "dtype":
            self.uses_dtype = True
            return getattr(torch, self.dtype)
        if choice.kind == "device":
            self.has_device = True
            return DEVICE
        return torch.Generator()

    def tensor(self, choice: Tensors, path: str) -> torch.Tensor:
        """A tensor without values; of several annotations the first that has the run's dtype."""
        spec = next((s for s in choice.specs if s.dtypes is None or self.dtype in s.dtypes), choice.specs[0])
        self.has_device = True
        sizes = [size for axis in spec.shape.axes for size in self._sizes(axis, path)]
        self.tensors[path] = torch.empty(sizes, dtype=self._dtype(spec), device=DEVICE)
        return self.tensors[path]

    def size(self, name: str) -> IntLike:
        """The size of an axis."""
        if name not in self.axes:
            self.axes[name] = self.make(name)
        return self.axes[name]

    def value(self, axis: Expression, size: IntLike) -> IntLike | None:
        """The size that a formula gives; None where more than one name in it is not bound.

        Where one is not, it is solved for: f(n) = a n + b, so that n = (size - b) / a.
        """
        unknown = [name for name in dict.fromkeys(axis.names) if name not in self.axes]
        if len(unknown) > 1:
            return None
        if unknown:
            at_0, at_1 = (evaluate(axis.text, {**self.axes, unknown[0]: n}) for n in (0, 1))
            if self.same(at_1, at_0):
                return None
            self.axes[unknown[0]] = (size - at_0) // (at_1 - at_0)
        return evaluate(axis.text, self.axes)

    def shown(self, sizes: Sequence[IntLike]) -> str:
        """A shape to be read."""
        return "(" + ", ".join(str(self.read(size)) for size in sizes) + ("," if len(sizes) == 1 else "") + ")"

    def pairs(self, signature: Signature) -> set[Any]:
        """Sizes of axes that stand twice in one tensor of the signature, as in a matrix of all pairs."""
        found = set()
        for spec in (signature.result, *(parameter.spec for parameter in signature.parameters)):
            for tensor in tensors(spec):
                names = [axis.name for axis in tensor.shape.axes if isinstance(axis, Named)]
                found |= {self.read(self.axes[name]) for name in names if names.count(name) > 1 and name in self.axes}
        return found

    def _sizes(self, axis: Axis, path: str) -> list[IntLike]:
        """The sizes that one axis of an argument's shape stands for."""
        several = isinstance(axis, Variadic) or axis == Anything(variadic=True)
        if not isinstance(axis, Anything) and axis.broadcast:
            self.marked.add((path, several))
            self.uses_rank |= several
            if self.stretched.get(path) == "ones":
                return [1] * (self.rank if several else 1)
            if self.stretched.get(path) == "dropped" and several:
                return []
        if isinstance(axis, Fixed):
            return [axis.size]
        if isinstance(axis, Named):
            return [self.size(axis.name)]
        if isinstance(axis, Expression):
            return [evaluate(axis.text, {name: self.size(name) for name in axis.names})]
        self.uses_rank |= several
        if isinstance(axis, Variadic):
            return list(self._several(axis.name))
        return list(self._new(self.rank if several else 1))

    def _several(self, name: str) -> tuple[IntLike, ...]:
        if name not in self.several:
            self.several[name] = tuple(self.make(f"{name}[{i}]") for i in range(self.rank))
        return self.several[name]

    def _new(self, count: int) -> Iterator[IntLike]:
        for _ in range(count):
            self._nameless += 1
            yield self.make(f"_{self._nameless}")

    def _dtype(self, spec: TensorSpec) -> torch.dtype:
        if spec.dtypes is None or self.dtype in spec.dtypes:
            self.uses_dtype = True
            self.keeps_dtype |= spec.dtypes is None or len(spec.dtypes) > 1
            return getattr(torch, self.dtype)  # type: ignore[no-any-return]  # a dtype by its name
        return getattr(torch, next((name for name in OTHERS if name in spec.dtypes), spec.dtypes[0]))  # type: ignore[no-any-return]  # as above
