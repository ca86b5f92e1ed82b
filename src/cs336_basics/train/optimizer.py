"""The optimizer and the learning rate that a config asks for."""

from typing import Any, TypeAlias

from torch import nn

from cs336_basics.config import OptimizerConfig
from cs336_basics.optim import (
    SGD,
    AdamW,
    Muon,
    cosine_schedule,
    linear_schedule,
    split_parameters,
    wsd_schedule,
)

Optimizers: TypeAlias = SGD | AdamW | Muon


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> Optimizers:
    """The optimizer of a config; weight decay falls on matrices, not on norms (one axis)."""
    betas, named = (config.beta1, config.beta2), list(model.named_parameters())
    if config.name == "muon":
        matrices, others = split_parameters(named)
        tables = [param for param in others if param.ndim >= 2]
        vectors = [param for param in others if param.ndim < 2]
        muon_groups: list[dict[str, Any]] = [
            {"params": matrices},
            {"params": tables, "use_muon": False},
            {"params": vectors, "use_muon": False, "weight_decay": 0.0},
        ]
        return Muon(
            [group for group in muon_groups if group["params"]],
            lr=config.lr,
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            betas=betas,
            eps=config.eps,
        )
    matrices = [param for _, param in named if param.ndim >= 2]
    vectors = [param for _, param in named if param.ndim < 2]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if config.name == "sgd":
        return SGD(groups, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    return AdamW(groups, lr=config.lr, betas=betas, eps=config.eps, weight_decay=config.weight_decay)


def learning_rate(step: int, config: OptimizerConfig, *, steps: int) -> float:
    """The rate of update `step` (from 0) of a run of `steps`: warm-up, then the schedule down to min_lr_ratio · lr."""
    warmup = round(config.warmup_ratio * steps)
    low = config.min_lr_ratio * config.lr
    at = step + 1  # the first update already moves, the last one has the lowest rate
    if config.schedule == "cosine":
        return cosine_schedule(at, max_lr=config.lr, min_lr=low, warmup_steps=warmup, cosine_steps=steps)
    if config.schedule == "linear":
        return linear_schedule(at, max_lr=config.lr, min_lr=low, warmup_steps=warmup, linear_steps=steps)
    stable_until = max(warmup, round(0.8 * steps))
    return wsd_schedule(
        at, max_lr=config.lr, min_lr=low, warmup_steps=warmup, stable_steps=stable_until, decay_steps=steps
    )
