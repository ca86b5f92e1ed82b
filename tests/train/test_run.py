"""The run folder: its layout, what it refuses, and which fields may change when a run goes on."""

import dataclasses
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cs336_basics.config import ConfigError, DataConfig, OptimizerConfig, RunConfig, TrainConfig
from cs336_basics.train.errors import CheckpointError
from cs336_basics.train.run import (
    DATA_PATHS,
    FREE_FIELDS,
    DataIdentity,
    RunFolder,
    require_same_curve,
    require_same_data,
    with_field,
)
from tests.train.tiny import MODEL

CONFIG = RunConfig(model=MODEL, train=TrainConfig(steps=7), data=DataConfig(train="a.bin"))


def test_layout(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "deep" / "run")
    run.create(CONFIG)
    assert sorted(p.name for p in run.path.iterdir()) == ["checkpoints", "config.toml", "samples"]
    names = {
        "config": "config.toml",
        "data": "data.toml",
        "tokenizer": "tokenizer",
        "metrics": "metrics.jsonl",
        "checkpoints": "checkpoints",
        "samples": "samples",
        "plot": "loss.png",
    }
    assert {name: getattr(run, name) for name in names} == {name: run.path / file for name, file in names.items()}
    assert run.checkpoint(12) == run.path / "checkpoints" / "step-00000012.pt"


