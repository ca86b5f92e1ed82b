"""One example put to every law; each law is a method that raises where it is broken."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal, NoReturn, TypeAlias

from cs336_basics.contracts.authority import judge
from cs336_basics.contracts.closeness import coarsest, difference, inside, same_bits
from cs336_basics.contracts.errors import ContractError, LawError
from cs336_basics.contracts.example import Dtypes, Example
from cs336_basics.contracts.layouts import LAYOUTS, expanded
from cs336_basics.contracts.signature import Signature
from cs336_basics.contracts.walk import BatchAxis, Leaf, has_axis, leaves, position, rebuild, select

Law: TypeAlias = Literal["call", "arguments", "deterministic", "batch", "strides", "vmap", "dtype"]
Arguments: TypeAlias = dict[str, Any]

NOT_BATCH: Final = "shape"  # by the glossary, axes that have no meaning to the function: it may reduce any of them
FLOATING: Final = ("bfloat16", "float16", "float32", "float64")


class Trial:
    """A call that was accepted, with its result: what the laws compare other calls with.

    Raises: ContractError where the function refuses the example, which is then none of its domain.
    """

    def __init__(self, signature: Signature, example: Example, dtypes: Dtypes) -> None:
        self.signature, self.example, self.dtypes = signature, example, dtypes
        self.arguments = example.arguments(dtypes)
        before = list(_snapshots(self.arguments, signature))
        self.draws = False
        hidden = _hidden_state()
        self.result = self._first_call()
        self._written = [place for place, holds in before if not holds()]
        self._drew_hidden = not same_bits(hidden, _hidden_state())

    def _first_call(self) -> Any:
        """The result of the call, which is what its annotation promises."""
        generators = [value for value in self.arguments.values() if type(value).__name__ == "Generator"]
        states = [generator.get_state() for generator in generators]
        try:
            result = self._call(self.arguments)
        except ContractError:
            raise
        except Exception as error:
            self._fail("call", f"raises {_words(error)}", cause=error)
        pairs = zip(generators, states, strict=True)
        self.draws = any(not same_bits(generator.get_state(), state) for generator, state in pairs)
        try:
            judge(self.signature, *_spread(self.signature, self.example.arguments(self.dtypes)), result)
        except ContractError as error:
            self._fail("call", f"breaks its own contract: {error}", cause=error)
        return result

    def hold(self) -> None:
        """Put the example to each law, those first on which the others rest."""
        self.leaves_its_arguments()
        self.is_deterministic()
        if not self.draws:
            for axis in self._batch_axes():
                self.is_the_same_at_each_index(axis)
        self.ignores_layout()
        if not self.draws:
            for axis in self._batch_axes():
                self.is_the_same_under_vmap(axis)
        self.keeps_dtypes()

    def leaves_its_arguments(self) -> None:
        if self._written:
            self._fail("arguments", f"writes {self._written[0]}")

    def is_deterministic(self) -> None:
        if self._drew_hidden:
            self._fail("deterministic", "draws from torch's hidden random numbers; take a torch.Generator")
        again = self._again("deterministic", self.example.arguments(self.dtypes), "called twice")
        for one, other in zip(inside(self.result), inside(again), strict=True):
            if hasattr(one, "dtype") and not same_bits(one, other):
                self._fail("deterministic", "called twice, gives two results")
            if isinstance(one, int | float | str) and one is not other and repr(one) != repr(other):
                self._fail("deterministic", f"called twice, gives {one!r} and {other!r}")

    def is_the_same_at_each_index(self, axis: BatchAxis) -> None:
        """f(x[i]) = f(x)[i]."""
        for index in range(axis.size):
            part = self._changed(lambda leaf: _contiguous(select(leaf, axis, index)))  # noqa: B023  # called at once
            what = f"at index {index} alone"
            result = self._again("batch", part, what, axis)
            want = [leaf._replace(tensor=select(leaf, axis, index)) for leaf in self._results(self.result, axis)]
            self._compare("batch", self._results(result, axis), want, what, axis)

    def ignores_layout(self) -> None:
        """The same values give the same result, however they lie in memory."""
        for name, layout in LAYOUTS.items():
            what = f"with its arguments {name} in memory"
            result = self._again("strides", self._changed(lambda leaf: layout(leaf.tensor)), what)  # noqa: B023  # so too
            self._compare("strides", self._results(result), self._results(self.result), what)
        axes = {
            leaf.path: self.example.seed % leaf.tensor.ndim
            for leaf in self._inputs()
            if leaf.tensor.numel() > 0 and leaf.tensor.ndim > 0
        }
        if not axes:
            return
        spread = self._changed(lambda leaf: expanded(leaf.tensor, axes[leaf.path]) if leaf.path in axes else leaf.tensor)
        dense = self._changed(_contiguous_leaf, spread)
        try:
            want = self._call(dense)
        except ContractError:
            return  # equal entries may be refused
        what = f"with its arguments of stride 0 along one axis ({', '.join(f'{k}: {v}' for k, v in axes.items())})"
        result = self._again("strides", spread, what)
        self._compare("strides", self._results(result), self._results(want), what)

    def is_the_same_under_vmap(self, axis: BatchAxis) -> None:
        import torch

        one = self._changed(lambda leaf: select(leaf, axis, 0) if self._spreads(leaf, axis) else leaf.tensor)
        mapped = [leaf for leaf in self._inputs() if position(leaf, axis) is not None and not self._spreads(leaf, axis)]
        if axis.size == 0 or not mapped:
            return
        names = [leaf.path for leaf in mapped]

        def each(*tensors: Any) -> tuple[Any, ...]:
            slices = dict(zip(names, tensors, strict=True))
            whole = self._changed(lambda leaf: slices.get(leaf.path, leaf.tensor), one)
            return tuple(leaf.tensor for leaf in self._results(self._call(whole), axis))

        places = tuple(position(leaf, axis) for leaf in mapped)
        want = [leaf._replace(tensor=leaf.tensor.movedim(position(leaf, axis) or 0, 0)) for leaf in self._results(self.result, axis)]
        if not want:
            return
        try:
            got = torch.vmap(each, in_dims=places)(*(leaf.tensor for leaf in mapped))
        except Exception as error:
            self._fail("vmap", f"under torch.vmap raises {_words(error)}", axis, error)
        stacked = [leaf._replace(tensor=tensor) for leaf, tensor in zip(want, got, strict=True)]
        self._compare("vmap", stacked, want, "under torch.vmap", axis)
