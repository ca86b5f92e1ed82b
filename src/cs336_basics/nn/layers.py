"""The layers without structure: weights, their first values, and one call each."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cs336_basics.contracts import contract, require
from cs336_basics.ops.feed_forward import silu_feed_forward, swiglu
from cs336_basics.ops.linear import embedding, linear
from cs336_basics.ops.norm import rms_norm


class Linear(nn.Module):
    """y = x Wᵀ, without bias; `ops.linear.linear` with its weight.

    Starts from a normal distribution of variance 2 / (d_in + d_out), cut at three standard deviations
    (Glorot & Bengio 2010).
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        require(d_in >= 1 and d_out >= 1, "Linear: d_in and d_out must be at least 1, got {} and {}", d_in, d_out)
        self.weight = _truncated_normal((d_out, d_in), linear_std(d_in, d_out), device, dtype, generator)

    @contract(held_by="callee")
    def forward(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]:
        return linear(x, self.weight)

    def extra_repr(self) -> str:
        return f"d_in={self.weight.shape[1]}, d_out={self.weight.shape[0]}"


class Embedding(nn.Module):
    """The row of each id; `ops.linear.embedding` with its table.

    Starts from a normal distribution of standard deviation `std`, cut at three of them.
    """

    def __init__(
        self,
        vocab_size: int,
        d_model: int,
        *,
        std: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        positive = vocab_size >= 1 and d_model >= 1
        require(positive, "Embedding: vocab_size and d_model must be at least 1, got {} and {}", vocab_size, d_model)
        self.weight = _truncated_normal((vocab_size, d_model), std, device, dtype, generator)

    @contract(held_by="callee")
    def forward(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch d_model"]:
        return embedding(ids, self.weight)

    def extra_repr(self) -> str:
        return f"vocab_size={self.weight.shape[0]}, d_model={self.weight.shape[1]}"


class RMSNorm(nn.Module):
    """x / rms(x) · weight; `ops.norm.rms_norm` with its weight, which starts at one."""

    def __init__(
        self,
        d_model: int,
        *,
        eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        require(d_model >= 1, "RMSNorm: d_model must be at least 1, got {}", d_model)
        require(eps >= 0, "RMSNorm: eps must be at least 0, got {}", eps)
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model, device=device, dtype=dtype))

    @contract(held_by="callee")
    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return rms_norm(x, self.weight, eps=self.eps)

    def extra_repr(self) -> str:
        return f"d_model={self.weight.shape[0]}, eps={self.eps}"


class Identity(nn.Module):
    """y = x: stands where a norm is left out, and owns no weight."""

    @contract
    def forward(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return x


class SwiGLU(nn.Module):
    """W2 (SiLU(W1 x) ⊙ W3 x); `ops.feed_forward.swiglu` with its three weights."""

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.w1 = Linear(d_model, d_ff, device=device, dtype=dtype, generator=generator)
        self.w2 = Linear(d_ff, d_model, device=device, dtype=dtype, generator=generator)
        self.w3 = Linear(d_model, d_ff, device=device, dtype=dtype, generator=generator)

    @contract(held_by="callee")
    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return swiglu(x, self.w1.weight, self.w2.weight, self.w3.weight)


class SiLUFeedForward(nn.Module):
    """W2 SiLU(W1 x); `ops.feed_forward.silu_feed_forward` with its two weights."""

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.w1 = Linear(d_model, d_ff, device=device, dtype=dtype, generator=generator)
        self.w2 = Linear(d_ff, d_model, device=device, dtype=dtype, generator=generator)

    @contract(held_by="callee")
    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        return silu_feed_forward(x, self.w1.weight, self.w2.weight)


@contract
def linear_std(d_in: int, d_out: int) -> float:
    """sqrt(2 / (d_in + d_out)): keeps the variance of signals and of gradients, as far as one number can."""
    return float((2 / (d_in + d_out)) ** 0.5)


def _truncated_normal(
    shape: tuple[int, int],
    std: float,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
    generator: torch.Generator | None,
) -> nn.Parameter:
    weight = torch.empty(shape, device=device, dtype=dtype)
    return nn.Parameter(nn.init.trunc_normal_(weight, std=std, a=-3 * std, b=3 * std, generator=generator))
