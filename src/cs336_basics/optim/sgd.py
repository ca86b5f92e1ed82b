"""Stochastic gradient descent."""

from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor
from torch.optim.optimizer import ParamsT

from cs336_basics.contracts import contract, require
from cs336_basics.optim._checks import moment_dtype, require_dense, require_moment, require_rates
from cs336_basics.optim._wrapper import PureOptimizer


class SGDState(NamedTuple):
    """What SGD remembers of one parameter: the steps taken, and the momentum once there is any."""

    step: int
    momentum_buffer: Float32[Tensor, "*shape"] | Float64[Tensor, "*shape"] | None


@contract(held_by="proof")
def sgd_init(param: Float[Tensor, "*shape"]) -> SGDState:  # noqa: ARG001  # the state of any parameter starts alike
    """The state before the first step: t = 0, no momentum.

    Raises: ContractError on dtype.
    """
    return SGDState(step=0, momentum_buffer=None)


@contract(held_by="proof")
def sgd_update(
    param: Float[Tensor, "*shape"],
    grad: Float[Tensor, "*shape"],
    state: SGDState,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    lr_decay: Literal["none", "inverse_sqrt"],
) -> tuple[Float[Tensor, "*shape"], SGDState]:
    """θ ← (1 - η_t λ) θ - η_t b, with b ← μ b + g and η_t = lr, or lr / sqrt(t + 1) where `lr_decay` says so.

    Shapes: param (*shape), grad (*shape) -> (*shape), in param's dtype; computed, and b kept, in float32 at least.
    Raises: ContractError on shape or dtype, a sparse grad, lr or weight_decay below 0, momentum outside [0, 1).
    Source: Robbins & Monro 1951 for the decaying rate, t counting from 0; heavy-ball momentum as in
        Sutskever et al. 2013, b starting as the first gradient; the decay λ is decoupled, Loshchilov & Hutter 2019.

    >>> theta, state = torch.tensor([1.0]), sgd_init(torch.zeros(1))
    >>> options = {"lr": 0.5, "momentum": 0.0, "weight_decay": 0.0, "lr_decay": "inverse_sqrt"}
    >>> for _ in range(2):  # 1 - 0.5/sqrt(1) - 0.5/sqrt(2)
    ...     theta, state = sgd_update(theta, torch.ones(1), state, **options)
    >>> theta
    tensor([0.1464])
    """
    require_dense("sgd_update", "grad", grad)
    require_rates("sgd_update", lr=lr, weight_decay=weight_decay)
    require(0 <= momentum < 1, "sgd_update: momentum must be in [0, 1), got {}", momentum)
    if lr_decay == "inverse_sqrt":
        lr = lr / (state.step + 1) ** 0.5
    dtype = moment_dtype(param)
    direction = grad.to(dtype)
    if state.momentum_buffer is not None:
        require_moment("sgd_update", "momentum_buffer", state.momentum_buffer, param)
        direction = momentum * state.momentum_buffer + direction
    theta = torch.add(param.to(dtype) * (1 - lr * weight_decay), direction, alpha=-lr)
    # Without momentum nothing needs to be kept, and nothing is.
    return theta.to(param.dtype), SGDState(state.step + 1, direction if momentum > 0 else None)


class SGD(PureOptimizer):
    """`sgd_update` as a torch.optim.Optimizer; every option may differ by parameter group.

    `lr_decay="inverse_sqrt"` divides lr by sqrt(t + 1), t counting each parameter's own steps from 0.

    Raises: ContractError if there is no parameter, or as `sgd_update` does.
    """

    state_names = frozenset(SGDState._fields)

    def __init__(
        self,
        params: ParamsT,
        *,
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        lr_decay: Literal["none", "inverse_sqrt"] = "none",
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "lr_decay": lr_decay})

    def _update(
        self, param: Tensor, grad: Tensor, saved: dict[str, Any] | None, group: dict[str, Any]
    ) -> tuple[Tensor, SGDState]:
        return sgd_update(
            param,
            grad,
            SGDState(**saved) if saved else sgd_init(param),
            lr=group["lr"],
            momentum=group["momentum"],
            weight_decay=group["weight_decay"],
            lr_decay=group["lr_decay"],
        )
