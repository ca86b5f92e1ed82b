"""The small model, batches and corpus that the tests of this room share, and two ways to compare states."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cs336_basics.config import ModelConfig, OptimizerConfig
from cs336_basics.nn import TransformerLM
from cs336_basics.train.optimizer import Optimizers, build_optimizer
from cs336_basics.train.step import loss_fn, train_step

MODEL = ModelConfig(vocab_size=64, context_length=16, d_model=32, n_layers=2, n_heads=4, d_ff=64)
CPU = torch.device("cpu")

each_optimizer = pytest.mark.parametrize("name", ["adamw", "muon", "sgd"])


def tiny_model(config: ModelConfig = MODEL, *, seed: int = 0, dtype: torch.dtype | None = None) -> TransformerLM:
    return TransformerLM(config, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def tiny_batch(*, seed: int = 0, rows: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(MODEL.vocab_size, (rows, MODEL.context_length + 1), generator=generator)
    return ids[:, :-1], ids[:, 1:]


def tiny_corpus(n_tokens: int = 2000) -> np.ndarray:
    """A text with something to learn: nine tokens in ten follow from the one before."""
    draw = np.random.default_rng(0)
    tokens = np.empty(n_tokens, np.uint16)
    tokens[0] = 1
    for i in range(1, n_tokens):
        tokens[i] = (5 * int(tokens[i - 1]) + 3) % 64 if draw.random() < 0.9 else draw.integers(64)
    return tokens


def trained(name: str, *, seed: int = 0, steps: int = 0) -> tuple[TransformerLM, Optimizers]:
    """A model and its optimizer after some updates."""
    model = tiny_model(seed=seed)
    optimizer = build_optimizer(model, optimizer_config(name))
    advance(model, optimizer, range(steps))
    return model, optimizer


def optimizer_config(name: str) -> OptimizerConfig:
    from_name: Callable[..., OptimizerConfig] = OptimizerConfig
    return from_name(name=name, lr=1e-2)


def advance(model: TransformerLM, optimizer: Optimizers, steps: range) -> None:
    for step in steps:
        train_step(loss_fn(model), optimizer, tiny_batch(seed=step), lr=1e-2 / (step + 1), max_grad_norm=1.0)


def states(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """All that a checkpoint must keep, as it is now."""
    return copy.deepcopy({"model": model.state_dict(), "optimizer": optimizer.state_dict()})


def assert_same(left: Any, right: Any) -> None:
    """Equal bit for bit, in type, dtype and value, through nested containers."""
    assert type(left) is type(right)
    if isinstance(left, Tensor):
        assert left.dtype == right.dtype
        assert left.shape == right.shape
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list | tuple):
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            assert_same(a, b)
    else:
        assert left == right
