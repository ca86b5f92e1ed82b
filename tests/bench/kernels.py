"""Each kernel beside torch's own operator, forward and backward, in float32 on one thread."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from cs336_basics.kernels.attention import scaled_dot_product_attention
from cs336_basics.kernels.loss import linear_cross_entropy
from tests.bench.measure import Bound, Figure, compare
from tests.bench.ops import there_and_back

# Sizes, and the most of torch's time that ours may take.
ATTENTION: Final = {(8, 16, 256, 32): 1.15, (16, 4, 128, 32): 1.15, (1, 12, 1024, 64): 1.15}
LOSS: Final = {(1024, 512, 10_000): 0.85, (2048, 128, 4096): 0.45, (1024, 768, 50_000): 0.9}


def figures(rounds: int) -> Iterator[Figure]:
    """Causal attention, and the last linear map with its loss."""
    for (batch, heads, seq, d_k), most in ATTENTION.items():
        inputs = (torch.randn(batch, heads, seq, d_k), torch.randn(batch, heads, seq, d_k))
        yield figure(
            f"causal attention {batch}x{heads}x{seq}x{d_k}",
            lambda q, k, v: scaled_dot_product_attention(q, k, v, is_causal=True),
            lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, is_causal=True),
            (*inputs, torch.randn(batch, heads, seq, d_k)),
            most,
            rounds,
        )
    for (n_tokens, d_model, vocab), most in LOSS.items():
        targets = torch.randint(vocab, (n_tokens,))
        yield figure(
            f"linear and cross-entropy {n_tokens}x{d_model}x{vocab}",
            lambda x, weight, targets=targets: linear_cross_entropy(x, weight, targets),
            lambda x, weight, targets=targets: functional.cross_entropy(functional.linear(x, weight), targets),
            (torch.randn(n_tokens, d_model), torch.randn(vocab, d_model) / d_model**0.5),
            most,
            rounds,
        )


def figure(
    name: str,
    ours: Callable[..., Tensor],
    theirs: Callable[..., Tensor],
    inputs: tuple[Tensor, ...],
    most: float,
    rounds: int,
) -> Figure:
    candidates = {"ours": there_and_back(ours, inputs), "torch": there_and_back(theirs, inputs)}
    found = compare("kernels", f"{name}, both ways", candidates, rounds=rounds)
    return replace(found, must={"ours/torch": Bound("<=", most)})
