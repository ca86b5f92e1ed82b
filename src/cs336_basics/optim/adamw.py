"""Adam with decoupled weight decay."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor
from torch.optim.optimizer import ParamsT

from cs336_basics.contracts import contract, require
from cs336_basics.optim._checks import moment_dtype, require_dense, require_moment, require_rates
from cs336_basics.optim._wrapper import PureOptimizer


class AdamWState(NamedTuple):
    """What AdamW remembers of one parameter: the steps taken, m and v.

    `step` is a Python int, so that the bias corrections never wait for a device.
    """

    step: int
    exp_avg: Float32[Tensor, "*shape"] | Float64[Tensor, "*shape"]
    exp_avg_sq: Float32[Tensor, "*shape"] | Float64[Tensor, "*shape"]


@contract(held_by="proof")
def adamw_init(param: Float[Tensor, "*shape"]) -> AdamWState:
    """The state before the first step: t = 0, m = v = 0.

    Shapes: param (*shape) -> exp_avg (*shape), exp_avg_sq (*shape), in float32 at least.
    Raises: ContractError on dtype.
    """
    dtype = moment_dtype(param)
    return AdamWState(
        step=0, exp_avg=torch.zeros_like(param, dtype=dtype), exp_avg_sq=torch.zeros_like(param, dtype=dtype)
    )


@contract(held_by="proof")
def adamw_update(
    param: Float[Tensor, "*shape"],
    grad: Float[Tensor, "*shape"],
    state: AdamWState,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> tuple[Float[Tensor, "*shape"], AdamWState]:
    """θ ← (1 - lr λ) θ - lr m̂ / (sqrt(v̂) + ε), m ← β₁ m + (1 - β₁) g, v ← β₂ v + (1 - β₂) g²,
    with m̂ = m / (1 - β₁ᵗ), v̂ = v / (1 - β₂ᵗ) and t counting from 1.

    Computed as m / (sqrt(v) + ε c) times lr c / (1 - β₁ᵗ), where c = sqrt(1 - β₂ᵗ): one pass over memory fewer.
    With eps = 0 the step does not depend on the gradient's scale, and an entry that never had a gradient is 0/0 = NaN.

    Shapes: param (*shape), grad (*shape) -> (*shape), in param's dtype; computed, and m and v kept, in float32 at
        least. A bfloat16 parameter is rounded each step: steps below 2⁻⁹ of it are lost, so keep float32 weights.
    Raises: ContractError on shape or dtype, a sparse grad, lr, eps or weight_decay below 0, betas outside [0, 1).
    Source: Kingma & Ba 2015, arXiv:1412.6980 (the order of computation: end of section 2); decoupled decay:
        Loshchilov & Hutter 2019, arXiv:1711.05101, with λ multiplied by lr as torch.optim.AdamW does.

    >>> theta, gradient = torch.tensor([1.0, 1.0]), torch.tensor([100.0, -1e-4])
    >>> options = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 0.0, "weight_decay": 0.0}
    >>> adamw_update(theta, gradient, adamw_init(theta), **options)[0]  # the first step is lr, whatever the gradient
    tensor([0.9000, 1.1000])
    """
    beta1, beta2 = betas
    require_dense("adamw_update", "grad", grad)
    require_moment("adamw_update", "exp_avg", state.exp_avg, param)
    require_moment("adamw_update", "exp_avg_sq", state.exp_avg_sq, param)
    require_rates("adamw_update", lr=lr, weight_decay=weight_decay)
    require(0 <= beta1 < 1 and 0 <= beta2 < 1, "adamw_update: betas must be in [0, 1), got {}", betas)
    require(eps >= 0, "adamw_update: eps must be at least 0, got {}", eps)

    step = state.step + 1
    root_correction = (1 - beta2**step) ** 0.5
    step_size = lr * root_correction / (1 - beta1**step)
    dtype = moment_dtype(param)
    wide = grad.to(dtype)
    exp_avg = torch.lerp(state.exp_avg, wide, 1 - beta1)
    # The trailing underscores write into products made on the same line, never into an argument: memory is the cost.
    exp_avg_sq = (beta2 * state.exp_avg_sq).addcmul_(wide, wide, value=1 - beta2)
    denominator = exp_avg_sq.sqrt() + eps * root_correction
    theta = (param.to(dtype) * (1 - lr * weight_decay)).addcdiv_(exp_avg, denominator, value=-step_size)
    return theta.to(param.dtype), AdamWState(step, exp_avg, exp_avg_sq)


class AdamW(PureOptimizer):
    """`adamw_update` as a torch.optim.Optimizer; every option may differ by parameter group.

    Raises: ContractError if there is no parameter, or as `adamw_update` does.
    """

    state_names = frozenset(AdamWState._fields)

    def __init__(
        self,
        params: ParamsT,
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    def _update(
        self, param: Tensor, grad: Tensor, saved: dict[str, Any] | None, group: dict[str, Any]
    ) -> tuple[Tensor, AdamWState]:
        return adamw_update(
            param,
            grad,
            AdamWState(**saved) if saved else adamw_init(param),
            lr=group["lr"],
            betas=group["betas"],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
        )
