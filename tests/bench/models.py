"""Other people's models at the shape of a ModelConfig, for a training step to be measured against.

Each is a function of a config that returns the model and (ids) -> logits. transformers and litgpt come from PyPI;
nanoGPT is no package: its model is written again here, as small as its speed allows.
"""

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from cs336_basics.config import ModelConfig


class Peer(NamedTuple):
    model: nn.Module
    logits: Callable[[Tensor], Tensor]


def transformers(config: ModelConfig, attention: str = "sdpa") -> Peer:
    """Hugging Face's Llama."""
    room: Any = importlib.import_module("transformers")
    shape = room.LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.d_model,
        intermediate_size=config.ffn_width,
        num_hidden_layers=config.n_layers,
        num_attention_heads=config.n_heads,
        num_key_value_heads=config.kv_heads,
        max_position_embeddings=config.context_length,
        attn_implementation=attention,
        use_cache=False,
        tie_word_embeddings=False,
    )
    model = room.LlamaForCausalLM(shape)
    return Peer(model, lambda ids: model(input_ids=ids).logits)


def transformers_eager(config: ModelConfig) -> Peer:
    """The same with its attention written out."""
    return transformers(config, "eager")


def litgpt(config: ModelConfig) -> Peer:
    """Lightning's GPT in Llama's arrangement."""
    room: Any = importlib.import_module("litgpt.model")
    shape = room.Config(
        name="llama",
        block_size=config.context_length,
        vocab_size=config.vocab_size,
        padded_vocab_size=config.vocab_size,
        n_layer=config.n_layers,
        n_head=config.n_heads,
        n_embd=config.d_model,
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
        intermediate_size=config.ffn_width,
    )
    model = room.GPT(shape)
    return Peer(model, model)


def nanogpt(config: ModelConfig) -> Peer:
    """Karpathy's GPT-2: learned positions, LayerNorm, GELU over four times the width, which is as many weights as
    SwiGLU over 8/3 of it."""
    model = _NanoGPT(config)
    return Peer(model, model)


PEERS: Final = {"transformers": (transformers, transformers_eager), "litgpt": (litgpt,), None: (nanogpt,)}


def installed() -> list[Callable[[ModelConfig], Peer]]:
    """The peers of this machine; of a missing one it is said so."""
    found: list[Callable[[ModelConfig], Peer]] = []
    for package, makers in PEERS.items():
        if package is None or importlib.util.find_spec(package):
            found += makers
        else:
            print(f"{package} is not installed: no figure against it")
    return found


class _NanoGPT(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.d_model
        self.tokens = nn.Embedding(config.vocab_size, width)
        self.positions = nn.Embedding(config.context_length, width)
        self.blocks = nn.ModuleList(_NanoBlock(width, config.n_heads) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(width, bias=False)
        self.head = nn.Linear(width, config.vocab_size, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x: Tensor = self.tokens(ids) + self.positions(torch.arange(ids.shape[-1]))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


class _NanoBlock(nn.Module):
    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm1, self.norm2 = (nn.LayerNorm(width, bias=False) for _ in range(2))
        self.qkv, self.out = (nn.Linear(width, n * width, bias=False) for n in (3, 1))
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, seq, width = x.shape
        q, k, v = (
            part.view(batch, seq, self.n_heads, -1).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).split(width, dim=-1)
        )
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, seq, width))
        added: Tensor = self.down(functional.gelu(self.up(self.norm2(x))))
        return x + added
