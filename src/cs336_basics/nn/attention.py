"""Attention as a module, and the rotary tables that all layers share."""

from collections.abc import Callable
from typing import Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cs336_basics.contracts import contract, require
from cs336_basics.nn.layers import Linear, RMSNorm
from cs336_basics.ops.attention import (
    AttentionFn,
    GrownKVCache,
    KVCache,
    RopeTables,
    multihead_self_attention,
    scaled_dot_product_attention,
)
from cs336_basics.ops.rope import rope, rope_tables


class RotaryEmbedding(nn.Module):
    """`ops.rope.rope` with its tables: one buffer for the whole model, not part of its state.

    The tables have the model's dtype, and float32 where that is narrower.
    """

    cos: Tensor
    sin: Tensor

    def __init__(
        self,
        d_k: int,
        max_seq_len: int,
        *,
        theta: float = 10_000.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.d_k, self.max_seq_len, self.theta = d_k, max_seq_len, theta
        wide = torch.promote_types(dtype or torch.get_default_dtype(), torch.float32)
        cos, sin = rope_tables(max_seq_len, d_k, theta=theta, device=device, dtype=wide)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    @property
    def tables(self) -> RopeTables:
        return RopeTables(self.cos, self.sin)

    @contract(held_by="callee")
    def forward(
        self, x: Float[Tensor, "*batch seq d_k"], token_positions: Int[Tensor, "*#batch seq"]
    ) -> Float[Tensor, "*batch seq d_k"]:
        return rope(x, self.cos, self.sin, token_positions)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # model.bfloat16() would round the angles, model.to_empty() lose them: they are made anew instead.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        wide = torch.promote_types(self.cos.dtype, torch.float32)
        self.cos, self.sin = rope_tables(
            self.max_seq_len, self.d_k, theta=self.theta, device=self.cos.device, dtype=wide
        )
        return self

    def extra_repr(self) -> str:
        return f"d_k={self.d_k}, max_seq_len={self.max_seq_len}, theta={self.theta}"


class MultiHeadSelfAttention(nn.Module):
    """Causal self-attention; `ops.attention.multihead_self_attention` with its four weights.

    The rotary module, if any, and the attention function are the caller's choice.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        n_kv_heads: int | None = None,
        rotary: RotaryEmbedding | None = None,
        qk_norm: bool = False,
        norm_eps: float = 1e-5,
        fuse_qkv: bool = False,
        attention_fn: AttentionFn = scaled_dot_product_attention,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        divides = n_heads >= 1 and d_model % n_heads == 0
        require(divides, "MultiHeadSelfAttention: n_heads must divide d_model = {}, got {}", d_model, n_heads)
        self.n_heads = n_heads
        self.n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        grouped = self.n_kv_heads >= 1 and n_heads % self.n_kv_heads == 0
        require(grouped, "MultiHeadSelfAttention: n_kv_heads must divide n_heads = {}, got {}", n_heads, n_kv_heads)
        d_k = d_model // n_heads
        kv_width = self.n_kv_heads * d_k
        self.fuse_qkv = fuse_qkv
        self.norm_eps = norm_eps
        self.attention_fn = attention_fn
        self.rotary = rotary
        self.q_proj = Linear(d_model, d_model, device=device, dtype=dtype, generator=generator)
        self.k_proj = Linear(d_model, kv_width, device=device, dtype=dtype, generator=generator)
        self.v_proj = Linear(d_model, kv_width, device=device, dtype=dtype, generator=generator)
        self.output_proj = Linear(d_model, d_model, device=device, dtype=dtype, generator=generator)
        self.q_norm = RMSNorm(d_k, eps=norm_eps, device=device, dtype=dtype) if qk_norm else None
        self.k_norm = RMSNorm(d_k, eps=norm_eps, device=device, dtype=dtype) if qk_norm else None

    @contract(held_by="callee")
    def forward(
        self,
        x: Float[Tensor, "*batch seq d_model"],
        cache: KVCache | None = None,
        *,
        token_positions: Int[Tensor, "*#batch seq"] | None = None,
    ) -> tuple[Float[Tensor, "*batch seq d_model"], GrownKVCache]:
        return multihead_self_attention(
            x,
            self.q_proj.weight,
            self.k_proj.weight,
            self.v_proj.weight,
            self.output_proj.weight,
            heads=self.n_heads,
            kv_heads=self.n_kv_heads,
            tables=None if self.rotary is None else self.rotary.tables,
            token_positions=token_positions,
            q_norm=None if self.q_norm is None else self.q_norm.weight,
            k_norm=None if self.k_norm is None else self.k_norm.weight,
            norm_eps=self.norm_eps,
            fuse_qkv=self.fuse_qkv,
            cache=cache,
            attention_fn=self.attention_fn,
        )

    def extra_repr(self) -> str:
        return f"n_heads={self.n_heads}, n_kv_heads={self.n_kv_heads}, fuse_qkv={self.fuse_qkv}"
