"""Checkpoints: what was saved comes back bit for bit, training goes on as if never stopped, files are whole."""

import io
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from cs336_basics.train.checkpoint import Target, load_checkpoint, save_checkpoint
from cs336_basics.train.errors import CheckpointError
from tests.train.tiny import advance, assert_same, each_optimizer, states, tiny_model, trained

# There and back


@pytest.mark.parametrize("kind", ["path", "str", "buffer", "file"])
@each_optimizer
def test_round_trip(tmp_path: Path, name: str, kind: str) -> None:
    model, optimizer = trained(name, steps=2)
    saved = states(model, optimizer)
    path, buffer = tmp_path / "model.pt", io.BytesIO()
    with path.open("w+b") as file:
        target: Target = {"path": path, "str": str(path), "buffer": buffer, "file": file}[kind]  # type: ignore[assignment]  # a dict of many types
        save_checkpoint(model, optimizer, 41, target)
        buffer.seek(0)
        file.seek(0)
        other, other_optimizer = trained(name, seed=1)
        assert load_checkpoint(target, other, other_optimizer) == 41
    assert_same(states(other, other_optimizer), saved)
    assert_same(states(model, optimizer), saved)


@each_optimizer
def test_training_goes_on_bit_for_bit(name: str) -> None:
    model, optimizer = trained(name, steps=3)
    buffer = io.BytesIO()
    save_checkpoint(model, optimizer, 3, buffer)
    advance(model, optimizer, range(3, 6))
    buffer.seek(0)
    other, other_optimizer = trained(name, seed=1, steps=1)
    start = load_checkpoint(buffer, other, other_optimizer)
    advance(other, other_optimizer, range(start, 6))
    assert_same(states(other, other_optimizer), states(model, optimizer))


@each_optimizer
def test_loads_as_often_as_wanted(name: str, tmp_path: Path) -> None:
    model, optimizer = trained(name, steps=2)
    save_checkpoint(model, optimizer, 2, tmp_path / "a.pt")
    saved = states(model, optimizer)
    other, other_optimizer = trained(name, seed=1)
    for _ in range(2):
        assert load_checkpoint(tmp_path / "a.pt", other, other_optimizer) == 2
        assert_same(states(other, other_optimizer), saved)
        advance(other, other_optimizer, range(2, 3))


def test_without_an_optimizer_the_model_alone_is_filled(tmp_path: Path) -> None:
    model, optimizer = trained("muon", steps=1)
    save_checkpoint(model, optimizer, 1, tmp_path / "a.pt")
    other = tiny_model(seed=1)
    assert load_checkpoint(tmp_path / "a.pt", other) == 1
    assert_same(dict(other.state_dict()), dict(model.state_dict()))


def test_the_file_is_plain_data(tmp_path: Path) -> None:
    model, optimizer = trained("muon", steps=1)
    save_checkpoint(model, optimizer, 7, tmp_path / "a.pt")
    found = torch.load(tmp_path / "a.pt", weights_only=True)
    assert_same(found, {**states(model, optimizer), "iteration": 7, "about": {}})
    assert not any("rotary" in key for key in found["model"])


def test_loading_leaves_nothing_shared(tmp_path: Path) -> None:
    model, optimizer = trained("adamw", steps=1)
    save_checkpoint(model, optimizer, 1, tmp_path / "a.pt")
    before = (tmp_path / "a.pt").read_bytes()
    load_checkpoint(tmp_path / "a.pt", model, optimizer)
    advance(model, optimizer, range(1, 2))
    assert (tmp_path / "a.pt").read_bytes() == before


# Whole or not at all


def test_replaces_an_old_checkpoint_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    for step in (1, 2):
        model, optimizer = trained("adamw", steps=step)
        save_checkpoint(model, optimizer, step, path)
        assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]
    assert load_checkpoint(path, tiny_model()) == 2


@pytest.mark.parametrize(
    "error", [RuntimeError("torch failed"), OSError(28, "No space left on device"), KeyboardInterrupt()]
)
@pytest.mark.parametrize("where", ["save", "fsync", "replace"])
def test_an_error_in_the_middle_keeps_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: BaseException
) -> None:
    path = tmp_path / "a.pt"
    model, optimizer = trained("adamw", steps=1)
    save_checkpoint(model, optimizer, 1, path)
    before = path.read_bytes()
    advance(model, optimizer, range(1, 2))
    reached = []

    def fail(*arguments: Any) -> None:
        reached.append(sorted(p.name for p in tmp_path.iterdir()))
        if where == "save":
            arguments[1].write(b"half of it")
        raise error

    target = {"save": (torch, "save"), "fsync": (os, "fsync"), "replace": (os, "replace")}[where]
    with monkeypatch.context() as patch:
        patch.setattr(*target, fail)
        with pytest.raises(CheckpointError if isinstance(error, OSError) else type(error)) as caught:
            save_checkpoint(model, optimizer, 2, path)
    assert len(reached[0]) == 2  # the temporary file stood in the same folder
    assert not isinstance(error, OSError) or "a.pt cannot be written: No space left" in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]
    assert path.read_bytes() == before
    assert load_checkpoint(path, model, optimizer) == 1


def test_a_folder_that_cannot_be_synced_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []

    def fsync(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", fsync)
    model, optimizer = trained("sgd")
    save_checkpoint(model, optimizer, 3, tmp_path / "a.pt")
    assert len(synced) == 2
    assert load_checkpoint(tmp_path / "a.pt", model, optimizer) == 3


@pytest.mark.parametrize("place", ["nowhere/a.pt", "file/a.pt", "folder", "x" * 300])
def test_a_place_that_cannot_be_written(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    model, optimizer = trained("sgd")
    with pytest.raises(CheckpointError) as caught:
        save_checkpoint(model, optimizer, 1, tmp_path / place)
    assert str(caught.value).startswith(f"save_checkpoint: {tmp_path / place} cannot be written: ")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]
