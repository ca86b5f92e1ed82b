"""Thin modules: they own weights and call `ops`."""

from cs336_basics.nn.attention import MultiHeadSelfAttention, RotaryEmbedding
from cs336_basics.nn.block import TransformerBlock
from cs336_basics.nn.layers import Embedding, Linear, RMSNorm, SiLUFeedForward, SwiGLU
from cs336_basics.nn.model import TransformerLM

__all__ = [
    "Embedding",
    "Linear",
    "MultiHeadSelfAttention",
    "RMSNorm",
    "RotaryEmbedding",
    "SiLUFeedForward",
    "SwiGLU",
    "TransformerBlock",
    "TransformerLM",
]
