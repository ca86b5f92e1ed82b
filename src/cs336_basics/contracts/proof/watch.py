"""What a function does while it runs: writes, random draws, host reads, broadcasts of an axis against itself, devices.

Only `prove` imports this file, when it is called: it needs torch.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from cs336_basics.contracts.law.closeness import inside
from cs336_basics.contracts.law.kept import kept_container
from cs336_basics.contracts.proof.standins import operator
from cs336_basics.contracts.proof.symbols import Env, place

# Operators that read values on the host, besides those that torch tags so.
READS: Final = frozenset({"aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero", "aten::item"})
# Operators whose result has the sizes of a tensor but none of its values.
SIZES_ONLY: Final = ("_like", "aten::new_")
# Operators that torch does not tag as pointwise, and that broadcast their operands to each other beforehand.
LOSSES: Final = frozenset({"aten::mse_loss", "aten::huber_loss", "aten::smooth_l1_loss", "aten::binary_cross_entropy"})
PERMUTES: Final = frozenset({"aten::t", "aten::transpose", "aten::permute"})


class Violation(NamedTuple):
    """A rule that an operator broke, and where."""

    rule: str
    axis: str
    expression: str
    message: str


class Stop(BaseException):
    """Ends a run: what follows a host read would only repeat it. No function may catch it with `except Exception`."""


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """Sees every operator between the function and torch's kernels; `violations` says what was wrong."""

    def __init__(
        self, env: Env, arguments: Mapping[str, torch.Tensor], announced: set[Any], given: Mapping[str, Any]
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.violations: dict[tuple[str, str], Violation] = {}
        self._env = env
        self._announced = announced  # sizes of axes that an annotation pairs with themselves
        self._owner = {_storage(tensor): path for path, tensor in arguments.items()}
        self._before = {
            p: (t, _storage(t), tuple(t.shape), t.dtype, t.requires_grad, t.grad) for p, t in arguments.items()
        }
        self._containers = [(name, kept_container(part)) for name, value in given.items() for part in inside(value)]
        self._tainted = set(self._owner)  # storages that hold what depends on the arguments' values
        self._inserted: dict[int, frozenset[int]] = {}  # axes of size 1 that were put in on purpose, by id
        self._alive: list[torch.Tensor] = [*arguments.values()]  # so that no id and no storage is used twice

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Look at the call, make it, and remember where its result came from."""
        kwargs = dict(kwargs or {})
        name = func.name().split(".")[0]
        tensors = [item for item in tree_flatten((args, kwargs))[0] if isinstance(item, torch.Tensor)]
        self._look(func, name, args, kwargs, tensors)
        asked = len(self._env.asked)
        try:
            result = operator(func)(*args, **kwargs)
        except Exception:
            del self._env.asked[asked:]  # the operator's own question, answered by its refusal
            raise
        self._follow(func, name, args, kwargs, tensors, result)
        return result

    def finish(self) -> None:
        """See whether an argument was given other items, shape, storage, flag or gradient without an operator."""
        changed = [name for name, is_kept in self._containers if not is_kept()]
        for path, (tensor, storage, shape, dtype, needs_grad, grad) in self._before.items():
            same = _storage(tensor) == storage and tensor.dtype == dtype and tensor.requires_grad == needs_grad
            same = same and tensor.grad is grad and len(tensor.shape) == len(shape)
            if not same or not all(map(self._env.same, tensor.shape, shape)):
                changed.append(path)
        for path in changed:
            violation = Violation("writes", "", path, f"{path} was changed in place")
            self.violations.setdefault(("writes", path), violation)

    def read(self, name: str, tensor: torch.Tensor) -> None:
        """A function that reads a tensor's values; harmless where they are on the CPU and no argument's."""
        if tensor.device.type != "cpu" or self._any_tainted([tensor]):
            self._report("host read", "", name, f"{name} reads a tensor's values on the host")
            raise Stop

    def _look(
        self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], tensors: list[torch.Tensor]
    ) -> None:
        if name in READS or torch.Tag.data_dependent_output in func.tags:
            self._report("host read", "", name, f"{name} reads a tensor's value on the host")
            raise Stop
        if torch.Tag.dynamic_output_shape in func.tags and self._any_tainted(tensors) and _is_dynamic(name, tensors):
            self._report(
                "host read", "", name, f"{name} makes a shape that depends on values: the host must wait for them"
            )
            raise Stop
        if torch.Tag.nondeterministic_seeded in func.tags and not _seeded(func, args, kwargs):
            self._report("random", "", name, f"{name} draws from torch's global generator")
        for tensor in _written(func, args, kwargs):
            if (owner := self._owner.get(_storage(tensor))) is not None:
                self._report("writes", "", name, f"{name} writes into {owner}")
            elif not isinstance(tensor, FakeTensor):
                self._report("writes", "", name, f"{name} writes into a tensor from outside the function")
        self._look_at_devices(name, args, kwargs, tensors)
        if torch.Tag.pointwise in func.tags or name in LOSSES:
            self._look_for_pairs(name, tensors)

    def _look_at_devices(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], tensors: list[torch.Tensor]
    ) -> None:
        if name in ("aten::_to_copy", "aten::copy_"):
            target = kwargs.get("device") or args[0].device
            if any(t.device != target for t in tensors) and str(target) == "cpu" and self._any_tainted(tensors):
                self._report("host read", "", name, f"{name} moves values to the CPU")
            return
        devices = {tensor.device for tensor in tensors if tensor.ndim or tensor.device.type != "cpu"}
        if len(devices) > 1:
            listed = " and ".join(sorted(map(str, devices)))
            listed = listed.replace("meta", "the arguments' device")
            self._report("device", "", name, f"{name} meets tensors on {listed}")

    def _look_for_pairs(self, name: str, tensors: list[torch.Tensor]) -> None:
        """Two operands that depend on the arguments, each stretched along one axis that is the other's."""
        operands = [tensor for tensor in tensors if _storage(tensor) in self._tainted]
        for i, one in enumerate(operands):
            for other in operands[:i]:
                for size, mine, theirs in self._crossed(one, other):
                    wanted = self._puts_in(one, mine) and self._puts_in(other, theirs)
                    if not wanted and size not in self._announced:
                        shapes = " and ".join(self._shown(tensor) for tensor in (other, one))
                        message = f"{name} broadcasts {size} against itself: {shapes} make every pair"
                        self._report("broadcast", str(size), str(size), message)

    def _crossed(self, one: torch.Tensor, other: torch.Tensor) -> Iterator[tuple[Any, int, int]]:
        """A size, and the axes from the right at which `one` and `other` are stretched to it."""
        mine, theirs = self._from_right(one), self._from_right(other)
        ndim = max(len(mine), len(theirs))
        mine += [None] * (ndim - len(mine))
        theirs += [None] * (ndim - len(theirs))
        for i in range(ndim):
            for j in range(ndim):
                crossed = mine[i] is None and theirs[j] is None and mine[j] is not None
                if crossed and mine[j] == theirs[i]:
                    yield mine[j], i, j

    def _from_right(self, tensor: torch.Tensor) -> list[Any]:
        """The symbolic sizes of a tensor from its last axis on; None for an axis that is or was of size 1."""
        shape: list[Any] = [*reversed(tensor.shape)]
        strides: list[Any] = [*reversed(tensor.stride())]
        return [self._axis(size, stride) for size, stride in zip(shape, strides, strict=True)]

    def _axis(self, size: Any, stride: Any) -> Any:
        if isinstance(size, int):
            return None if size == 1 else object()  # a number does not say which axis it is
        return None if isinstance(stride, int) and stride == 0 else self._env.read(size)

    def _puts_in(self, tensor: torch.Tensor, from_right: int) -> bool:
        return tensor.ndim - 1 - from_right in self._inserted.get(id(tensor), ())

    def _follow(
        self,
        func: Any,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        tensors: list[torch.Tensor],
        result: Any,
    ) -> None:
        made = [item for item in tree_flatten(result)[0] if isinstance(item, torch.Tensor)]
        self._alive += made
        if self._any_tainted(tensors) and not any(part in name for part in SIZES_ONLY):
            self._tainted |= {_storage(t) for t in (*made, *_written(func, args, kwargs))}
        for tensor in made:
            self._inserted[id(tensor)] = frozenset(self._origin(name, args, tensors, tensor))

    def _origin(
        self, name: str, args: tuple[Any, ...], tensors: list[torch.Tensor], result: torch.Tensor
    ) -> Iterator[int]:
        """The axes of a result that were put in on purpose, as by x[:, None], rather than left by a reduction."""
        if not tensors:
            return
        source, ndim = tensors[0], result.ndim
        known = self._inserted.get(id(source), frozenset())
        if name == "aten::unsqueeze":
            at = args[1] % ndim
            yield from (at, *(axis + (axis >= at) for axis in known))
        elif name in ("aten::view", "aten::_unsafe_view", "aten::reshape", "aten::_reshape_alias"):
            shape: list[Any] = [*result.shape]
            yield from (i for i, size in enumerate(shape) if isinstance(size, int) and size == 1)
        elif name in PERMUTES:
            order = list(range(ndim))
            if name == "aten::permute":
                order = [axis % ndim for axis in args[1]]
            elif ndim > 1:
                one, other = (0, 1) if name == "aten::t" else (args[1] % ndim, args[2] % ndim)
                order[one], order[other] = order[other], order[one]
            yield from (i for i, axis in enumerate(order) if axis in known)
        elif ndim < source.ndim and len(args) > 1 and isinstance(args[1], int | list | tuple):
            gone = {axis % source.ndim for axis in ([args[1]] if isinstance(args[1], int) else args[1])}
            left = [axis for axis in range(source.ndim) if axis not in gone]
            yield from (i for i, axis in enumerate(left) if axis in known)
        else:  # axes are counted from the right, as broadcasting does
            for tensor in tensors:
                shift = ndim - tensor.ndim
                yield from (axis + shift for axis in self._inserted.get(id(tensor), ()) if axis + shift >= 0)

    def _any_tainted(self, tensors: Sequence[torch.Tensor]) -> bool:
        return any(_storage(tensor) in self._tainted for tensor in tensors)

    def _shown(self, tensor: torch.Tensor) -> str:
        return "(" + ", ".join(str(self._env.read(size)) for size in tensor.shape) + ")"

    def _report(self, rule: str, axis: str, expression: str, message: str) -> None:
        where = place(sys._getframe(1))
        found = Violation(rule, axis, expression, f"{message}, at {where}" if where else message)
        self.violations.setdefault((rule, found.message), found)


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[torch.Tensor]:
    """The arguments that an operator writes into, as its schema says."""
    for index, argument in enumerate(func._schema.arguments):
        if argument.alias_info is None or not argument.alias_info.is_write:
            continue
        value = args[index] if index < len(args) else kwargs.get(argument.name)
        yield from (item for item in tree_flatten(value)[0] if isinstance(item, torch.Tensor))


def _seeded(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a random operator was given a generator, or draws nothing (dropout of 0, as in attention)."""
    names = [argument.name for argument in func._schema.arguments]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    if any(isinstance(value, torch.Generator) for value in given.values()):
        return True
    chances = [given.get(name, 0.0) for name in ("dropout_p", "dropout") if name in names]
    return bool(chances) and all(isinstance(chance, int | float) and chance == 0 for chance in chances)


def _is_dynamic(name: str, tensors: Sequence[torch.Tensor]) -> bool:
    """Whether the result's shape depends on values: of an index only where it is a mask."""
    return name != "aten::index" or any(tensor.dtype in (torch.bool, torch.uint8) for tensor in tensors[1:])


def _storage(tensor: torch.Tensor) -> int:
    """What views of one tensor have in common."""
    return int(tensor.untyped_storage()._cdata)
