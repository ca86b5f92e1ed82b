"""Files are data and never run, a run writes below its folder and nowhere else, and one trainer at a time."""

import os
import pickle
import stat
from pathlib import Path

import pytest
import torch

from cs336_basics.config import ConfigError
from cs336_basics.train.loop import train
from cs336_basics.train.run import RunFolder
from tests.faults.hostile import Calls, pickles, refused, saved
from tests.faults.workers import Workers
from tests.train.runs import TRAIN, VALID, config, start
from tests.train.tiny import CPU, tiny_model


def test_hostile_checkpoints_are_refused(tmp_path: Path) -> None:
    row = refused(tmp_path)
    assert row.injected >= 30
    assert row.lost == 0, row.why


def test_the_traps_work(tmp_path: Path) -> None:
    """An unwary reader, and torch's own when it is told to trust, do what the files say."""
    assert len(pickles(tmp_path)) >= 20
    pickle.loads(pickle.dumps(Calls(os.mkdir, str(tmp_path / "ran"))))  # noqa: S301  # our own bytes
    assert (tmp_path / "ran").exists()
    (tmp_path / "a.pt").write_bytes(saved(pickles(tmp_path / "flag")["os.mkdir"]))
    torch.load(tmp_path / "a.pt", weights_only=False)
    assert (tmp_path / "flag").exists()


def test_config_and_tokenizer_are_data(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.create(config())
    harm = f"__import__('os').mkdir({str(tmp_path / 'ran')!r})"
    for value in (harm, "{" + harm + "}", "${" + harm + "}", "!!python/object/apply:os.mkdir [ran]"):
        run.config.write_text(f'[train]\ndevice = "{value}"\n', encoding="utf-8")
        assert run.load_config().train.device == value
    assert not (tmp_path / "ran").exists()


def test_a_run_writes_below_its_folder_and_nowhere_else(tmp_path: Path, workers: Workers) -> None:
    ended = workers.run("audited", folder=str(tmp_path / "run"))
    assert ended.code == 0, ended.said
    places = [line.removeprefix("writes: ") for line in ended.said.splitlines() if line.startswith("writes: ")]
    assert len(places) > 20
    astray = [place for place in places if not Path(place).is_relative_to(tmp_path / "run")]
    assert not astray


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_files_are_created_with_the_users_umask(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        start(tmp_path / "run", config(steps=2))
    finally:
        os.umask(before)
    for path in (tmp_path / "run").rglob("*"):
        everything = 0o777 if path.is_dir() else 0o666
        assert stat.S_IMODE(path.stat().st_mode) == everything & ~mask, path


def test_a_folder_in_use_is_refused(tmp_path: Path, workers: Workers) -> None:
    settings = config(steps=2)
    _, run, _ = start(tmp_path / "run", settings)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file() and path != run.lock}
    with run.held():
        ended = workers.run("run", folder=str(run.path))
        assert ended.code == 1
        assert f"is in use by process {os.getpid()} on " in ended.said
    assert {path: path.read_bytes() for path in before} == before


def test_two_trainers_of_one_process_are_two(tmp_path: Path) -> None:
    settings, told = config(steps=2), []

    class Second:
        """A tracker that begins to train in the same folder."""

        def log(self, step: int, metrics: dict[str, float]) -> None:
            with pytest.raises(ConfigError, match="is in use by process"):
                train(tiny_model(), settings, TRAIN, VALID, run=RunFolder(tmp_path), device=CPU)
            told.append((step, metrics))

    start(tmp_path, settings, trackers=(Second(),))
    assert told
