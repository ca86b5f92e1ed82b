"""The last linear map and the cross-entropy in one, some rows at a time: the logits are never there all at once."""

import math
from typing import Any, Final

import torch
from jaxtyping import Float, Float32, Float64, Int
from torch import Tensor

from cs336_basics.contracts import ContractError, contract, require
from cs336_basics.kernels._dtype import in_product_dtype, refuse_second
from cs336_basics.ops._dtype import at_least_float32, require_one_dtype

ROWS: Final = 384  # positions whose float32 logits are held at a time: with fewer the products are slower
IN_CACHE: Final = 1 << 18  # logits that are turned into probabilities at a time


@contract
def linear_cross_entropy(
    x: Float[Tensor, "*batch d_model"],
    weight: Float[Tensor, "vocab d_model"],
    targets: Int[Tensor, "*batch"],
    *,
    ignore_index: int | None = None,
    z_loss: float = 0.0,
) -> Float32[Tensor, ""] | Float64[Tensor, ""]:
    """`ops.loss.linear_cross_entropy`, in a fraction of its memory: the logits of 384 positions (in float32) at a time.

    A gradient is made in the forward pass, while the logits are there, and only where it is needed: three products
    in all. With P the exponentials of a row's logits and s its share of the loss over their sum, dx = s (P W) and
    dW = Pᵀ (s x), each less the target's part: the probabilities themselves are never formed.

    Shapes: x (*batch, d_model), weight (vocab, d_model), targets (*batch) -> (), float32 (float64 for float64).
    Units:  nats per counted position.
    Raises: ContractError as `ops.loss.linear_cross_entropy` does; NotImplementedError for a second derivative.
    Source: gradients in the forward pass, without all logits: Wijmans et al. 2024, arXiv:2411.09009, and Hsu et al.
        2024, arXiv:2410.10989. Here whole rows are held, which needs no second look at the weights.
    """
    name = "linear_cross_entropy"
    require_one_dtype("linear_cross_entropy: weight must have x's dtype {}, got {}", x, weight)
    require(z_loss >= 0, "{}: z_loss must be at least 0, got {}", name, z_loss)
    require(targets.numel() > 0, "{}: targets must hold at least one position", name)
    rows, table = in_product_dtype(x.reshape(-1, x.shape[-1]), weight)
    needs = (torch.is_grad_enabled() and t.requires_grad for t in (rows, table))
    loss: Tensor = _loss(rows, table, targets.reshape(-1).long(), ignore_index, z_loss, *needs)[0]
    return loss


