"""One example put to every law; each law is a method that raises where it is broken."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, NoReturn, TypeAlias

from cs336_basics.contracts.checks.authority import judge
from cs336_basics.contracts.errors import ContractError, LawError
from cs336_basics.contracts.law.closeness import coarsest, difference, inside, same_bits
from cs336_basics.contracts.law.example import Dtypes, Example
from cs336_basics.contracts.law.kept import kept
from cs336_basics.contracts.law.layouts import LAYOUTS, contiguous, expanded
from cs336_basics.contracts.law.walk import BatchAxis, Leaf, leaves, position, rebuild, select, several

Law: TypeAlias = Literal["call", "arguments", "deterministic", "batch", "strides", "vmap", "dtype"]
Arguments: TypeAlias = Mapping[str, Any]

NOT_BATCH: Final = "shape"  # by the glossary, axes that have no meaning to the function: it may reduce any of them
FLOATING: Final = ("bfloat16", "float16", "float32", "float64")
INTEGER: Final = {"int32": 2**31 - 1, "int8": 127, "int16": 2**15 - 1, "int64": 2**63 - 1}  # with the largest value


class Trial:
    """A call that the function accepted, with its result: what the laws compare other calls with.

    Raises: ContractError where the function refuses the example, which is then not in its domain; LawError for "call".
    """

    def __init__(self, example: Example, own: Dtypes | None, hidden: list[Any]) -> None:
        self.signature, self.example, self.own = example.signature, example, own
        self.dtypes = own or Dtypes()
        self.arguments = example.arguments(self.dtypes)
        self._leaves: list[Leaf] | None = None
        watched = list(kept(self.arguments, {id(leaf.tensor): leaf.path for leaf in self._inputs()}, hidden))
        stream = _hidden_stream()
        self.draws = False
        if example.given:  # by hand, and it may not fit
            judge(self.signature, *self._spread(self.arguments))
        self.result = self._first_call()
        self.written = next((place for place, is_kept in watched if not is_kept()), None)
        self.draws_hidden = not same_bits(stream, _hidden_stream())

    def hold(self) -> None:
        """Put the example to each law, first those that the others rest on."""
        self.leaves_its_arguments()
        self.is_deterministic()
        axes = [] if self.draws else list(self._batch_axes())
        for axis in axes:
            self.is_the_same_at_each_index(axis)
        self.ignores_layout()
        for axis in axes:
            self.is_the_same_under_vmap(axis)
        self.keeps_dtypes()

    def leaves_its_arguments(self) -> None:
        if self.written is not None:
            self._fail("arguments", f"writes {self.written}")

    def is_deterministic(self) -> None:
        if self.draws_hidden:
            self._fail("deterministic", "draws torch's hidden random numbers, where it should take a torch.Generator")
        again = list(inside(self._again("deterministic", self.arguments, "called again")))
        first = list(inside(self.result))
        same = len(first) == len(again) and all(map(_is_same, first, again))
        if not same:
            self._fail("deterministic", "called twice with the same arguments, gives two results")

    def is_the_same_at_each_index(self, axis: BatchAxis) -> None:
        """f(x)[i] = f(x[i])."""
        whole = self._results(self.result, axis)
        for index in range(axis.size):
            part = self._changed(functools.partial(_at, axis, index))
            what = f"for index {index} alone"
            want = [leaf._replace(tensor=select(leaf, axis, index)) for leaf in whole]
            self._compare("batch", self._results(self._again("batch", part, what, axis), axis), want, what, axis)

    def ignores_layout(self) -> None:
        """The same values give the same result, however they lie in memory."""
        if not self._inputs():
            return
        for name, layout in LAYOUTS.items():
            what = f"with arguments {name} in memory"
            moved = self._changed(functools.partial(_laid, layout))
            result = self._again("strides", moved, what)
            self._compare("strides", self._results(result), self._results(self.result), what)
        spread = self._changed(lambda leaf: expanded(leaf.tensor, self.example.seed))
        try:
            want = self._call(self._changed(lambda leaf: contiguous(leaf.tensor), spread))
        except ContractError:
            return  # other values, which the function may refuse
        what = "with arguments of stride 0 along one axis"
        self._compare("strides", self._results(self._again("strides", spread, what)), self._results(want), what)

    def is_the_same_under_vmap(self, axis: BatchAxis) -> None:
        """vmap(f)(x) = f(x)."""
        import torch

        want = self._results(self.result, axis)
        # What broadcasts along the axis is the same for each index: it is not mapped.
        single = self._changed(lambda leaf: select(leaf, axis, 0) if _broadcasts(leaf, axis) else leaf.tensor)
        mapped = [leaf for leaf in self._inputs() if position(leaf, axis) is not None and not _broadcasts(leaf, axis)]
        if not mapped or all(leaf.tensor.numel() == 0 for leaf in want):
            return

        def each(*tensors: Any) -> tuple[Any, ...]:
            parts = {leaf.path: tensor for leaf, tensor in zip(mapped, tensors, strict=True)}
            result = self._call(self._changed(lambda leaf: parts.get(leaf.path, leaf.tensor), single))
            return tuple(leaf.tensor for leaf in self._results(result, axis))

        try:
            over = torch.vmap(each, in_dims=tuple(position(leaf, axis) for leaf in mapped))
            got = over(*(leaf.tensor for leaf in mapped))
        except Exception as error:
            self._fail("vmap", f"under torch.vmap raises {_words(error)}", axis, error)
        placed = [leaf._replace(tensor=leaf.tensor.movedim(position(leaf, axis), 0)) for leaf in want]
        stacked = [leaf._replace(tensor=tensor) for leaf, tensor in zip(want, got, strict=True)]
        self._compare("vmap", stacked, placed, "under torch.vmap", axis)

    def keeps_dtypes(self) -> None:
        """In each dtype that the annotations allow, the result has the one they promise."""
        places = [leaf.path for leaf in self._results(self.result)]
        largest = max(self.example.bounds.values(), default=0)
        integers = [name for name, most in INTEGER.items() if largest <= most]
        floats = FLOATING if self.own is None else (self.own.floating,)
        if not self._inputs():
            return
        tame = dataclasses.replace(self.example, wild=False)  # float16 has no room for the others
        for turn, floating in enumerate(floats):
            dtypes = Dtypes(floating, integers[turn % len(integers)])
            arguments = tame.arguments(dtypes)
            what = f"with {floating} and {dtypes.integer} arguments"
            try:
                result = self._call(arguments)
                leaves_here = self._results(result)
                if [leaf.path for leaf in leaves_here] != places:  # one is not of any dtype that it may have
                    judge(self.signature, *self._spread(arguments), result)
            except Exception as error:
                if "not implemented for" in str(error):
                    continue  # an operator that torch's CPU lacks in this dtype
                self._fail("dtype", f"{what} raises {_words(error)}", cause=error)
            given = self._inputs(arguments)
            for leaf in leaves_here:
                self._is_promised(leaf, dtypes, what, given)

    def _is_promised(self, leaf: Leaf, dtypes: Dtypes, what: str, inputs: list[Leaf]) -> None:
        """A dtype that the annotation leaves open is the one of the arguments that leave it open."""
        got = _dtype(leaf)
        for name in dtypes:
            kind = name.rstrip("0123456789").removeprefix("b")
            given = any(_dtype(other) == name and len(_allowed(other)) > 1 for other in inputs)
            if kind in got and given and name in _allowed(leaf) and got != name:
                self._fail("dtype", f"{what} gives {leaf.path} in {got}")

    def _first_call(self) -> Any:
        arguments = {name: _fresh(value) for name, value in self.arguments.items()}
        generators = [
            (arguments[name], value) for name, value in self.arguments.items() if value is not arguments[name]
        ]
        try:
            result = self._call(arguments, renew=False)
        except ContractError:
            raise
        except Exception as error:
            self._fail("call", f"raises {_words(error)}", cause=error)
        self.draws = any(not same_bits(used.get_state(), unused.get_state()) for used, unused in generators)
        args, kwargs = self._spread(self.example.arguments(self.dtypes))
        try:
            judge(self.signature, args, kwargs, result)
        except ContractError as error:
            self._fail("call", f"breaks its own contract: {error}", cause=error)
        return result

    def _call(self, arguments: Arguments, renew: bool = True) -> Any:
        args, kwargs = self._spread({name: _fresh(value) if renew else value for name, value in arguments.items()})
        return self.signature.function(*args, **kwargs)

    def _again(self, law: Law, arguments: Arguments, what: str, axis: BatchAxis | None = None) -> Any:
        """The result of a call that must work, since the first one did."""
        try:
            return self._call(arguments)
        except Exception as error:
            self._fail(law, f"{what}, raises {_words(error)}", axis, error)

    def _spread(self, arguments: Arguments) -> tuple[tuple[Any, ...], dict[str, Any]]:
        bound = inspect.BoundArguments(self.signature.python, dict(arguments))
        return bound.args, bound.kwargs

    def _changed(self, change: Callable[[Leaf], Any], arguments: Arguments | None = None) -> Arguments:
        """The arguments with each annotated tensor changed."""
        arguments = self.arguments if arguments is None else arguments
        changed = dict(arguments)
        for parameter in self.signature.parameters:
            name, value = parameter.name, arguments[parameter.name]
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                changed[name] = tuple(
                    rebuild(parameter.spec, item, change, f"{name}[{index}]") for index, item in enumerate(value)
                )
            else:
                changed[name] = rebuild(parameter.spec, value, change, name)
        return changed

    def _inputs(self, arguments: Arguments | None = None) -> list[Leaf]:
        """The annotated tensors among the arguments."""
        if arguments is None and self._leaves is not None:
            return self._leaves
        found: list[Leaf] = []

        def keep(leaf: Leaf) -> Any:
            found.append(leaf)
            return leaf.tensor

        self._changed(keep, arguments)
        self._leaves = found if arguments is None else self._leaves
        return found

    def _results(self, result: Any, axis: BatchAxis | None = None) -> list[Leaf]:
        found = leaves(self.signature.result, result, "the result")
        return [leaf for leaf in found if axis is None or axis.name in several(leaf.spec)]

    def _batch_axes(self) -> Iterator[BatchAxis]:
        for name, sizes in self.example.several.items():
            for place, size in enumerate(sizes):
                axis = BatchAxis(name, place, len(sizes), size)
                if name != NOT_BATCH and self._results(self.result, axis):
                    yield axis

    def _compare(self, law: Law, got: list[Leaf], want: list[Leaf], what: str, axis: BatchAxis | None = None) -> None:
        if [leaf.path for leaf in got] != [leaf.path for leaf in want]:
            self._fail(law, f"{what}, gives other tensors", axis)
        for one, other in zip(got, want, strict=True):
            found = difference(one.tensor, other.tensor, eps=2.0**-52, largest=self._largest())
            if found is not None:  # unless it computes in less than float64, as we can only now afford to ask
                eps = coarsest(lambda: self._call(self.arguments))
                found = difference(one.tensor, other.tensor, eps=eps, largest=self._largest())
            if found is not None:
                self._fail(law, f"{what}, {other.path} {found}", axis)

    def _largest(self) -> float:
        floats = [leaf.tensor for leaf in self._inputs() if leaf.tensor.is_floating_point() and leaf.tensor.numel() > 0]
        return max((float(tensor.abs().max()) for tensor in floats), default=1.0)

    def _fail(self, law: Law, what: str, axis: BatchAxis | None = None, cause: BaseException | None = None) -> NoReturn:
        name, example = self.signature.name, self.example.text(self.dtypes)
        where = "" if axis is None else f" on axis {axis}"
        message = f"{name} breaks the law {law!r}{where}: {what}; example: {example}"
        raise LawError(message, law=law, function=name, example=example, axis=axis and str(axis)) from cause


def _at(axis: BatchAxis, index: int, leaf: Leaf) -> Any:
    return contiguous(select(leaf, axis, index))  # a slice with strides would be the law of strides' to judge


def _laid(layout: Callable[[Any], Any], leaf: Leaf) -> Any:
    return layout(leaf.tensor)


def _is_same(one: Any, other: Any) -> bool:
    if hasattr(one, "_version"):
        return hasattr(other, "_version") and same_bits(one, other)
    return not isinstance(one, int | float | str) or repr(one) == repr(other)


def _broadcasts(leaf: Leaf, axis: BatchAxis) -> bool:
    at = position(leaf, axis)
    return at is not None and leaf.tensor.shape[at] == 1 and axis.size != 1


def _fresh(value: Any) -> Any:
    """A generator where it was, so that each call draws the same numbers; anything else itself."""
    return value.clone_state() if _is_generator(value) else value


def _is_generator(value: Any) -> bool:
    return type(value).__name__ == "Generator"


def _hidden_stream() -> Any:
    import torch

    return torch.get_rng_state()


def _allowed(leaf: Leaf) -> set[str]:
    """The dtypes that the annotations of a tensor allow, none where they allow any."""
    return {name for option in leaf.options for name in option.dtypes or ()}


def _dtype(leaf: Leaf) -> str:
    return str(leaf.tensor.dtype).removeprefix("torch.")


def _words(error: BaseException) -> str:
    """An exception in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
