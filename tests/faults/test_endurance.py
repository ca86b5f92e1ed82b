"""A long run holds no more at its end than early on."""

from pathlib import Path

import numpy as np
import pytest

from tests.faults.endurance import endured, slope
from tests.faults.workers import Workers

needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")


@needs_proc
@pytest.mark.slow
def test_a_long_run_is_flat(tmp_path: Path, workers: Workers) -> None:
    row, said = endured(tmp_path, workers, steps=1500, bytes_a_step=700)
    assert (row.injected, row.lost) == (3, 0), (row.why, said)


@needs_proc
@pytest.mark.slow
def test_a_leak_of_two_kilobytes_a_step_is_seen(tmp_path: Path, workers: Workers) -> None:
    row, said = endured(tmp_path, workers, steps=1500, leak=2000, bytes_a_step=700)
    assert row.lost == 1, said


def test_the_slope_has_its_error() -> None:
    steps = np.arange(50.0)
    noise = np.random.default_rng(0).normal(0, 1, 50)
    found, error = slope(steps, 3 * steps + noise)
    assert abs(found - 3) < 3 * error
    assert 0.005 < error < 0.02