@torch.library.custom_op("cs336_basics::linear_cross_entropy", mutates_args=())
def _loss(
    x: Tensor,
    weight: Tensor,
    ids: Tensor,
    ignore_index: int | None,
    z_loss: float,
    for_x: bool,
    for_weight: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss and, where they are asked for, its gradients; an opaque operator, so that compile meets no loop."""
    wide = torch.promote_types(x.dtype, torch.float32)
    share = torch.full(ids.shape, 1 / len(ids), dtype=wide, device=x.device)
    counted = torch.ones_like(ids, dtype=torch.bool) if ignore_index is None else ids != ignore_index
    if ignore_index is not None:
        share = counted / counted.sum().clamp(min=1).to(wide)
        ids = ids.masked_fill(~counted, 0)
    grad_x = torch.empty_like(x if for_x else x[:0], memory_format=torch.contiguous_format)
    # Many small parts are summed, so in float32 at least.
    grad_weight = torch.zeros_like(weight if for_weight else weight[:0], dtype=wide)
    loss = torch.zeros((), dtype=wide, device=x.device)
    rows = ROWS * 4 // x.element_size()
    logits = torch.empty(min(rows, len(x)), len(weight), dtype=x.dtype, device=x.device)
    for start in range(0, len(x), rows):
        at = slice(start, start + rows)
        part, hits, part_share = x[at], ids[at], share[at]
        powers, log_partition, chosen, scale = _exponentials(part, weight, hits, logits[: len(part)])
        losses = log_partition - chosen
        scale *= part_share  # 1 / Σ exp makes probabilities of the exponentials
        if z_loss > 0:  # 0 times an infinite square would be NaN
            losses += z_loss * log_partition.square()
            scale *= 1 + 2 * z_loss * log_partition
        loss += (losses.masked_fill(~counted[at], 0.0) * part_share).sum()
        if for_x:
            pulled = weight[hits] * part_share.unsqueeze(-1)
            torch.sub((powers @ weight) * scale.unsqueeze(-1), pulled, out=grad_x[at])
        if for_weight:
            _add_product(grad_weight, powers.mT, (part * scale.unsqueeze(-1)).to(x.dtype))
    if for_weight:
        grad_weight.index_add_(0, ids, x * -share.unsqueeze(-1))
    return loss, grad_x, grad_weight.to(weight.dtype)


def _exponentials(x: Tensor, weight: Tensor, ids: Tensor, logits: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """exp(x Wᵀ - max) in x's dtype, the log of the partition, the logit of each id, and what makes the first sum to 1.

    In base 2, whose exponential is more than twice as quick: the factor log₂ e is the product's own.
    """
    torch.addmm(logits, x, weight.mT, beta=0, alpha=math.log2(math.e), out=logits)
    try:
        chosen = at_least_float32(logits.gather(1, ids.unsqueeze(-1)).squeeze(-1))
    except (IndexError, RuntimeError) as error:
        if "out of bounds" not in str(error):
            raise
        vocab = len(weight)
        message = f"linear_cross_entropy: targets must be in [0, {vocab}), the rows of weight: {error}"
        raise ContractError(message) from None
    top, total = torch.empty_like(chosen), torch.empty_like(chosen)
    step = max(1, IN_CACHE // len(weight))
    for start in range(0, len(x), step):
        at = slice(start, start + step)
        wide = at_least_float32(logits[at])
        most = wide.amax(-1, keepdim=True)
        # inf - inf would be NaN where the answer is plainly ±inf.
        most.masked_fill_(most.isinf(), 0.0)
        torch.sub(wide, most, out=wide).exp2_()
        top[at], total[at] = most.squeeze(-1), wide.sum(-1)
        if logits.dtype == torch.float16:  # probabilities already: sums of more would leave its numbers
            wide /= total[at].unsqueeze(-1)
        if wide.dtype != logits.dtype:
            logits[at] = wide
    scale = torch.ones_like(total) if logits.dtype == torch.float16 else 1 / total
    return logits, (top + total.log2()) * math.log(2), chosen * math.log(2), scale


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    if a.dtype == total.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b


@_loss.register_fake
def _shapes(
    x: Tensor, weight: Tensor, _: Tensor, __: int | None, ___: float, for_x: bool, for_weight: bool
) -> tuple[Tensor, Tensor, Tensor]:
    loss = x.new_empty((), dtype=torch.promote_types(x.dtype, torch.float32))
    return (
        loss,
        x.new_empty((x if for_x else x[:0]).shape),
        weight.new_empty((weight if for_weight else weight[:0]).shape),
    )


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*output[1:], *inputs[:2])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)  # or zeros as large as the weight would be made for them


def _backward(ctx: Any, grad: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
    grads: tuple[Tensor | None, ...] = (None, None)
    if grad is not None:
        # An operator of its own where a second derivative may be asked for: it would be wrong, and is refused.
        grads = (_times_once if torch.is_grad_enabled() else _times)(grad, *ctx.saved_tensors)
    return *(g if needed else None for g, needed in zip(grads, ctx.needs_input_grad, strict=False)), *[None] * 5


def _times(grad: Tensor, grad_x: Tensor, grad_weight: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
    # A pass over a gradient as large as the weight is worth a look at a number, where looking does not wait.
    if type(grad) is Tensor and grad.device.type == "cpu" and not torch.compiler.is_compiling() and grad.item() == 1:
        return grad_x, grad_weight
    return (grad_x * grad).to(grad_x.dtype), (grad_weight * grad).to(grad_weight.dtype)


@torch.library.custom_op("cs336_basics::linear_cross_entropy_times", mutates_args=())
def _times_once(
    grad: Tensor,
    grad_x: Tensor,
    grad_weight: Tensor,
    x: Tensor,  # noqa: ARG001  # that it was given x and weight is what a second derivative goes by
    weight: Tensor,  # noqa: ARG001  # as x
) -> tuple[Tensor, Tensor]:
    return (grad_x * grad).to(grad_x.dtype), (grad_weight * grad).to(grad_weight.dtype)


@_times_once.register_fake
def _times_shapes(_: Tensor, grad_x: Tensor, grad_weight: Tensor, *__: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(grad_x), torch.empty_like(grad_weight)


_loss.register_autograd(_backward, setup_context=_keep)
_times_once.register_autograd(refuse_second)
