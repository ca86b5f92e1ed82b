"""`ops` against torch.nn.functional, forward and backward; the specification is eager and readable, theirs is fused."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from cs336_basics.ops.attention import scaled_dot_product_attention
from cs336_basics.ops.loss import cross_entropy
from cs336_basics.ops.norm import rms_norm
from cs336_basics.ops.softmax import softmax
from tests.bench.measure import Figure, compare


def figures(rounds: int) -> Iterator[Figure]:
    """Each function and its twin on the same tensors."""
    logits, targets = torch.randn(1024, 10_000), torch.randint(10_000, (1024,))
    scores = torch.randn(8, 16, 256, 256)
    x, weight = torch.randn(8, 256, 512), torch.randn(512)
    q, k, v = (torch.randn(8, 16, 256, 32) for _ in range(3))
    pairs: Mapping[str, tuple[Callable[..., Tensor], Callable[..., Tensor], tuple[Tensor, ...]]] = {
        "softmax 8x16x256x256": (softmax, lambda x: functional.softmax(x, dim=-1), (scores,)),
        "rms_norm 8x256x512": (
            rms_norm,
            lambda x, weight: functional.rms_norm(x, (512,), weight, eps=1e-5),
            (x, weight),
        ),
        "cross_entropy 1024x10000": (
            lambda x: cross_entropy(x, targets),
            lambda x: functional.cross_entropy(x, targets),
            (logits,),
        ),
        "causal attention 8x16x256x32": (
            lambda q, k, v: scaled_dot_product_attention(q, k, v, is_causal=True),
            lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, is_causal=True),
            (q, k, v),
        ),
    }
    for name, (ours, theirs, inputs) in pairs.items():
        candidates = {"ours": there_and_back(ours, inputs), "torch": there_and_back(theirs, inputs)}
        yield compare("ops", f"{name}, forward and backward", candidates, rounds=rounds)


def there_and_back(function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Callable[[], object]:
    """A call that computes the function and its gradients for all inputs."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    cotangent = torch.randn_like(function(*inputs))
    return lambda: torch.autograd.grad(function(*leaves), leaves, cotangent)
