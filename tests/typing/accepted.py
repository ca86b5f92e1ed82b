"""A program that mypy --strict must accept: a contract keeps the exact type of what it decorates.

Nothing here runs; `assert_type` is read by mypy alone.
"""

from typing import assert_type

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cs336_basics.config import ModelConfig
from cs336_basics.contracts import contract
from cs336_basics.nn import TransformerLM
from cs336_basics.ops.attention import (
    AttentionFn,
    KVCache,
    causal_mask,
    multihead_self_attention,
    scaled_dot_product_attention,
)
from cs336_basics.ops.linear import linear
from cs336_basics.ops.loss import bits_per_byte, cross_entropy
from cs336_basics.ops.norm import rms_norm
from cs336_basics.ops.rope import rope_tables


def results_have_the_types_that_were_written(x: Tensor, weight: Tensor) -> None:
    assert_type(rms_norm(x, weight), Tensor)
    assert_type(rms_norm(x, weight, eps=1e-6), Tensor)
    assert_type(rms_norm(weight=weight, x=x, eps=0), Tensor)
    assert_type(rope_tables(8, 4, theta=500.0, device="cpu"), tuple[Tensor, Tensor])
    assert_type(bits_per_byte(2.0, n_bytes=3), float)
    assert_type(cross_entropy(x, weight.long(), ignore_index=None), Tensor)
    y, cache = multihead_self_attention(x, weight, weight, weight, weight, heads=2)
    assert_type(y, Tensor)
    assert_type(cache, KVCache)
    assert_type(cache.length, int)


def a_parameter_is_a_tensor(x: Tensor) -> Tensor:
    return linear(x, torch.nn.Parameter(x))


def another_attention_fits_where_one_is_asked_for(x: Tensor) -> None:
    def mine(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, is_causal: bool = False) -> Tensor:
        return q + k + v if mask is None or is_causal else q

    functions: list[AttentionFn] = [mine, scaled_dot_product_attention]
    model = TransformerLM(ModelConfig(), attention_fn=mine)
    assert_type(model.extend(x), tuple[Tensor, tuple[KVCache, ...]])
    assert_type([function(x, x, x, causal_mask(2, 2)) for function in functions], list[Tensor])


@contract
def ours(ids: Int[Tensor, "*batch seq"], *, scale: float = 1.0) -> Float[Tensor, "*batch seq"]:
    return ids * scale


class Holder:
    @contract
    def method(self, n: int) -> str:
        return str(n)

    @staticmethod
    @contract
    def helper(n: int) -> str:
        return str(n)


def ones_own_functions_keep_their_types(ids: Tensor) -> None:
    assert_type(ours(ids, scale=2), Tensor)
    assert_type(Holder().method(1), str)
    assert_type(Holder.helper(1), str)
