"""One optimizer update: gradients of the parts of a batch, clipping, the update itself."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Int
from torch import Tensor
from torch.optim import Optimizer

from cs336_basics.contracts import contract, require
from cs336_basics.nn import TransformerLM
from cs336_basics.ops.loss import linear_cross_entropy
from cs336_basics.optim import clip_grad_norm

LossFn = Callable[[Tensor, Tensor], Tensor]


class LinearCrossEntropyFn(Protocol):
    """`ops.loss.linear_cross_entropy`, or a twin of it."""

    def __call__(self, x: Tensor, weight: Tensor, targets: Tensor, *, z_loss: float = 0.0) -> Tensor: ...


class StepResult(NamedTuple):
    """Tensors still on the device: reading them waits for it."""

    loss: Tensor  # mean over the batch, nats per token
    grad_norm: Tensor  # global norm before clipping

    def numbers(self) -> tuple[float, float]:
        """Both, read from the device."""
        return float(self.loss), float(self.grad_norm)


def loss_fn(
    model: TransformerLM,
    *,
    z_loss: float = 0.0,
    linear_cross_entropy: LinearCrossEntropyFn = linear_cross_entropy,
) -> LossFn:
    """(ids, targets) -> the mean cross-entropy of the model's logits, which the function given need not hold."""

    def loss(ids: Tensor, targets: Tensor) -> Tensor:
        return linear_cross_entropy(model.hidden(ids), model.head_weight, targets, z_loss=z_loss)

    return loss


@contract
def train_step(
    loss: LossFn,
    optimizer: Optimizer,
    batch: tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]],
    *,
    lr: float,
    max_grad_norm: float,
    grad_accumulation: int = 1,
    autocast: torch.dtype | None = None,
    before_update: Callable[[StepResult], object] = lambda _: None,
) -> StepResult:
    """Set the rate, sum the gradients of the parts of the batch, clip them, update, and clear them.

    The parts are equally long, so the mean of their means is the mean over the batch: the update is that of
    the whole batch up to rounding, at a part's memory. Nothing here waits for the device, unless `before_update`
    does, which sees the result while weights and optimizer are still as they were; what it raises keeps them so.

    Shapes: batch is (ids, targets), each (batch, seq).
    Raises: ContractError on shape or dtype, or unless grad_accumulation divides batch; as `clip_grad_norm`.
    """
    rows = batch[0].shape[0]
    equal_parts = grad_accumulation >= 1 and rows % grad_accumulation == 0
    require(equal_parts, "train_step: grad_accumulation must divide batch = {}, got {}", rows, grad_accumulation)
    for group in optimizer.param_groups:
        group["lr"] = lr
    total = torch.zeros((), device=batch[0].device)
    for ids, targets in zip(*(part.chunk(grad_accumulation) for part in batch), strict=True):
        with precision(batch[0].device, autocast):
            part_loss = loss(ids, targets) / grad_accumulation
        part_loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        total += part_loss.detach()
    grad_norm = clip_grad_norm(parameters_of(optimizer), max_grad_norm)
    result = StepResult(total, grad_norm)
    before_update(result)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return result


def precision(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """autocast to dtype on the device, or nothing."""
    if dtype is None or dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def parameters_of(optimizer: Optimizer) -> Iterable[Tensor]:
    """Every parameter the optimizer updates."""
    return (param for group in optimizer.param_groups for param in group["params"])
