"""Whatever a folder of checkpoints lives through, its newest good one stays."""

from pathlib import Path

import pytest

from tests.faults.retention import by_name, lives


@pytest.mark.slow
def test_the_newest_good_checkpoint_is_never_pruned(tmp_path: Path) -> None:
    row = lives(tmp_path, count=60)
    assert (row.injected, row.lost) == (60, 0), row.why


def test_pruning_by_name_loses_it(tmp_path: Path) -> None:
    row = lives(tmp_path, count=60, pruned=by_name)
    assert row.lost > 5
