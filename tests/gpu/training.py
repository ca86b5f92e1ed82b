"""A small model in training: what the tests of steps, checkpoints and waiting share."""

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from cs336_basics.config import ModelConfig, OptimizerConfig
from cs336_basics.nn.model import TransformerLM
from cs336_basics.train.optimizer import Optimizers, build_optimizer
from cs336_basics.train.step import LossFn, StepResult, loss_fn, train_step
from tests.gpu.compare import integers

CONFIG: Final = ModelConfig(vocab_size=50, context_length=12, d_model=64, n_layers=2, n_heads=4, d_ff=96)
OPTIMIZERS: Final = {
    "sgd": OptimizerConfig(name="sgd", lr=0.5),
    # A large eps: AdamW would make a whole step of a gradient of almost nothing, whose sign rounding decides.
    "adamw": OptimizerConfig(name="adamw", lr=1e-2, eps=1e-3),
    "muon": OptimizerConfig(name="muon", lr=1e-2, eps=1e-3),
}


@dataclass(frozen=True)
class Training:
    """A model, its optimizer, and the loss that ties the two together."""

    model: nn.Module
    optimizer: Optimizers
    loss: LossFn
    lr: float

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def update(self, batch: tuple[Tensor, Tensor], **options: Any) -> StepResult:
        """One training step, gradients clipped at norm 1."""
        return train_step(self.loss, self.optimizer, batch, lr=self.lr, max_grad_norm=1.0, **options)


def start(
    name: str,
    device: torch.device | str,
    dtype: torch.dtype = torch.float32,
    *,
    products: torch.dtype | None = None,
    config: ModelConfig = CONFIG,
    compiled: bool = False,
) -> Training:
    """The same first weights in float32 at every call, whatever the device and the dtype they are then given.

    Muon multiplies in `products`; by default in dtype, not in bfloat16, which would round both sides of a comparison.
    """
    model = TransformerLM(config, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    loss, optimizer = loss_fn(model), build_optimizer(model, OPTIMIZERS[name])
    for group in optimizer.param_groups:
        group.update({"ns_dtype": products or dtype} if "ns_dtype" in group else {})
    return Training(model, optimizer, torch.compile(loss) if compiled else loss, OPTIMIZERS[name].lr)


def batch(step: int, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Ids and the same one token later, the ones of a step."""
    ids = integers(CONFIG.vocab_size, 8, CONFIG.context_length + 1, seed=step).to(device)
    return ids[:, :-1], ids[:, 1:]
