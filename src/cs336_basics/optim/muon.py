"""Muon: momentum made orthogonal, for the matrices of hidden layers; AdamW for everything else."""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import torch
from jaxtyping import Float, Float32, Float64
from torch import Tensor
from torch.optim.optimizer import ParamsT

from cs336_basics.contracts import contract, require
from cs336_basics.optim._checks import moment_dtype, require_dense, require_moment, require_rates
from cs336_basics.optim._wrapper import PureOptimizer
from cs336_basics.optim.adamw import AdamWState, adamw_init, adamw_update

NOT_FOR_MUON: Final = frozenset({"token_embeddings", "lm_head"})


class MuonState(NamedTuple):
    """What Muon remembers of one matrix: the running mean of its gradients."""

    momentum_buffer: Float32[Tensor, "rows cols"] | Float64[Tensor, "rows cols"]


@contract(held_by="proof")
def muon_init(param: Float[Tensor, "rows cols"]) -> MuonState:
    """The state before the first step: b = 0.

    Shapes: param (rows, cols) -> momentum_buffer (rows, cols), in float32 at least.
    Raises: ContractError on shape or dtype.
    """
    return MuonState(momentum_buffer=torch.zeros_like(param, dtype=moment_dtype(param)))


@contract(unproved="calls newton_schulz, and its step is scaled by the longer side")
def muon_update(
    param: Float[Tensor, "rows cols"],
    grad: Float[Tensor, "rows cols"],
    state: MuonState,
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    ns_dtype: torch.dtype,
) -> tuple[Float[Tensor, "rows cols"], MuonState]:
    """W ← (1 - lr λ) W - lr · 0.2 sqrt(max(rows, cols)) · O, O = newton_schulz((1 - μ) g + μ b), b ← μ b + (1 - μ) g.

    An orthogonal O has entries of root mean square 1/sqrt(max(rows, cols)), an AdamW step of about 0.2 to 0.4:
    the factor makes them alike, so that one lr and one weight decay serve both.

    Shapes: param (rows, cols), grad (rows, cols) -> (rows, cols), in param's dtype; computed, and b kept, in float32
        at least, but the matrix products in `ns_dtype`; the authors use bfloat16.
    Raises: ContractError on shape or dtype, a sparse grad, lr or weight_decay below 0, momentum outside [0, 1).
    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/, with Nesterov momentum; the factor and
        the decay: Liu et al. 2025, arXiv:2502.16982, section 2.2. As torch.optim.Muon, adjust_lr_fn="match_rms_adamw".
    """
    require_dense("muon_update", "grad", grad)
    require_moment("muon_update", "momentum_buffer", state.momentum_buffer, param)
    require_rates("muon_update", lr=lr, weight_decay=weight_decay)
    require(0 <= momentum < 1, "muon_update: momentum must be in [0, 1), got {}", momentum)
    require(ns_dtype.is_floating_point, "muon_update: ns_dtype must be a floating dtype, got {}", ns_dtype)
    dtype = moment_dtype(param)
    wide = grad.to(dtype)
    buffer = torch.lerp(state.momentum_buffer, wide, 1 - momentum)
    orthogonal = newton_schulz(torch.lerp(wide, buffer, momentum).to(ns_dtype)).to(dtype)
    decayed = param.to(dtype) * (1 - lr * weight_decay)
    theta = torch.add(decayed, orthogonal, alpha=-lr * 0.2 * max(param.shape) ** 0.5)
    return theta.to(param.dtype), MuonState(buffer)