def test_config_comes_back_equal(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.create(CONFIG)
    assert run.load_config() == CONFIG
    changed = with_field(CONFIG, "train", peak_flops=1e12)
    run.save_config(changed)
    assert run.load_config() == changed


def test_create_refuses_a_folder_that_holds_a_run(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.create(CONFIG)
    before = run.config.read_bytes()
    mends = r"go on with it \(cs336 train --run \S+run --resume\), name another folder, or delete it"
    with pytest.raises(ConfigError, match=rf"run: \S+run already holds a run; {mends}"):
        run.create(with_field(CONFIG, "train", steps=9))
    assert run.config.read_bytes() == before


def test_create_refuses_a_folder_that_holds_checkpoints(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.checkpoints.mkdir()
    run.checkpoint(3).touch()
    with pytest.raises(ConfigError, match="already holds a run"):
        run.create(CONFIG)
    assert not run.config.exists()


def test_create_accepts_a_folder_of_other_things(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    RunFolder(tmp_path).create(CONFIG)
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("below", ["", "run"])
def test_create_refuses_a_file(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match=r"run: .*file.* cannot be made a folder: .*; name another"):
        RunFolder(tmp_path / "file" / below).create(CONFIG)
    assert (tmp_path / "file").read_text() == "mine"


def test_no_config_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no config\.toml: it is not a run folder"):
        RunFolder(tmp_path).load_config()


def test_who_trains_is_told_without_the_lock(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.trainer() == "", "nobody ever did"
    with run.held():
        assert run.trainer().startswith(f"process {os.getpid()} on ")
        with (
            pytest.raises(ConfigError, match=rf"run: \S+ is in use by process {os.getpid()} on .*; wait for it"),
            run.held(),
        ):
            raise AssertionError("two hold it")
    assert run.trainer() == ""
    run.lock.write_text(f"process 999999999 on {socket.gethostname()}\n")  # killed
    assert run.trainer() == ""
    run.lock.write_text("process 7 on another-machine\n")
    assert run.trainer() == "process 7 on another-machine"


def test_newest_checkpoint_is_of_the_latest_step(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.create(CONFIG)
    for step in (5, 100, 99, 20):
        run.checkpoint(step).touch()
    (run.checkpoints / ".step-00000200.pt.123.tmp").touch()  # what a killed process leaves
    assert run.newest_checkpoint() == run.checkpoint(100)
    assert run.saved_checkpoints() == [run.checkpoint(step) for step in (5, 20, 99, 100)]


@pytest.mark.parametrize(("made", "resume"), [(True, " --resume"), (False, "")])
def test_no_checkpoint_names_the_command_that_makes_one(tmp_path: Path, made: bool, resume: str) -> None:
    run = RunFolder(tmp_path / "my run")
    if made:
        run.create(CONFIG)
    with pytest.raises(
        CheckpointError, match=rf"my run has no checkpoint; .*: cs336 train --run '\S+/my run'{resume}$"
    ):
        run.newest_checkpoint()


# What may change


def changes() -> list[tuple[str, str, Any]]:
    """For each field of a run, another value that it may have."""
    special: dict[str, Any] = {
        "d_model": 64, "n_heads": 2, "n_kv_heads": 2, "d_ff": 99, "norm": "post", "position": "none", "ffn": "silu",
        "name": "muon", "schedule": "wsd", "sampling": "random", "device": "cuda:1", "dtype": "bfloat16",
        "peak_flops": 1e12, "train": "b.bin", "valid": "c.bin", "tokenizer": "d", "grad_accumulation": 2,
        "matmul_precision": "high", "on_disk_error": "go on",
    }  # fmt: skip
    found = []
    for section in ("model", "optimizer", "train", "data"):
        part = getattr(CONFIG, section)
        for field in dataclasses.fields(part):
            old = getattr(part, field.name)
            new = special.get(
                field.name, not old if isinstance(old, bool) else old + 1 if isinstance(old, int) else 0.5
            )
            found.append((section, field.name, new))
    return found


@pytest.mark.parametrize(("section", "name", "value"), changes())
def test_only_free_fields_may_change(section: str, name: str, value: Any) -> None:
    before, after = getattr(getattr(CONFIG, section), name), value
    asked = with_field(CONFIG, section, **{name: value})
    assert asked != CONFIG
    if f"{section}.{name}" in FREE_FIELDS:
        require_same_curve(CONFIG, asked)
        return
    with pytest.raises(ConfigError) as caught:
        require_same_curve(CONFIG, asked)
    text = (
        f"{section}.{name} must stay {before!r} when a run is resumed, got {after!r}; leave it out, "
        f"allow it with --may-change {section}.{name}, or start a new run"
    )
    assert str(caught.value) == text
    with pytest.raises(ConfigError, match=rf"{section}\.{name} must stay"):
        require_same_curve(asked, CONFIG)


def test_the_same_config_may_go_on() -> None:
    require_same_curve(CONFIG, replace(CONFIG))


@pytest.mark.parametrize("name", ["train", "valid", "tokenizer"])
def test_data_may_lie_elsewhere_where_it_is_known_to_be_the_same(name: str) -> None:
    moved = with_field(CONFIG, "data", **{name: "elsewhere"})
    require_same_curve(CONFIG, moved, free=FREE_FIELDS | DATA_PATHS)
    with pytest.raises(ConfigError, match=r"data\.valid_share must stay 0\.05"):
        require_same_curve(CONFIG, with_field(moved, "data", valid_share=0.1), free=FREE_FIELDS | DATA_PATHS)


DATA = DataIdentity(tokenizer="a" * 64, train="b" * 64)


def test_what_the_data_is_comes_back_equal(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.load_data() is None, "as of a run made before this was recorded"
    run.create(CONFIG, DATA)
    assert run.load_data() == DATA
    run.save_data(replace(DATA, valid="c" * 64))
    assert run.load_data() == replace(DATA, valid="c" * 64)
    for text, message in (("tokenizer = 3\n", "tokenizer must be a text, got 3"), ("", "tokenizer must be a sha256")):
        run.data.write_text(text)
        with pytest.raises(ConfigError, match=rf"data\.toml: {message}"):
            run.load_data()


def test_the_config_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    run = RunFolder(tmp_path)
    monkeypatch.setattr(RunFolder, "save_config", fail)
    with pytest.raises(OSError, match="No space"):
        run.create(CONFIG, DATA)
    run.require_new()
    assert run.load_data() == DATA


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            replace(DATA, train="c" * 64),
            "data.train must be .*, sha256 b{12}, got sha256 c{12}; give that",
        ),
        (replace(DATA, tokenizer="c" * 64), "data.tokenizer must be .*, sha256 a{12}, got sha256 c{12};"),
        (replace(DATA, valid="c" * 64), "data.valid must be .*, none, got sha256 c{12};"),
    ],
)
def test_other_data_is_refused_by_name(asked: DataIdentity, message: str) -> None:
    require_same_data(DATA, replace(DATA))
    with pytest.raises(ConfigError, match=message):
        require_same_data(DATA, asked)


def test_free_fields_decide_nothing_that_is_computed() -> None:
    fixed = {"steps", "batch_size", "grad_accumulation", "seed", "sampling", "z_loss", "dtype", "matmul_precision"}
    free = {f"train.{field.name}" for field in dataclasses.fields(TrainConfig) if field.name not in fixed}
    assert free | {"data.verify"} == FREE_FIELDS


def test_with_field_changes_one_section_only() -> None:
    changed = with_field(CONFIG, "optimizer", lr=0.5, name="sgd")
    assert changed == replace(CONFIG, optimizer=OptimizerConfig(lr=0.5, name="sgd"))
    with pytest.raises(ConfigError, match="lr must be at least 0"):
        with_field(CONFIG, "optimizer", lr=-1.0)
