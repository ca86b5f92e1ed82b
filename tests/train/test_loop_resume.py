"""A run that was cut off goes on as if it had not been: the same losses, weights and records, bit for bit."""

import json
from pathlib import Path

import pytest
import torch

from cs336_basics.config import ConfigError, RunConfig
from cs336_basics.train.errors import CheckpointError, CheckpointWarning
from cs336_basics.train.loop import train
from cs336_basics.train.run import RunFolder
from tests.train.runs import TRAIN, VALID, KillAt, KilledError, computed, config, go_on, records, start
from tests.train.tiny import CPU, assert_same, tiny_model


@pytest.mark.parametrize(
    "settings",
    [
        config(optimizer="adamw", sampling="shuffle"),
        config(optimizer="muon", sampling="random"),
        config(optimizer="adamw", sampling="random", dtype="bfloat16", grad_accumulation=2),
        config(optimizer="muon", sampling="shuffle", z_loss=1e-3),
        config(optimizer="sgd"),
    ],
    ids=["adamw shuffle", "muon random", "adamw random bfloat16 in parts", "muon shuffle z-loss", "sgd"],
)
def test_resumes_bit_for_bit(tmp_path: Path, settings: RunConfig) -> None:
    undisturbed, whole_run, _ = start(tmp_path / "whole", settings)
    with pytest.raises(KilledError):
        start(tmp_path / "cut", settings, trackers=(KillAt(7),))
    cut_run = RunFolder(tmp_path / "cut")
    assert [line["step"] for line in records(cut_run)][-1] == 7
    assert cut_run.newest_checkpoint() == cut_run.checkpoint(4)
    resumed, _ = go_on(cut_run, settings)
    assert computed(cut_run) == computed(whole_run)
    assert_same(dict(resumed.state_dict()), dict(undisturbed.state_dict()))
    saved = [torch.load(run.newest_checkpoint(), weights_only=True) for run in (whole_run, cut_run)]
    assert_same(saved[0], saved[1])


def test_resumes_again_and_again(tmp_path: Path) -> None:
    settings = config(save_every=1)
    undisturbed, whole_run, _ = start(tmp_path / "whole", settings)
    with pytest.raises(KilledError):
        start(tmp_path / "cut", settings, trackers=(KillAt(2),))
    cut_run = RunFolder(tmp_path / "cut")
    for at in (2, 5, 9):
        with pytest.raises(KilledError):
            go_on(cut_run, settings, trackers=(KillAt(at),))
    resumed, _ = go_on(cut_run, settings)
    assert computed(cut_run) == computed(whole_run)
    assert_same(dict(resumed.state_dict()), dict(undisturbed.state_dict()))


def test_lines_later_than_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    settings = config()
    with pytest.raises(KilledError):
        start(tmp_path, settings, trackers=(KillAt(6),))
    run = RunFolder(tmp_path)
    lines = run.metrics.read_text()
    run.metrics.write_text(lines + json.dumps({"step": 7, "train_loss": -1.0}) + '\n{"step": 8, "tra')
    go_on(run, settings)
    assert [line["step"] for line in records(run)] == [0, 1, 2, 3, 3, 4, 4, 5, 6, 6, 7, 8, 8, 9, 9, 9]
    assert all(line.get("train_loss", 1.0) > 0 for line in records(run))


def test_the_clock_goes_on_across_a_resume(tmp_path: Path) -> None:
    settings = config()
    with pytest.raises(KilledError):
        start(tmp_path, settings, trackers=(KillAt(6),))
    run = RunFolder(tmp_path)
    kept = [line | {"wall_s": line["wall_s"] + 1000} for line in records(run)]
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in kept))
    go_on(run, settings)
    times = [line["wall_s"] for line in records(run)]
    assert times == sorted(times)
    assert min(times) >= 1000


def test_a_finished_run_stays_as_it_is(tmp_path: Path) -> None:
    settings = config()
    model, run, last = start(tmp_path, settings)
    before = run.metrics.read_bytes(), run.newest_checkpoint().read_bytes()
    again, last_again = go_on(run, settings)
    assert last_again == last
    assert (run.metrics.read_bytes(), run.newest_checkpoint().read_bytes()) == before
    assert_same(dict(again.state_dict()), dict(model.state_dict()))


def test_nothing_to_resume_from(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.create(config())
    with pytest.raises(CheckpointError, match="has no checkpoint"):
        go_on(run, config())


def test_refuses_to_start_over_checkpoints(tmp_path: Path) -> None:
    _, run, _ = start(tmp_path, config())
    before = sorted(run.path.rglob("*"))
    with pytest.raises(ConfigError, match=r"train: run must hold no checkpoint unless resume=True, got "):
        train(tiny_model(), config(), TRAIN, VALID, run=run, device=CPU)
    assert sorted(run.path.rglob("*")) == before


def test_a_damaged_checkpoint_is_named_and_the_one_before_serves(tmp_path: Path) -> None:
    settings = config(save_every=3)
    undisturbed, run, _ = start(tmp_path, settings)
    newest = run.newest_checkpoint()
    newest.write_bytes(newest.read_bytes()[:500])
    named = r"step-00000009\.pt is damaged or no checkpoint .*; delete it: .*; passed over for .*step-00000006\.pt"
    with pytest.warns(CheckpointWarning, match=named):
        resumed, _ = go_on(run, settings)
    assert_same(dict(resumed.state_dict()), dict(undisturbed.state_dict()))
    resumed, _ = go_on(run, settings)
    assert_same(dict(resumed.state_dict()), dict(undisturbed.state_dict()))


def test_where_all_are_damaged_the_newest_is_named(tmp_path: Path) -> None:
    settings = config(save_every=3)
    _, run, _ = start(tmp_path, settings)
    for path in run.saved_checkpoints():
        path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match=r"step-00000009\.pt is damaged or no checkpoint .*; delete it: "):
        go_on(run, settings)
