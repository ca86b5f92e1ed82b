"""The training loop on the device: the curve of the CPU, evaluation, rates, and a resumed run."""

from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pytest
import torch

from cs336_basics.config import OptimizerConfig, RunConfig, TrainConfig
from cs336_basics.nn.model import TransformerLM
from cs336_basics.train.loop import train
from cs336_basics.train.run import RunFolder
from cs336_basics.train.tracker import read_metrics
from tests.gpu.compare import ON_DEVICE, UNIT_ROUNDOFF, covers
from tests.gpu.training import CONFIG

pytestmark = ON_DEVICE

TOKENS: Final = np.random.default_rng(0).integers(0, CONFIG.vocab_size, 2_000).astype(np.uint16)
RUN: Final = RunConfig(
    model=CONFIG,
    optimizer=OptimizerConfig(lr=1e-2, eps=1e-3),
    train=TrainConfig(
        steps=6, batch_size=8, grad_accumulation=2, log_every=1, eval_every=3, eval_batches=2, save_every=3
    ),
)


def run(folder: Path, device: torch.device | str, config: RunConfig = RUN, *, resume: bool = False) -> RunFolder:
    """Train in the folder; the weights are the same at every call."""
    made = RunFolder(folder)
    if not resume:
        made.create(config)
    model = TransformerLM(config.model, generator=torch.Generator().manual_seed(0)).to(device)
    train(model, config, TOKENS, TOKENS[:500], run=made, device=torch.device(device), resume=resume)
    return made


def losses(run: RunFolder) -> list[float]:
    return [line[key] for line in read_metrics(run.metrics) for key in ("train_loss", "valid_loss") if key in line]


@covers(train)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_curve_is_that_of_the_cpu(
    dtype: Literal["float32", "bfloat16"], tmp_path: Path, gpu_device: torch.device
) -> None:
    config = replace(RUN, train=replace(RUN.train, dtype=dtype))
    found, expected = run(tmp_path / "device", gpu_device, config), run(tmp_path / "cpu", "cpu")
    # Both sides round, float32 at the least, at every step anew: ten roundings of a loss a step.
    allowed = 10 * RUN.train.steps * UNIT_ROUNDOFF[getattr(torch, dtype)]
    assert losses(found) == pytest.approx(losses(expected), rel=allowed)
    rates = [line["tokens_per_s"] for line in read_metrics(found.metrics) if "tokens_per_s" in line]
    assert len(rates) == RUN.train.steps
    assert min(rates) > 0


def test_a_resumed_run_has_the_same_curve(tmp_path: Path, deterministic: torch.device) -> None:
    whole = run(tmp_path / "whole", deterministic)
    broken = run(tmp_path / "broken", deterministic)
    broken.saved_checkpoints()[-1].unlink()
    run(tmp_path / "broken", deterministic, resume=True)
    assert losses(broken) == losses(whole)
