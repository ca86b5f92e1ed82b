"""Training: the optimizer against torch's, and whole steps against other people's models and the machine's ceiling.

A step is forward, backward, clipping and AdamW. Ours is the engine's, compiled; a peer's has its own model, compiled
unless its name says otherwise, with torch's cross-entropy, clipping and fused AdamW.
"""

import gc
from collections.abc import Callable, Iterator
from statistics import median
from typing import Final, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer

from cs336_basics.accounting import flops
from cs336_basics.config import ModelConfig, OptimizerConfig, RunConfig, TrainConfig
from cs336_basics.optim import AdamW
from cs336_basics.train.engine import build_losses, build_model, build_update
from cs336_basics.train.step import precision, train_step
from tests.bench import models
from tests.bench.measure import Bound, Figure, Seconds, compare, medians, take_turns

Batch = tuple[Tensor, Tensor]

TINY: Final = ModelConfig(vocab_size=10_000, context_length=256, d_model=512, d_ff=1344, n_layers=4, n_heads=16)
SMALL: Final = ModelConfig(vocab_size=4096, context_length=128, d_model=128, d_ff=384, n_layers=4, n_heads=4)
SIDE: Final = 1024  # of the matrices whose product is the ceiling
LR: Final = 1e-3
UNCOMPILED_TOO: Final = (models.transformers, models.transformers_eager)


class Row(NamedTuple):
    """A training step, and what it must reach: times the best peer's tokens a second, and of the ceiling."""

    config: ModelConfig
    batch_size: int
    dtype: torch.dtype
    of_best_peer: float
    of_ceiling: float | None = None


ROWS: Final = {
    "tiny-float32": Row(TINY, 4, torch.float32, 1.05, 0.80),
    "small-float32": Row(SMALL, 16, torch.float32, 1.30),
    "tiny-bfloat16": Row(TINY, 4, torch.bfloat16, 1.40),
    "small-bfloat16": Row(SMALL, 16, torch.bfloat16, 1.40),
}


def figures(rounds: int, only: str = "") -> Iterator[Figure]:
    """AdamW at 2 and 20 million parameters; steps of two models in two dtypes. `only` keeps what has it in its name."""
    for name, n_matrices, side in (("2M", 8, 512), ("20M", 5, 2048)):
        if only in f"AdamW-{name}":
            ours = optimizer_step(n_matrices, side, lambda params: AdamW(params, lr=LR))
            theirs = optimizer_step(n_matrices, side, lambda params: torch.optim.AdamW(params, lr=LR, foreach=False))
            yield compare("train", f"AdamW-{name}", {"ours": ours, "torch": theirs}, rounds=rounds)
    rows = {name: row for name, row in ROWS.items() if only in name}
    peers = models.installed() if rows else []
    for name, row in rows.items():
        yield step_figure(name, row, peers, rounds)
        gc.collect()


def optimizer_step(
    n_matrices: int, side: int, make: Callable[[list[torch.nn.Parameter]], Optimizer]
) -> Callable[[], object]:
    params = [torch.nn.Parameter(torch.randn(side, side)) for _ in range(n_matrices)]
    for param in params:
        param.grad = torch.randn(side, side)
    return make(params).step


def step_figure(name: str, row: Row, peers: list[Callable[[ModelConfig], models.Peer]], rounds: int) -> Figure:
    torch.compiler.reset()  # or one function compiled for many models would fall back to eager
    batch = batch_of(row)
    candidates = {"ours": our_step(row, batch)}
    for make in peers:
        candidates[make.__name__] = peer_step(row, batch, make(row.config), compiled=True)
        if make in UNCOMPILED_TOO:
            candidates[f"{make.__name__} uncompiled"] = peer_step(row, batch, make(row.config), compiled=False)
    a = torch.randn(SIDE, SIDE, dtype=row.dtype)
    seconds = take_turns(candidates | {"product": lambda: a @ a}, rounds=rounds)
    return judged(name, row, seconds)


def judged(name: str, row: Row, seconds: Seconds) -> Figure:
    """The part of the ceiling, and times the peer whose median is the least.

    A step counts the FLOPs of its matrix products alone (`accounting.flops`), masked scores among them.
    """
    tokens = row.batch_size * row.config.context_length
    step_flops, product_flops = flops(row.config, batch_size=row.batch_size).total_flops, 2 * SIDE**3
    turns = zip(seconds["ours"], seconds["product"], strict=True)
    ratios = {"of the ceiling": median(step_flops / step / (product_flops / product) for step, product in turns)}
    must = {} if row.of_ceiling is None else {"of the ceiling": Bound(">=", row.of_ceiling)}
    middle = medians(seconds)
    peers = {peer: middle[peer] for peer in middle if peer not in ("ours", "product")}
    if peers:
        best = min(peers, key=peers.__getitem__)
        of_best = f"tokens/s of {best}'s"
        ratios[of_best] = median(theirs / ours for theirs, ours in zip(seconds[best], seconds["ours"], strict=True))
        must[of_best] = Bound(">=", row.of_best_peer)
    rates = {f"{who} tokens/s": tokens / middle[who] for who in ("ours", *peers)}
    rates["ceiling in GFLOP/s"] = product_flops / middle["product"] / 1e9
    return Figure(group="train", name=name, seconds=middle, ratios=ratios, rates=rates, must=must)


def batch_of(row: Row) -> Batch:
    shape = (row.batch_size, row.config.context_length + 1)
    ids = torch.randint(row.config.vocab_size, shape, generator=torch.Generator().manual_seed(0))
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def our_step(row: Row, batch: Batch) -> Callable[[], object]:
    dtype: Literal["float32", "bfloat16"] = "float32" if row.dtype == torch.float32 else "bfloat16"
    settings = TrainConfig(compile=True, dtype=dtype, batch_size=row.batch_size)
    config = RunConfig(model=row.config, optimizer=OptimizerConfig(lr=LR), train=settings)
    model = build_model(config, generator=torch.Generator().manual_seed(0))
    loss, _ = build_losses(model, settings)
    update = build_update(model, config)
    return lambda: train_step(loss, update, batch, lr=LR, max_grad_norm=1.0, autocast=row.dtype)


def peer_step(row: Row, batch: Batch, peer: models.Peer, *, compiled: bool) -> Callable[[], object]:
    parameters = list(peer.model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=LR, fused=True)

    def loss(ids: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(peer.logits(ids).flatten(0, 1).float(), targets.flatten())

    run = torch.compile(loss) if compiled else loss

    def step() -> None:
        with precision(batch[0].device, row.dtype):
            found = run(*batch)
        found.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step
