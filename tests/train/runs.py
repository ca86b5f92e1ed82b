"""Short runs for the tests of the loop: from the beginning, cut off, and gone on with."""

from pathlib import Path
from typing import Any

import numpy as np

from cs336_basics.config import OptimizerConfig, RunConfig, TrainConfig
from cs336_basics.nn import TransformerLM
from cs336_basics.train.loop import train
from cs336_basics.train.run import RunFolder
from cs336_basics.train.tracker import read_metrics
from tests.train.tiny import CPU, MODEL, tiny_corpus, tiny_model

PEAK = 1e9
TRAIN, VALID = np.split(tiny_corpus(1500), [1200])
COMPUTED = ("train_loss", "grad_norm", "lr", "valid_loss")


def config(*, optimizer: str = "adamw", **changes: Any) -> RunConfig:
    settings: dict[str, Any] = {
        "steps": 9,
        "batch_size": 4,
        "log_every": 1,
        "eval_every": 3,
        "eval_batches": 2,
        "save_every": 4,
        "peak_flops": PEAK,
    }
    rule: dict[str, Any] = {"name": optimizer, "lr": 1e-2}
    return RunConfig(model=MODEL, optimizer=OptimizerConfig(**rule), train=TrainConfig(**settings | changes))


class KilledError(Exception):
    """Stands for a power cut."""


class KillAt:
    """A tracker that stops the run when step `at` is logged."""

    def __init__(self, at: int) -> None:
        self.at = at

    def log(self, step: int, metrics: dict[str, float]) -> None:
        if step == self.at and "train_loss" in metrics:
            raise KilledError


class Listed:
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.records: list[dict[str, float]] = []

    def log(self, step: int, metrics: dict[str, float]) -> None:
        self.records.append({"step": step, **metrics})


def start(folder: Path, settings: RunConfig, **options: Any) -> tuple[TransformerLM, RunFolder, dict[str, float]]:
    """A run from the beginning."""
    run, model = RunFolder(folder), tiny_model(settings.model)
    run.create(settings)
    return model, run, train(model, settings, TRAIN, VALID, run=run, device=CPU, **options)


def go_on(run: RunFolder, settings: RunConfig, **options: Any) -> tuple[TransformerLM, dict[str, float]]:
    """The same run, as a new process would take it up: a model with other first weights."""
    model = tiny_model(settings.model, seed=99)
    return model, train(model, settings, TRAIN, VALID, run=run, device=CPU, resume=True, **options)


def records(run: RunFolder) -> list[dict[str, Any]]:
    return list(read_metrics(run.metrics))


def computed(run: RunFolder) -> list[dict[str, Any]]:
    """The records without what a clock put there, and without those that hold nothing else (saves)."""
    lines = [line for line in records(run) if not line.keys().isdisjoint(COMPUTED)]
    return [{key: line[key] for key in ("step", *COMPUTED) if key in line} for line in lines]
