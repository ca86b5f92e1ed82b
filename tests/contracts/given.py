"""What a signature cannot say: for each function, the values and sizes that its proof and its laws are given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn

from cs336_basics.config import ModelConfig
from cs336_basics.nn import (
    Embedding,
    Linear,
    MultiHeadSelfAttention,
    RMSNorm,
    RotaryEmbedding,
    SiLUFeedForward,
    SwiGLU,
    TransformerBlock,
    TransformerLM,
)
from cs336_basics.nn.layers import Identity
from cs336_basics.ops.attention import KVCache, RopeTables


@dataclass(frozen=True)
class Given:
    """Values for `prove`, and for `laws` those and more."""

    proof: Mapping[str, Any] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def laws(self) -> dict[str, Any]:
        return {**self.proof, **self.more}


def attend(x: Tensor, cache: KVCache | None) -> tuple[Tensor, KVCache]:
    """The least that can stand for attention, whatever cache it is given: a position's key is its own mean."""
    x = x if cache is None else x.to(cache.keys.dtype)
    key = x.mean(-1, keepdim=True).unsqueeze(-3)
    if cache is None:
        return x * 0.5, KVCache(key, key)
    grown = (torch.cat((old, key.expand(*old.shape[:-2], x.shape[-2], old.shape[-1])), -2) for old in cache)
    return x * 0.5, KVCache(*grown)


def twice(x: Tensor) -> Tensor:
    return 2 * x


def embed(ids: Tensor) -> Tensor:
    return torch.stack((ids, ids + 1, -ids), dim=-1).to(torch.float64)


def _tables(sizes: Mapping[str, Any]) -> RopeTables:
    angles = torch.outer(torch.arange(16.0), torch.arange(1.0, sizes["half"] + 1))
    return RopeTables(angles.cos(), angles.sin())


def _caches(sizes: Mapping[str, Any]) -> tuple[KVCache, ...]:
    shape = (*sizes["batch"], 2, sizes["cached"], 4)
    return tuple(KVCache(torch.full(shape, 0.5 + layer), torch.full(shape, 0.25 - layer)) for layer in range(2))


_PARTS: Final = {"attention": attend, "feed_forward": twice, "ln1": twice, "ln2": twice}
_WHOLE: Final = {"blocks": [attend, attend], "embed": embed, "final_norm": twice, "head": twice}
_GRADS: Final = [torch.tensor([3.0, 4.0]), None, torch.tensor(1.0)]

GIVEN: Final[dict[str, tuple[Given, ...]]] = {
    "ops.attention.multihead_self_attention": (
        Given(more={"heads": 2, "kv_heads": 1, "d_k": "2*half"}),
        Given(more={"heads": 2, "kv_heads": 2, "d_k": "2*half", "tables": _tables, "token_positions": 16}),
    ),
    "ops.transformer.pre_norm_block": (Given(_PARTS),),
    "ops.transformer.post_norm_block": (Given(_PARTS),),
    "ops.transformer.transformer_lm": (Given(_WHOLE, {"ids": 5}),),
    "optim.clipping.global_norm": (Given(more={"tensors": _GRADS}),),
    "optim.clipping.clip_by_global_norm": (Given(more={"tensors": _GRADS, "max_norm": 0.5}),),
}

# These write what they are given, as their contracts say: the laws are for functions that do not.
WRITES: Final = frozenset({"optim.clipping.clip_grad_norm"})

_CONFIG: Final = ModelConfig(vocab_size=11, context_length=16, d_model=8, n_layers=2, n_heads=2, d_ff=12)
_F64: Final = torch.float64

# By method: how to make its module, and what is given.
MODULES: Final[dict[str, tuple[Callable[[], nn.Module], tuple[Given, ...]]]] = {
    "nn.layers.Linear.forward": (lambda: Linear(3, 4, dtype=_F64), (Given(more={"d_in": 3, "d_out": 4}),)),
    "nn.layers.Embedding.forward": (lambda: Embedding(7, 4), (Given(more={"ids": 7, "d_model": 4}),)),
    "nn.layers.RMSNorm.forward": (lambda: RMSNorm(4, dtype=_F64), (Given(more={"d_model": 4}),)),
    "nn.layers.Identity.forward": (Identity, (Given(),)),
    "nn.layers.SwiGLU.forward": (lambda: SwiGLU(4, 6, dtype=_F64), (Given(more={"d_model": 4}),)),
    "nn.layers.SiLUFeedForward.forward": (lambda: SiLUFeedForward(4, 6, dtype=_F64), (Given(more={"d_model": 4}),)),
    "nn.attention.RotaryEmbedding.forward": (
        lambda: RotaryEmbedding(4, 16, dtype=_F64),
        (Given(more={"d_k": 4, "token_positions": 16}),),
    ),
    "nn.attention.MultiHeadSelfAttention.forward": (
        lambda: MultiHeadSelfAttention(
            8, 4, n_kv_heads=2, qk_norm=True, rotary=RotaryEmbedding(2, 16, dtype=_F64), dtype=_F64
        ),
        (Given(more={"d_model": 8, "kv_heads": 2, "d_k": 2, "d_v": 2, "token_positions": 16}),),
    ),
    "nn.block.TransformerBlock.forward": (
        lambda: TransformerBlock(_CONFIG, dtype=_F64),
        (Given(more={"d_model": 8, "kv_heads": 2, "d_k": 4, "d_v": 4}),),
    ),
    "nn.model.TransformerLM.forward": (
        lambda: TransformerLM(_CONFIG, dtype=_F64),
        (Given(more={"ids": 11, "vocab": 11}),),
    ),
    "nn.model.TransformerLM.extend": (
        lambda: TransformerLM(_CONFIG, dtype=_F64),
        (Given(more={"ids": 11, "vocab": 11, "cache": None}), Given(more={"ids": 11, "vocab": 11, "cache": _caches})),
    ),
}
