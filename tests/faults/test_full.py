"""A full or broken disk: what was saved stays, nothing is left half, and the error names the file."""

from pathlib import Path

import pytest

from tests.faults.full import failing_runs, filled_disk
from tests.faults.workers import Workers


@pytest.mark.slow
@pytest.mark.parametrize("then", ["stop", "go on"])
def test_an_error_at_any_call_loses_nothing(then: str, tmp_path: Path, workers: Workers) -> None:
    row = failing_runs(tmp_path, workers, count=16, then=then)
    assert (row.injected, row.lost) == (16, 0), row.why


def test_a_naive_saver_loses_runs(tmp_path: Path, workers: Workers) -> None:
    row = failing_runs(tmp_path, workers, count=24, then="stop", saver="naive")
    assert row.why.count("no checkpoint can be read") > 3, row.why


def test_a_disk_of_one_megabyte(tmp_path: Path, workers: Workers) -> None:
    row = filled_disk(tmp_path, workers)
    if not row.injected:
        pytest.skip("no tmpfs may be mounted here")
    assert row.lost == 0, row.why
