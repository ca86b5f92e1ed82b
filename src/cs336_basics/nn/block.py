"""The Transformer block: where the ablations of a ModelConfig become parts; position and tying are the model's."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cs336_basics.config import ModelConfig
from cs336_basics.contracts import contract
from cs336_basics.nn.attention import MultiHeadSelfAttention, RotaryEmbedding
from cs336_basics.nn.layers import Identity, RMSNorm, SiLUFeedForward, SwiGLU
from cs336_basics.ops.attention import AttentionFn, GrownKVCache, KVCache, scaled_dot_product_attention
from cs336_basics.ops.transformer import BlockFn, post_norm_block, pre_norm_block


class TransformerBlock(nn.Module):
    """Attention and a feed-forward layer around the residual stream; `ops.transformer` with weights."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        rotary: RotaryEmbedding | None = None,
        attention_fn: AttentionFn = scaled_dot_product_attention,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        width, eps = config.d_model, config.norm_eps
        self.attn = MultiHeadSelfAttention(
            width,
            config.n_heads,
            n_kv_heads=config.n_kv_heads,
            rotary=rotary,
            qk_norm=config.qk_norm,
            norm_eps=eps,
            fuse_qkv=config.fuse_qkv,
            attention_fn=attention_fn,
            device=device,
            dtype=dtype,
            generator=generator,
        )
        feed_forward = SwiGLU if config.ffn == "swiglu" else SiLUFeedForward
        self.ffn = feed_forward(width, config.ffn_width, device=device, dtype=dtype, generator=generator)
        normed = config.norm != "none"
        self.ln1 = RMSNorm(width, eps=eps, device=device, dtype=dtype) if normed else Identity()
        self.ln2 = RMSNorm(width, eps=eps, device=device, dtype=dtype) if normed else Identity()
        self.arrangement: BlockFn = post_norm_block if config.norm == "post" else pre_norm_block

    @contract(held_by="callee")
    def forward(
        self, x: Float[Tensor, "*batch seq d_model"], cache: KVCache | None = None
    ) -> tuple[Float[Tensor, "*batch seq d_model"], GrownKVCache]:
        return self.arrangement(x, cache, attention=self.attn, feed_forward=self.ffn, ln1=self.ln1, ln2=self.ln2)
