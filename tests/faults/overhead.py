"""What checkpoints cost: processor time of a save, all its threads, beside that of the steps between two of them."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

from cs336_basics.config import ModelConfig, OptimizerConfig, RunConfig, TrainConfig
from cs336_basics.nn import TransformerLM
from cs336_basics.train.about import about_run
from cs336_basics.train.checkpoint import snapshot
from cs336_basics.train.optimizer import build_optimizer
from cs336_basics.train.run import RunFolder
from cs336_basics.train.saver import Saver
from cs336_basics.train.step import loss_fn, train_step
from cs336_basics.train.tracker import JsonlTracker
from tests.train.tiny import tiny_batch

SMALL = ModelConfig(vocab_size=4096, context_length=128, d_model=128, d_ff=384, n_layers=4, n_heads=4)


def cost_of_saving(work: Path, *, rounds: int = 7) -> tuple[float, float]:
    """(a save in its thread, what the step waits for), each as a part of the steps of the default interval."""
    config = RunConfig(model=SMALL, optimizer=OptimizerConfig(), train=TrainConfig(batch_size=16))
    model = TransformerLM(SMALL)
    optimizer = build_optimizer(model, config.optimizer)
    run, loss = RunFolder(work / "overhead"), loss_fn(model)
    run.create(config)
    saver, metrics = Saver(run, config.train), JsonlTracker(run.metrics)
    ids, targets = (part.repeat(4, 8) for part in tiny_batch())
    steps, waits, saves = [], [], []
    for number in range(1, rounds + 1):
        steps.append(_cost(lambda: train_step(loss, optimizer, (ids, targets), lr=1e-3, max_grad_norm=1.0)))
        start = time.process_time()
        state = snapshot(model, optimizer, number, about=about_run(config, None, step=number))
        waits.append(time.process_time() - start)
        saver.save(state, metrics)
        saver.finish()
        saves.append(time.process_time() - start)
    interval = statistics.median(steps) * TrainConfig().save_every
    return statistics.median(saves) / interval, statistics.median(waits) / interval


def _cost(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start
