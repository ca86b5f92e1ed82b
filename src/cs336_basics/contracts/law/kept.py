"""Whether what was given to a function is still what it was: bits, version, gradient, and the items of containers."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from cs336_basics.contracts.law.closeness import inside, same_bits


def kept(
    arguments: Mapping[str, Any], paths: Mapping[int, str], hidden: Iterable[Any]
) -> Iterator[tuple[str, Callable[[], bool]]]:
    """For everything that a call may not write: its name, and whether it is, when asked, still what it was.

    `paths` names tensors by their id better than their parameter does; `hidden` are those of a method's module.
    """
    for parameter, argument in arguments.items():
        for value in inside(argument):
            yield paths.get(id(value), parameter), _kept(value)
    yield from (("a parameter or buffer of its module", _kept(tensor)) for tensor in hidden)


def kept_container(value: Any) -> Callable[[], bool]:
    """Whether a list, set, dict or dataclass, when asked, still holds what it holds now; always, of anything else."""
    if isinstance(value, list | set):
        return _kept_items(value, list)
    if isinstance(value, dict):
        return _kept_items(value, lambda held: [*held, *held.values()])
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return _kept_items(value, lambda held: [getattr(held, name, None) for name in held.__dataclass_fields__])
    return lambda: True


def _kept(value: Any) -> Callable[[], bool]:
    return _kept_tensor(value) if hasattr(value, "_version") else kept_container(value)


def _kept_tensor(tensor: Any) -> Callable[[], bool]:
    copy, version, grad = tensor.detach().clone(), tensor._version, tensor.grad
    grad_is_kept = None if grad is None else _kept_tensor(grad)

    def is_kept() -> bool:
        same = tensor._version == version and same_bits(tensor, copy)
        return same and tensor.grad is grad and (grad_is_kept is None or grad_is_kept())

    return is_kept


def _kept_items(container: Any, items: Callable[[Any], list[Any]]) -> Callable[[], bool]:
    before = items(container)
    return lambda: list(map(id, before)) == list(map(id, items(container)))
