"""From logits to the next token: temperature, top-k, top-p, min-p, and one draw.

The filters take logits to logits: what is left out becomes -inf, the rest is untouched, so they compose.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cs336_basics.contracts import ContractError, contract, require
from cs336_basics.ops._dtype import at_least_float32
from cs336_basics.ops.softmax import softmax


@contract(held_by="proof")
def keep_top_k(logits: Float[Tensor, "*batch vocab"], *, k: int) -> Float[Tensor, "*batch vocab"]:
    """Leave out all but the k largest logits (all of them where k >= vocab); of equals the lower id stays.

    Shapes: logits (*batch, vocab) -> the same, in their dtype.
    Raises: ContractError on dtype, for no token at all, or if k < 1.
    Source: Fan et al. 2018, arXiv:1805.04833.

    >>> keep_top_k(torch.tensor([1.0, 3.0, 2.0]), k=2)
    tensor([-inf, 3., 2.])
    """
    require(k >= 1, "keep_top_k: k must be at least 1, got {}", k)
    _require_tokens("keep_top_k", logits)
    order = logits.argsort(dim=-1, descending=True, stable=True)
    return logits.scatter(-1, order[..., k:], -torch.inf)


@contract(held_by="proof")
def keep_top_p(logits: Float[Tensor, "*batch vocab"], *, p: float) -> Float[Tensor, "*batch vocab"]:
    """Leave out all but the smallest set of most likely tokens whose probabilities sum to at least p.

    Shapes: logits (*batch, vocab) -> the same, in their dtype. Never empty; p = 1 keeps everything.
    Raises: ContractError on dtype, for no token at all, or if p is not in (0, 1].
    Source: Holtzman et al. 2020, arXiv:1904.09751 (nucleus sampling).

    >>> keep_top_p(torch.tensor([0.5, 0.3, 0.2]).log(), p=0.6).exp()
    tensor([0.5000, 0.3000, 0.0000])
    """
    require(0 < p <= 1, "keep_top_p: p must be in (0, 1], got {}", p)
    _require_tokens("keep_top_p", logits)
    if p == 1:
        return logits
    wide = at_least_float32(logits)
    order = wide.argsort(dim=-1, descending=True, stable=True)
    sorted_p = softmax(wide.gather(-1, order))
    # A token stays while those before it have not reached p; the first has none before it.
    before = sorted_p.cumsum(-1) - sorted_p
    drop = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(drop, -torch.inf)


@contract(held_by="proof")
def keep_min_p(logits: Float[Tensor, "*batch vocab"], *, min_p: float) -> Float[Tensor, "*batch vocab"]:
    """Leave out every token less likely than min_p times the most likely one.

    Shapes: logits (*batch, vocab) -> the same, in their dtype. Never empty; min_p = 0 keeps everything.
    Raises: ContractError on dtype, for no token at all, or if min_p is not in [0, 1].
    Source: Nguyen et al. 2024, arXiv:2407.01082. A ratio of probabilities is a difference of logits: no softmax.

    >>> keep_min_p(torch.tensor([0.6, 0.3, 0.1]).log(), min_p=0.4).exp()
    tensor([0.6000, 0.3000, 0.0000])
    """
    require(0 <= min_p <= 1, "keep_min_p: min_p must be in [0, 1], got {}", min_p)
    _require_tokens("keep_min_p", logits)
    if min_p == 0:
        return logits
    wide = at_least_float32(logits)
    floor = wide.amax(-1, keepdim=True) + math.log(min_p)
    return logits.masked_fill(wide < floor, -torch.inf)


@contract(held_by="proof")
def sample(
    logits: Float[Tensor, "*batch vocab"],
    *,
    generator: torch.Generator | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> Int64[Tensor, "*batch"]:
    """Draw one id from softmax(logits / temperature) after top-k, top-p and min-p, in this order.

    Shapes: logits (*batch, vocab) -> ids (*batch), int64.
        temperature 0 is the most likely token (the lowest id of equals), drawing nothing from the generator.
    Raises: ContractError on dtype, for no token at all, if temperature < 0 or not finite, for a filter's own
        argument, and on the CPU for a row whose largest logit is not finite (on a GPU: a device-side assertion).
    Source: the order is the one of Hugging Face's generate. The generator must live on the logits' device.

    >>> sample(torch.tensor([0.0, 5.0, 1.0]), temperature=0.0)
    tensor(1)
    """
    finite = 0 <= temperature < float("inf")
    require(finite, "sample: temperature must be at least 0 and finite, got {}", temperature)
    _require_tokens("sample", logits)
    if temperature == 0:
        return logits.argmax(-1)
    wide = at_least_float32(logits)
    # Shifted first, so that a tiny temperature cannot overflow the largest one; never so tiny that it rounds to 0.
    scaled = (wide - wide.amax(-1, keepdim=True)) / max(temperature, torch.finfo(wide.dtype).tiny)
    if top_k is not None:
        scaled = keep_top_k(scaled, k=top_k)
    if top_p is not None:
        scaled = keep_top_p(scaled, p=top_p)
    if min_p is not None:
        scaled = keep_min_p(scaled, min_p=min_p)
    probabilities = softmax(scaled)
    # multinomial spends its random numbers in the order of memory: laid out alike, equal logits give equal ids.
    rows = probabilities.reshape(-1, probabilities.shape[-1]).contiguous()
    try:
        drawn = torch.multinomial(rows, 1, generator=generator)
    except RuntimeError as error:
        if "probability tensor" not in str(error):
            raise
        raise ContractError(f"sample: logits must have a finite largest entry in every row: {error}") from None
    return drawn.reshape(logits.shape[:-1])


def _require_tokens(name: str, logits: Tensor) -> None:
    require(logits.shape[-1] > 0, "{}: logits must hold at least one token", name)
