"""Training: the optimizer against torch's, and whole steps against what the machine can multiply at best."""

from collections.abc import Callable, Iterator
from statistics import median
from typing import Final

import torch
from torch.optim import Optimizer

from cs336_basics.accounting import flops
from cs336_basics.config import ModelConfig
from cs336_basics.nn.model import TransformerLM
from cs336_basics.optim import AdamW
from cs336_basics.train.step import loss_fn, train_step
from tests.bench.measure import Figure, compare, medians, take_turns

TINY: Final = ModelConfig(vocab_size=10_000, context_length=256, d_model=512, d_ff=1344, n_layers=4, n_heads=16)
SMALL: Final = ModelConfig(vocab_size=4096, context_length=128, d_model=128, d_ff=384, n_layers=4, n_heads=4)
SIDE: Final = 1024  # of the matrices whose product is the ceiling


def figures(rounds: int) -> Iterator[Figure]:
    """AdamW at 2 and 20 million parameters; tokens a second of two models, eager and in float32."""
    for name, n_matrices, side in (("2M", 8, 512), ("20M", 5, 2048)):
        ours = optimizer_step(n_matrices, side, lambda params: AdamW(params, lr=1e-3))
        theirs = optimizer_step(n_matrices, side, lambda params: torch.optim.AdamW(params, lr=1e-3, foreach=False))
        yield compare("train", f"AdamW, {name} parameters", {"ours": ours, "torch": theirs}, rounds=rounds)
    yield of_the_ceiling("tiny", TINY, 4, rounds)
    yield of_the_ceiling("small", SMALL, 16, rounds)


def optimizer_step(
    n_matrices: int, side: int, make: Callable[[list[torch.nn.Parameter]], Optimizer]
) -> Callable[[], object]:
    params = [torch.nn.Parameter(torch.randn(side, side)) for _ in range(n_matrices)]
    for param in params:
        param.grad = torch.randn(side, side)
    return make(params).step


def of_the_ceiling(name: str, config: ModelConfig, batch_size: int, rounds: int) -> Figure:
    """A training step beside a square matrix product; the part of the product's FLOP/s that the step reaches.

    A step counts the FLOPs of its matrix products alone (`accounting.flops`), masked scores among them.
    """
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    seconds = take_turns({"step": training_step(config, batch_size), "product": lambda: a @ b}, rounds=rounds)
    step_flops, product_flops = flops(config, batch_size=batch_size).total_flops, 2 * SIDE**3
    turns = zip(seconds["step"], seconds["product"], strict=True)
    part = median(step_flops / step / (product_flops / product) for step, product in turns)
    middle = medians(seconds)
    return Figure(
        group="train",
        name=f"training step, {name}, batch {batch_size}, {config.context_length} tokens",
        seconds=middle,
        ratios={"of the ceiling": part},
        rates={
            "tokens/s": batch_size * config.context_length / middle["step"],
            "ceiling in GFLOP/s": product_flops / middle["product"] / 1e9,
        },
    )


def training_step(config: ModelConfig, batch_size: int) -> Callable[[], object]:
    model = TransformerLM(config, generator=torch.Generator().manual_seed(0))
    loss, optimizer = loss_fn(model), AdamW(model.parameters())
    ids = torch.randint(config.vocab_size, (batch_size, config.context_length + 1))
    batch = (ids[:, :-1], ids[:, 1:])
    return lambda: train_step(loss, optimizer, batch, lr=1e-3, max_grad_norm=1.0)
