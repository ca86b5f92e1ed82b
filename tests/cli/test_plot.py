"""The loss curve: drawn from whatever a metrics file may hold, whole or not at all."""

from pathlib import Path

import pytest

from cs336_basics.cli.plot import plot_loss
from cs336_basics.train.errors import MetricsError
from cs336_basics.train.run import RunFolder

pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")

RECORDS = [
    '{"step": 0, "wall_s": 0.1, "valid_loss": 3.5}',
    '{"step": 1, "train_loss": 3.0}',  # of a tracker that keeps no clock
    '{"step": 2, "wall_s": 0.2, "train_loss": null}',  # what NaN is written as
    '{"step": 2, "wall_s": 0.3, "mfu": 0.5}',
]


@pytest.mark.parametrize("records", [RECORDS, [], RECORDS[:1]])
def test_draws_what_is_there(tmp_path: Path, records: list[str]) -> None:
    run = RunFolder(tmp_path)
    run.metrics.write_text("".join(f"{record}\n" for record in records))
    assert plot_loss(run)
    assert run.plot.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loss.png", "metrics.jsonl"]


def test_a_damaged_line_leaves_the_old_picture(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.plot.write_bytes(b"old")
    run.metrics.write_text("".join(f"{record}\n" for record in [*RECORDS, "}"]))
    with pytest.raises(MetricsError, match=r"line 5 of .*metrics\.jsonl must be a JSON object"):
        plot_loss(run)
    assert run.plot.read_bytes() == b"old"
