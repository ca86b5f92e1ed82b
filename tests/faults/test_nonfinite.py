"""A number that is none reaches neither weights nor checkpoints, and a run that diverges ends if it is asked to."""

import math
from pathlib import Path

import pytest

from cs336_basics.train.errors import TrainingError
from cs336_basics.train.numbers import Divergence
from cs336_basics.train.run import with_field
from tests.faults.nonfinite import injected
from tests.train.runs import config, start


def test_the_update_is_not_made_and_the_report_is_right(tmp_path: Path) -> None:
    row = injected(tmp_path, count=20)
    assert (row.injected, row.lost) == (20, 0), row.why


def test_without_the_look_before_the_update_the_weights_are_gone(tmp_path: Path) -> None:
    assert injected(tmp_path, count=5, guarded=False).lost == 5


def feed(patience: int, losses: list[float | None]) -> int:
    """After how many losses the guard ends the run; 0 where it does not."""
    guard = Divergence(patience)
    for number, loss in enumerate(losses, start=1):
        try:
            guard.note(number, loss)
        except TrainingError:
            return number
    return 0


def test_patience_is_with_lines_in_a_row() -> None:
    assert feed(3, [4.0, 2.0, 3.5, 3.5, 2.9, 3.5, 3.5, 3.5]) == 8
    assert feed(2, [4.0, None, 2.0, 3.0, 3.01, None, 3.01]) == 7
    assert feed(1, [4.0, 5.1]) == 2
    assert feed(0, [4.0, *[math.inf] * 9]) == 0


def test_off_by_default_and_on_by_the_config(tmp_path: Path) -> None:
    wild = {"steps": 60, "eval_every": 60, "save_every": 60}
    settings = with_field(config(optimizer="sgd", **wild), "optimizer", lr=3.0)
    _, run, _ = start(tmp_path / "off", settings)
    assert run.saved_checkpoints()
    guarded = with_field(settings, "train", divergence_patience=3)
    with pytest.raises(TrainingError, match=r"nat above its lowest, .* \(train\.divergence_patience\)"):
        start(tmp_path / "on", guarded)
