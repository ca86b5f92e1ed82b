"""Traces of chosen steps: whole files, of those steps and no other, that change nothing."""

import json
from pathlib import Path

import pytest

from cs336_basics.train.errors import TrainingWarning
from tests.train.runs import computed, config, start
from tests.train.tiny import assert_same

pytestmark = pytest.mark.filterwarnings("ignore:.*profiler.*:UserWarning")  # torch's own, of CPUs without counters


def test_each_chosen_step_has_a_trace(tmp_path: Path) -> None:
    settings = config(steps=6)
    plain, plain_run, _ = start(tmp_path / "plain", settings)
    model, run, _ = start(tmp_path / "traced", settings, profile=range(2, 4))
    assert sorted(run.trace(1).parent.iterdir()) == [run.trace(2), run.trace(3)]
    for step in (2, 3):
        events = json.loads(run.trace(step).read_text())["traceEvents"]
        names = {event.get("name") for event in events}
        assert "cs336_basics::linear_cross_entropy" in names
        assert "aten::lerp" in names, "the update is part of a step"
    assert computed(run) == computed(plain_run)
    assert_same(dict(model.state_dict()), dict(plain.state_dict()))


def test_a_trace_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    blocked = tmp_path / "traced"
    blocked.mkdir()
    (blocked / "traces").touch()
    settings = config(steps=3)
    with pytest.warns(TrainingWarning, match=r"^profile: .*traces.* cannot be written \(.*goes on without it$"):
        _, run, _ = start(blocked, settings, profile=range(2, 3))
    assert [line["step"] for line in computed(run) if "train_loss" in line][-1] == 3


def test_no_trace_without_being_asked(tmp_path: Path) -> None:
    _, run, _ = start(tmp_path, config(steps=2))
    assert not run.trace(1).parent.exists()
