"""Long runs: what they hold at the end is what they held early on."""

import json
from pathlib import Path

import numpy as np

from cs336_basics.train.run import RunFolder
from tests.faults.campaigns import Row
from tests.faults.workers import Workers


def slope(steps: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """The slope of a line through the points by least squares, and its standard error."""
    centred = steps - steps.mean()
    found = float(centred @ values / (centred @ centred))
    rest = values - values.mean() - found * centred
    return found, float(np.sqrt(rest @ rest / (len(steps) - 2) / (centred @ centred)))


def endured(work: Path, workers: Workers, *, steps: int, leak: int = 0, bytes_a_step: float = 100.0) -> tuple[Row, str]:
    """Train for so many steps; in the second half, memory and open files must not grow. Also what was measured.

    The allocator settles over some thousand steps: 2,300 bytes a step in the first thousand, 30 in the fifth.
    """
    row = Row(f"{steps:,} steps: memory, open files, metrics")
    folder = work / f"long-{leak}"
    ended = workers.run("long", folder=str(folder), steps=steps, leak=leak, limit_s=600)
    assert ended.code == 0, ended.said
    samples = np.array([[int(n) for n in line.split()[1:]] for line in ended.said.splitlines() if "holds:" in line])
    at, memory, files = samples[len(samples) // 2 :].astype(float).T
    per_step, error = slope(at, memory)
    said = f"{per_step:.0f} ± {error:.0f} bytes a step, {int(files.min())} to {int(files.max())} open files"
    row.count("" if per_step + 2 * error < bytes_a_step else f"memory grows: {said}")
    row.count("" if files[-1] <= files[0] + 1 else f"files stay open: {said}")
    lines = [json.loads(line) for line in RunFolder(folder).metrics.read_text().splitlines()]
    whole = [line["step"] for line in lines if "train_loss" in line] == [*range(1, steps + 1)]
    row.count("" if whole else "the metrics are not a line a step")
    return row, said
