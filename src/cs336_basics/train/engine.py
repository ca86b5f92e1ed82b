"""What a run computes with: the functions of `ops` or their faster twins in `kernels`, compiled or not.

The config chooses, and no choice changes weights, their names, or a loss beyond rounding; but for `matmul_precision`,
which is there to trade digits for speed.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

from cs336_basics.config import ConfigError, RunConfig, TrainConfig
from cs336_basics.kernels import attention as blockwise
from cs336_basics.kernels import loss as chunked
from cs336_basics.nn import TransformerLM
from cs336_basics.ops import attention, loss
from cs336_basics.train.optimizer import Optimizers, build_optimizer
from cs336_basics.train.step import LossFn, loss_fn

SHORT: Final = 128  # positions whose scores, of all pairs, take no more memory than the layers around them


def build_model(config: RunConfig, *, generator: torch.Generator | None = None) -> TransformerLM:
    """The model of a config, on the CPU, with the attention that the config chooses.

    Where a short context is computed in bfloat16 and compiled, that is the definition too, scores of all pairs
    included: fused with what surrounds it, it is a twentieth of a step quicker than any block.
    """
    train = config.train
    fused = train.compile and train.dtype == "bfloat16" and config.model.context_length <= SHORT
    attend = (blockwise if train.kernels and not fused else attention).scaled_dot_product_attention
    return TransformerLM(config.model, attention_fn=attend, generator=generator)


def build_losses(model: TransformerLM, settings: TrainConfig) -> tuple[LossFn, LossFn]:
    """The loss to train on, and the one to evaluate with: without z_loss, and never compiled, as that comes seldom.

    Raises: ConfigError where it is to be compiled for a CPU and there is no C++ compiler.
    """
    fused = (chunked if settings.kernels else loss).linear_cross_entropy
    trained = loss_fn(model, z_loss=settings.z_loss, linear_cross_entropy=fused)
    if settings.compile:
        if next(model.parameters()).device.type == "cpu":
            _require_cpp_compiler()
        trained = torch.compile(trained)
    return trained, loss_fn(model, linear_cross_entropy=fused)


def build_update(model: TransformerLM, config: RunConfig) -> Optimizers:
    """The optimizer of a config. The compiled update goes here, where `config.train.kernels` asks for it."""
    return build_optimizer(model, config.optimizer)


@contextmanager
def matmul_precision(settings: TrainConfig) -> Iterator[None]:
    """float32 products as exact as the config asks, for as long as the block lasts."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(settings.matmul_precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _require_cpp_compiler() -> None:
    names = [os.environ.get("CXX", ""), "g++", "c++", "clang++", "cl"]
    if not any(map(shutil.which, filter(None, names))):
        raise ConfigError("train.compile must be false where there is no C++ compiler (g++, clang++), got True")