@contract(unproved="works on the wider of the matrix and its transpose: a branch on rows > cols, right on both sides")
def newton_schulz(matrix: Float[Tensor, "rows cols"]) -> Float[Tensor, "rows cols"]:
    """About U Vᵀ of matrix = U S Vᵀ: five times X ← a X + b (X Xᵀ) X + c (X Xᵀ)² X, from X = matrix / ‖matrix‖.

    Each singular value s of X goes to a s + b s³ + c s⁵, which lifts small ones as fast as it can rather than
    converge: those above 0.01 end in [0.68, 1.14], those above 0.002 in [0.68, 1.21]. A matrix of zeros stays one.

    Shapes: matrix (rows, cols) -> (rows, cols), in matrix's dtype; the norm is taken in float32 at least.
    Raises: ContractError on shape or dtype.
    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/, and its coefficients.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    rows, cols = matrix.shape
    # Work on the wide form: X Xᵀ is then the smaller of the two Gram matrices.
    x = matrix.mT if rows > cols else matrix
    norm: Tensor = torch.linalg.vector_norm(x, dtype=moment_dtype(x))
    x = (x / norm.clamp(min=1e-7)).to(x.dtype)
    for _ in range(5):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if rows > cols else x


@contract(held_by="proof")
def split_parameters(named_parameters: Iterable[tuple[str, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    """(matrices, others): the matrices of hidden layers, for Muon, and everything else, for AdamW.

    Others are embeddings and the output head (by name: `token_embeddings`, `lm_head`), norms and biases (by shape).

    Raises: ContractError if given tensors without names.
    Source: Jordan et al. 2024 for the rule.

    >>> layers = torch.nn.ModuleDict({"lm_head": torch.nn.Linear(2, 3), "q_proj": torch.nn.Linear(2, 2)})
    >>> matrices, others = split_parameters(layers.named_parameters())
    >>> [tuple(p.shape) for p in matrices], [tuple(p.shape) for p in others]
    ([(2, 2)], [(3, 2), (3,), (2,)])
    """
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for pair in named_parameters:
        expected = (
            "split_parameters: named_parameters must give (name, tensor) pairs, got a {}; use .named_parameters()"
        )
        require(isinstance(pair, tuple), expected, type(pair).__name__)
        name, param = pair
        hidden = param.ndim == 2 and NOT_FOR_MUON.isdisjoint(name.split("."))
        (matrices if hidden else others).append(param)
    return matrices, others


class Muon(PureOptimizer):
    """`muon_update` for groups with `use_muon=True` (the default), `adamw_update` for those with `use_muon=False`.

    Every option may differ by group; momentum and ns_dtype are Muon's own, betas and eps AdamW's.

    Raises: ContractError if there is no parameter, if a group for Muon holds anything but matrices, or as the
        updates do.

    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    >>> matrices, others = split_parameters(model.named_parameters())
    >>> optimizer = Muon([{"params": matrices}, {"params": others, "use_muon": False}], lr=1e-3)
    """

    state_names = frozenset({*MuonState._fields, *AdamWState._fields})

    def __init__(
        self,
        params: ParamsT,
        *,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        use_muon: bool = True,
        momentum: float = 0.95,
        ns_dtype: torch.dtype = torch.bfloat16,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
    ) -> None:
        shared = {"lr": lr, "weight_decay": weight_decay, "use_muon": use_muon}
        super().__init__(params, {**shared, "momentum": momentum, "ns_dtype": ns_dtype, "betas": betas, "eps": eps})

    def _update(
        self, param: Tensor, grad: Tensor, saved: dict[str, Any] | None, group: dict[str, Any]
    ) -> tuple[Tensor, MuonState | AdamWState]:
        if not group["use_muon"]:
            return adamw_update(
                param,
                grad,
                AdamWState(**saved) if saved else adamw_init(param),
                lr=group["lr"],
                betas=group["betas"],
                eps=group["eps"],
                weight_decay=group["weight_decay"],
            )
        mend = "; put the others in a group with use_muon=False (see split_parameters)"
        require(param.ndim == 2, "Muon: params for Muon must be matrices, got one with {} axes" + mend, param.ndim)
        return muon_update(
            param,
            grad,
            MuonState(**saved) if saved else muon_init(param),
            lr=group["lr"],
            momentum=group["momentum"],
            weight_decay=group["weight_decay"],
            ns_dtype=group["ns_dtype"],
        )
