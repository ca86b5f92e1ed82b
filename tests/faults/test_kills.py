"""Runs killed again and again lose no saved step; their curve is that of an undisturbed run, bit for bit."""

from pathlib import Path

import pytest

from tests.faults.campaigns import killed_runs
from tests.faults.workers import Workers

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("where", ["saves", "writes", "anywhere"])
def test_nothing_is_lost(where: str, tmp_path: Path, workers: Workers) -> None:
    row = killed_runs(tmp_path, workers, runs=3, kills=5, where=where)
    assert (row.injected, row.lost) == (15, 0), row.why


def test_a_naive_saver_loses_runs(tmp_path: Path, workers: Workers) -> None:
    row = killed_runs(tmp_path, workers, runs=3, kills=5, where="saves", saver="naive")
    assert row.lost > 0
