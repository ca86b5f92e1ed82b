"""Glue, and no logic: the names that outside test suites call, each one call into this library.

Arguments that repeat what the shapes of the others already say are there for the names' sake.
"""
# ruff: noqa: ARG001  # arguments that are there for the names' sake

import os
from collections.abc import Iterable, Mapping
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn

from cs336_basics.config import ModelConfig
from cs336_basics.data.batches import get_batch
from cs336_basics.nn import RotaryEmbedding, TransformerBlock, TransformerLM
from cs336_basics.ops.attention import RopeTables, multihead_self_attention, scaled_dot_product_attention
from cs336_basics.ops.feed_forward import silu, swiglu
from cs336_basics.ops.linear import embedding, linear
from cs336_basics.ops.loss import cross_entropy
from cs336_basics.ops.norm import rms_norm
from cs336_basics.ops.rope import rope, rope_tables
from cs336_basics.ops.softmax import softmax
from cs336_basics.optim import AdamW, clip_grad_norm, cosine_schedule
from cs336_basics.tokenizer import Tokenizer, train_bpe
from cs336_basics.train.checkpoint import load_checkpoint, save_checkpoint


def run_linear(d_in: int, d_out: int, weights: Tensor, in_features: Tensor) -> Tensor:
    return linear(in_features, weights)


def run_embedding(vocab_size: int, d_model: int, weights: Tensor, token_ids: Tensor) -> Tensor:
    return embedding(token_ids, weights)


def run_swiglu(
    d_model: int, d_ff: int, w1_weight: Tensor, w2_weight: Tensor, w3_weight: Tensor, in_features: Tensor
) -> Tensor:
    return swiglu(in_features, w1_weight, w2_weight, w3_weight)


def run_scaled_dot_product_attention(Q: Tensor, K: Tensor, V: Tensor, mask: Tensor | None = None) -> Tensor:
    return scaled_dot_product_attention(Q, K, V, mask)


def run_multihead_self_attention(
    d_model: int,
    num_heads: int,
    q_proj_weight: Tensor,
    k_proj_weight: Tensor,
    v_proj_weight: Tensor,
    o_proj_weight: Tensor,
    in_features: Tensor,
) -> Tensor:
    weights = (q_proj_weight, k_proj_weight, v_proj_weight, o_proj_weight)
    return multihead_self_attention(in_features, *weights, heads=num_heads)[0]


def run_multihead_self_attention_with_rope(
    d_model: int,
    num_heads: int,
    max_seq_len: int,
    theta: float,
    q_proj_weight: Tensor,
    k_proj_weight: Tensor,
    v_proj_weight: Tensor,
    o_proj_weight: Tensor,
    in_features: Tensor,
    token_positions: Tensor | None = None,
) -> Tensor:
    weights = (q_proj_weight, k_proj_weight, v_proj_weight, o_proj_weight)
    tables = _tables(max_seq_len, d_model // num_heads, theta, in_features)
    return multihead_self_attention(
        in_features, *weights, heads=num_heads, tables=tables, token_positions=token_positions
    )[0]


def run_rope(d_k: int, theta: float, max_seq_len: int, in_query_or_key: Tensor, token_positions: Tensor) -> Tensor:
    return rope(in_query_or_key, *_tables(max_seq_len, d_k, theta, in_query_or_key), token_positions)


def run_transformer_block(
    d_model: int,
    num_heads: int,
    d_ff: int,
    max_seq_len: int,
    theta: float,
    weights: Mapping[str, Tensor],
    in_features: Tensor,
) -> Tensor:
    config = ModelConfig(
        context_length=max_seq_len, d_model=d_model, n_heads=num_heads, d_ff=d_ff, rope_theta=theta, norm_eps=1e-5
    )
    device, dtype = in_features.device, in_features.dtype
    rotary = RotaryEmbedding(config.d_head, max_seq_len, theta=theta, device=device, dtype=dtype)
    block = TransformerBlock(config, rotary=rotary, device=device, dtype=dtype)
    block.load_state_dict(weights)
    result: Tensor = block(in_features)[0]
    return result


def run_transformer_lm(
    vocab_size: int,
    context_length: int,
    d_model: int,
    num_layers: int,
    num_heads: int,
    d_ff: int,
    rope_theta: float,
    weights: Mapping[str, Tensor],
    in_indices: Tensor,
) -> Tensor:
    config = ModelConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=d_model,
        n_layers=num_layers,
        n_heads=num_heads,
        d_ff=d_ff,
        rope_theta=rope_theta,
        norm_eps=1e-5,
    )
    model = TransformerLM(config, device=in_indices.device, dtype=weights["lm_head.weight"].dtype)
    model.load_state_dict(weights)
    result: Tensor = model(in_indices)
    return result


def run_rmsnorm(d_model: int, eps: float, weights: Tensor, in_features: Tensor) -> Tensor:
    return rms_norm(in_features, weights, eps=eps)


def run_silu(in_features: Tensor) -> Tensor:
    return silu(in_features)


def run_get_batch(
    dataset: np.ndarray[Any, Any], batch_size: int, context_length: int, device: str
) -> tuple[Tensor, Tensor]:
    return get_batch(dataset, batch_size, context_length, device)


def run_softmax(in_features: Tensor, dim: int) -> Tensor:
    return softmax(in_features, dim=dim)


def run_cross_entropy(inputs: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(inputs, targets)


def run_gradient_clipping(parameters: Iterable[nn.Parameter], max_l2_norm: float) -> None:
    clip_grad_norm(parameters, max_l2_norm)


def get_adamw_cls() -> type[torch.optim.Optimizer]:
    return AdamW


def run_get_lr_cosine_schedule(
    it: int, max_learning_rate: float, min_learning_rate: float, warmup_iters: int, cosine_cycle_iters: int
) -> float:
    return cosine_schedule(
        it,
        max_lr=max_learning_rate,
        min_lr=min_learning_rate,
        warmup_steps=warmup_iters,
        cosine_steps=cosine_cycle_iters,
    )


def run_save_checkpoint(
    model: nn.Module, optimizer: torch.optim.Optimizer, iteration: int, out: str | os.PathLike[str] | IO[bytes]
) -> None:
    save_checkpoint(model, optimizer, iteration, out)


def run_load_checkpoint(
    src: str | os.PathLike[str] | IO[bytes], model: nn.Module, optimizer: torch.optim.Optimizer
) -> int:
    return load_checkpoint(src, model, optimizer)


def get_tokenizer(
    vocab: dict[int, bytes], merges: list[tuple[bytes, bytes]], special_tokens: list[str] | None = None
) -> Tokenizer:
    return Tokenizer(vocab, merges, special_tokens)


def run_train_bpe(
    input_path: str | os.PathLike[str], vocab_size: int, special_tokens: list[str], **kwargs: Any
) -> tuple[dict[int, bytes], list[tuple[bytes, bytes]]]:
    return train_bpe(input_path, vocab_size, special_tokens, **kwargs)


def _tables(max_seq_len: int, d_k: int, theta: float, like: Tensor) -> RopeTables:
    wide = torch.promote_types(like.dtype, torch.float32)
    return RopeTables(*rope_tables(max_seq_len, d_k, theta=theta, device=like.device, dtype=wide))
