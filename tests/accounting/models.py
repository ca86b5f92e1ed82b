"""Models and batches to count on, for every test of this room."""

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from cs336_basics.config import ModelConfig

TINY = ModelConfig(vocab_size=11, context_length=8, d_model=8, n_layers=2, n_heads=2, d_ff=12)


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    """Any small model, over all ablations."""
    position: Any = draw(st.sampled_from(["rope", "none"]))
    n_heads = draw(st.sampled_from([1, 2, 4, 6]))
    d_head = draw(st.sampled_from([2, 4] if position == "rope" else [1, 2, 3]))
    groups = [n for n in range(1, n_heads + 1) if n_heads % n == 0]
    return ModelConfig(
        vocab_size=draw(st.integers(1, 30)),
        context_length=draw(st.integers(6, 9)),
        d_model=n_heads * d_head,
        n_layers=draw(st.integers(1, 3)),
        n_heads=n_heads,
        n_kv_heads=draw(st.sampled_from([None, *groups])),
        d_ff=draw(st.sampled_from([None, 1, 7])),
        norm=draw(st.sampled_from(["pre", "post", "none"])),
        position=position,
        ffn=draw(st.sampled_from(["swiglu", "silu"])),
        tie_embeddings=draw(st.booleans()),
        qk_norm=draw(st.booleans()),
        fuse_qkv=draw(st.booleans()),
    )


batches = st.tuples(st.integers(1, 3), st.integers(1, 6))


def tokens(config: ModelConfig, batch_size: int, seq_len: int, device: str = "cpu") -> Tensor:
    return torch.randint(config.vocab_size, (batch_size, seq_len), device=device)
