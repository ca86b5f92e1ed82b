"""From one tensor to many: the list form of every update in this room."""

from collections.abc import Callable, Sequence
from typing import Concatenate, ParamSpec, TypeVar

from torch import Tensor

from cs336_basics.contracts import require

S = TypeVar("S")
P = ParamSpec("P")


# No contract: its parameters are those of the update it is given, which has one.
def update_each(
    update: Callable[Concatenate[Tensor, Tensor, S, P], tuple[Tensor, S]],
    params: Sequence[Tensor],
    grads: Sequence[Tensor | None],
    states: Sequence[S],
    *args: P.args,
    **hyperparameters: P.kwargs,
) -> tuple[list[Tensor], list[S]]:
    """(params, grads, states, hyperparameters) -> (params, states), by the same `update` for each tensor.

    A parameter whose gradient is None is returned as it is, with its state.

    Shapes: the n-th param, grad and state belong together; each may have a shape of its own.
    Raises: ContractError if the three are not of one length, and whatever `update` raises.

    >>> import torch
    >>> from cs336_basics.optim.sgd import sgd_init, sgd_update
    >>> params, grads = [torch.tensor([1.0]), torch.tensor([2.0])], [torch.tensor([1.0]), None]
    >>> states = [sgd_init(param) for param in params]
    >>> params, states = update_each(
    ...     sgd_update, params, grads, states, lr=0.5, momentum=0.0, weight_decay=0.0, lr_decay="none"
    ... )
    >>> params
    [tensor([0.5000]), tensor([2.])]
    """
    lengths = (len(params), len(grads), len(states))
    require(
        len(set(lengths)) == 1, "update_each: params, grads and states must be of one length, got {}, {}, {}", *lengths
    )
    updated = [
        (param, state) if grad is None else update(param, grad, state, *args, **hyperparameters)
        for param, grad, state in zip(params, grads, states, strict=True)
    ]
    return [param for param, _ in updated], [state for _, state in updated]
