"""Saving beside training: in order, one at a time, and no error is lost."""

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from cs336_basics.config import TrainConfig
from cs336_basics.train import saver as room
from cs336_basics.train.checkpoint import read_checkpoint, snapshot, write_checkpoint
from cs336_basics.train.errors import CheckpointWarning, SaveError
from cs336_basics.train.run import RunFolder
from cs336_basics.train.saver import Saver
from cs336_basics.train.tracker import JsonlTracker
from tests.train.tiny import advance, assert_same, states, trained

STOP, GO_ON = TrainConfig(keep_checkpoints=1), TrainConfig(keep_checkpoints=1, on_disk_error="go on")


def begun(folder: Path, config: TrainConfig) -> tuple[RunFolder, Saver, JsonlTracker]:
    run = RunFolder(folder)
    run.checkpoints.mkdir()
    return run, Saver(run, config), JsonlTracker(run.metrics)


def state(step: int) -> dict[str, Any]:
    return snapshot(*trained("adamw", steps=step), step)


def test_what_is_written_is_what_was_there_when_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, saver, metrics = begun(tmp_path, STOP)
    model, optimizer = trained("adamw", steps=1)
    expected, may_write = states(model, optimizer), threading.Event()

    def late(*given: Any) -> None:
        may_write.wait()
        write_checkpoint(*given)

    monkeypatch.setattr(room, "write_checkpoint", late)
    saver.save(snapshot(model, optimizer, 1), metrics)
    assert not run.saved_checkpoints(), "nobody waits for the disk"
    advance(model, optimizer, range(1, 3))
    may_write.set()
    saver.finish()
    found = read_checkpoint(run.checkpoint(1))
    assert_same({part: found[part] for part in ("model", "optimizer")}, expected)


def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)


def test_an_error_is_raised_by_the_next_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, saver, metrics = begun(tmp_path, STOP)
    with monkeypatch.context() as patch:
        failing(patch)
        saver.save(state(1), metrics)
        named = rf"{run.checkpoint(1)} cannot be written: No space left|{run.metrics} cannot be written: No space left"
        with pytest.raises(SaveError, match=named):
            saver.save(state(2), metrics)
    saver.save(state(3), metrics)
    saver.finish()
    assert run.saved_checkpoints() == [run.checkpoint(3)]


def test_or_is_a_warning_unless_it_is_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, saver, metrics = begun(tmp_path, GO_ON)
    saver.save(state(1), metrics)
    saver.wait()
    with monkeypatch.context() as patch:
        failing(patch)
        saver.save(state(2), metrics)
        with pytest.warns(CheckpointWarning, match=r"No space left on device; the run goes on without it"):
            saver.save(state(3), metrics)
        with pytest.raises(SaveError, match="No space left"):
            saver.finish()
    assert run.saved_checkpoints() == [run.checkpoint(1)]


def test_lines_that_cannot_be_written_wait_and_so_does_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, saver, metrics = begun(tmp_path, GO_ON)
    real = os.write

    def fail(descriptor: int, content: bytes) -> int:
        if content.startswith(b'{"step"'):
            raise OSError(28, "No space left on device")
        return real(descriptor, content)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        with pytest.warns(CheckpointWarning, match=r"metrics\.jsonl cannot be written: No space left"):
            saver.attempt(lambda: metrics.log(1, {"train_loss": 4.0}))
        saver.save(state(1), metrics)
        with pytest.raises(SaveError, match=r"metrics\.jsonl cannot be written"):
            saver.finish()
    assert not run.saved_checkpoints()
    metrics.log(2, {"train_loss": 3.0})
    saver.save(state(2), metrics)
    saver.finish()
    assert [line.split(",")[0] for line in run.metrics.read_text().splitlines()] == ['{"step": 1', '{"step": 2']


def test_a_disk_that_keeps_something_else_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, saver, metrics = begun(tmp_path, STOP)
    saver.save(state(1), metrics)
    saver.finish()
    real = os.write

    def rotten(descriptor: int, content: bytes) -> int:
        changed = bytearray(content)
        changed[0] ^= 1
        return real(descriptor, changed)

    monkeypatch.setattr(os, "write", rotten)
    saver.save(state(2), metrics)
    with pytest.raises(SaveError, match=r"step-00000002\.pt was read back and is not what was written"):
        saver.finish()
    assert run.checkpoint(1).exists(), "the last good one"
