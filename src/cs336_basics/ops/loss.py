"""Cross-entropy and the ways to state it: perplexity, bits per byte."""

import math

import torch
from jaxtyping import Float, Float32, Float64, Int
from torch import Tensor

from cs336_basics.contracts import ContractError, contract, require
from cs336_basics.ops._dtype import at_least_float32, require_one_dtype
from cs336_basics.ops.linear import linear
from cs336_basics.ops.softmax import logsumexp


@contract(held_by="proof")
def cross_entropy(
    logits: Float[Tensor, "*batch vocab"],
    targets: Int[Tensor, "*batch"],
    *,
    ignore_index: int | None = None,
    z_loss: float = 0.0,
) -> Float32[Tensor, ""] | Float64[Tensor, ""]:
    """The mean over all positions of logsumexp(logits) - logits[target] (+ z_loss · logsumexp(logits)²).

    Shapes: logits (*batch, vocab), targets (*batch), any signed integer dtype -> (), float32 (float64 for float64).
        Positions whose target is ignore_index count neither above nor below the line; where none is left
        the loss is 0 and so is its gradient.
    Units:  nats per counted position.
    Raises: ContractError on shape or dtype, for no position at all, if z_loss < 0, and on the CPU for a target
        outside [0, vocab) (on a GPU: a device-side assertion).
    Source: the log-partition penalty is PaLM's z-loss, Chowdhery et al. 2022, arXiv:2204.02311.

    >>> cross_entropy(torch.zeros(2, 4), torch.tensor([0, 3]))
    tensor(1.3863)
    """
    require(z_loss >= 0, "cross_entropy: z_loss must be at least 0, got {}", z_loss)
    require(targets.numel() > 0, "cross_entropy: targets must hold at least one position")
    return _mean_loss("cross_entropy", "the last axis of logits", logits, targets, ignore_index, z_loss)


@contract(held_by="proof")
def linear_cross_entropy(
    x: Float[Tensor, "*batch d_model"],
    weight: Float[Tensor, "vocab d_model"],
    targets: Int[Tensor, "*batch"],
    *,
    ignore_index: int | None = None,
    z_loss: float = 0.0,
) -> Float32[Tensor, ""] | Float64[Tensor, ""]:
    """cross_entropy(x Wᵀ, targets): the last linear map of a language model and its loss in one.

    Shapes: x (*batch, d_model), weight (vocab, d_model), targets (*batch), any signed integer dtype -> (), float32
        (float64 for float64). What `cross_entropy` says of ignore_index and z_loss holds here.
    Units:  nats per counted position.
    Raises: ContractError on shape or dtype (x and weight of two dtypes, outside autocast), for no position at all, if
        z_loss < 0, and on the CPU for a target outside [0, vocab) (on a GPU: a device-side assertion).
    Source: one function because its twin in `kernels` need not hold all logits: Wijmans et al. 2024, arXiv:2411.09009.

    >>> linear_cross_entropy(torch.zeros(2, 3), torch.ones(4, 3), torch.tensor([0, 3]))
    tensor(1.3863)
    """
    require_one_dtype("linear_cross_entropy: weight must have x's dtype {}, got {}", x, weight)
    require(z_loss >= 0, "linear_cross_entropy: z_loss must be at least 0, got {}", z_loss)
    require(targets.numel() > 0, "linear_cross_entropy: targets must hold at least one position")
    logits = linear(x, weight)
    return _mean_loss("linear_cross_entropy", "the rows of weight", logits, targets, ignore_index, z_loss)


def _mean_loss(
    function: str, where: str, logits: Tensor, targets: Tensor, ignore_index: int | None, z_loss: float
) -> Tensor:
    """What both functions above compute; `where` names the ids of the vocabulary in an error."""
    ids = targets.long()
    counted = None if ignore_index is None else ids != ignore_index
    if counted is not None:
        ids = ids.masked_fill(~counted, 0)
    wide = at_least_float32(logits)
    try:
        chosen = wide.gather(-1, ids.unsqueeze(-1)).squeeze(-1)
    except (IndexError, RuntimeError) as error:
        if "out of bounds" not in str(error):
            raise
        message = f"{function}: targets must be in [0, {logits.shape[-1]}), {where}: {error}"
        raise ContractError(message) from None
    log_partition = logsumexp(wide)
    losses = log_partition - chosen
    if z_loss > 0:
        losses = losses + z_loss * log_partition.square()
    if counted is None:
        return losses.mean()
    return losses.masked_fill(~counted, 0.0).sum() / counted.sum().clamp(min=1)


@contract(held_by="proof")
def perplexity(loss: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """exp(loss): the number of equally likely tokens that would be as hard to guess.

    Shapes: loss (*shape) -> (*shape), in its dtype.
    Units:  loss in nats per token.
    Raises: ContractError on dtype.
    Source: Jelinek et al. 1977. It depends on the tokenizer: compare models by `bits_per_byte`.

    >>> perplexity(torch.tensor(0.0))
    tensor(1.)
    """
    return torch.exp(loss)


@contract(held_by="proof")
def bits_per_byte(total_nats: float, *, n_bytes: int) -> float:
    """total_nats / (n_bytes · ln 2): what a text costs under a model, whatever its tokenizer.

    Units:  total_nats is the summed (not mean) loss over the text; the result is bits per UTF-8 byte.
    Raises: ContractError if n_bytes < 1.
    Source: Gao et al. 2020, arXiv:2101.00027, section 3.1.

    >>> round(bits_per_byte(8 * math.log(2), n_bytes=4), 6)
    2.0
    """
    require(n_bytes >= 1, "bits_per_byte: n_bytes must be at least 1, got {}", n_bytes)
    return total_nats / (n_bytes * math.log(2))
