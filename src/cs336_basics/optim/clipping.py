"""The norm of all gradients together, and keeping it below a limit."""

import functools
from collections.abc import Iterable
from typing import TypeVar

import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from cs336_basics.contracts import contract, require
from cs336_basics.optim._checks import require_dense

T = TypeVar("T")


@contract(held_by="proof")
def global_norm(tensors: Iterable[Tensor | None]) -> Float32[Tensor, ""] | Float64[Tensor, ""]:
    """sqrt(Σ_i Σ_j t_ij²): the Euclidean norm of all tensors as one vector; None, or no tensor at all, counts 0.

    Shapes: any -> (), on the first tensor's device; accumulated in float32, or the widest dtype where wider; inf
        where a square is none of its numbers (entries beyond 1e19).
    Raises: ContractError if a tensor is not floating or is sparse, or if given a tensor instead of a list of them.

    >>> global_norm([torch.tensor([3.0]), None, torch.tensor([[4.0]])])
    tensor(5.)
    """
    return _norm("global_norm", _listed("global_norm", "tensors", tensors))


@contract(held_by="proof")
def clip_by_global_norm(
    tensors: Iterable[Tensor | None], max_norm: float, *, eps: float = 1e-6
) -> tuple[list[Tensor | None], Float32[Tensor, ""] | Float64[Tensor, ""]]:
    """(t · min(1, max_norm / (‖t‖ + eps)) for each t, ‖t‖): the tensors scaled to norm max_norm where it is larger.

    The norm returned is the one before. Nothing is scaled unless it exceeds max_norm, nor where it is inf or NaN:
    such gradients come back as they are, and the norm tells the caller to skip the step.

    Shapes: each tensor keeps its shape and dtype, and None stays None; the norm is (), as `global_norm` gives it.
    Raises: ContractError as `global_norm` does, or if max_norm is not above 0 (inf for no limit) or eps < 0.
    Source: Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063; eps as in torch.nn.utils.clip_grad_norm_.

    >>> clip_by_global_norm([torch.tensor([3.0, 4.0]), None], 1.0)
    ([tensor([0.6000, 0.8000]), None], tensor(5.))
    """
    listed = _listed("clip_by_global_norm", "tensors", tensors)
    norm = _norm("clip_by_global_norm", listed)
    scale = _scale("clip_by_global_norm", norm, max_norm, eps)
    # A tensor without axes would take on the scale's dtype.
    clipped = [None if tensor is None else (tensor * scale.to(tensor.device)).to(tensor.dtype) for tensor in listed]
    return clipped, norm


@contract(unproved="writes into the gradients of its parameters, which is what it is for")
@torch.no_grad()
def clip_grad_norm(
    parameters: Iterable[Tensor], max_norm: float, *, eps: float = 1e-6
) -> Float32[Tensor, ""] | Float64[Tensor, ""]:
    """`clip_by_global_norm` on the gradients, in place; returns their norm before, without waiting for the device.

    Raises: ContractError as `clip_by_global_norm` does.
    """
    grads = [parameter.grad for parameter in _listed("clip_grad_norm", "parameters", parameters)]
    norm = _norm("clip_grad_norm", grads)
    scale = _scale("clip_grad_norm", norm, max_norm, eps)
    for grad in grads:
        if grad is not None:
            grad.mul_(scale.to(grad.device))
    return norm


def _listed(function: str, name: str, tensors: Iterable[T]) -> list[T]:
    # A tensor is iterable too, by its rows, which have no gradients: silence where the caller meant [tensor].
    require(not isinstance(tensors, Tensor), "{}: {} must be a list of tensors, got a single one", function, name)
    return list(tensors)


def _norm(function: str, tensors: list[Tensor | None]) -> Tensor:
    present = [tensor for tensor in tensors if tensor is not None]
    if not present:
        return torch.zeros(())
    for tensor in present:
        require_dense(function, "every tensor", tensor)
        require(tensor.is_floating_point(), "{}: every tensor must be floating, got {}", function, tensor.dtype)
    dtype = functools.reduce(torch.promote_types, (tensor.dtype for tensor in present), torch.float32)
    norms = [_tensor_norm(tensor, dtype).to(present[0].device) for tensor in present]
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return total


def _tensor_norm(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    # Row by row first: on a CPU one long float32 sum loses digits, a thousandth of it at 20 million entries.
    rows = torch.linalg.vector_norm(tensor, dim=-1, dtype=dtype)
    norm: Tensor = torch.linalg.vector_norm(rows)
    return norm


def _scale(function: str, norm: Tensor, max_norm: float, eps: float) -> Tensor:
    require(max_norm > 0, "{}: max_norm must be above 0 (inf for no limit), got {}", function, max_norm)
    require(eps >= 0, "{}: eps must be at least 0, got {}", function, eps)
    # A choice on the device: reading the norm here would make the host wait.
    return torch.where((norm > max_norm) & norm.isfinite(), max_norm / (norm + eps), 1.0)
