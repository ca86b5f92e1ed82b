"""The loop: it learns, it leaves exact records, and it stops in time."""

import itertools
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cs336_basics.accounting import flops
from cs336_basics.data.batches import batch_at
from cs336_basics.data.errors import DataError
from cs336_basics.train import loop as room
from cs336_basics.train.checkpoint import load_checkpoint
from cs336_basics.train.errors import TrainingError
from cs336_basics.train.loop import train
from cs336_basics.train.optimizer import learning_rate
from cs336_basics.train.run import RunFolder, with_field
from tests.train.runs import PEAK, TRAIN, VALID, Listed, computed, config, go_on, records, start
from tests.train.tiny import CPU, MODEL, assert_same, tiny_model

KEYS = {"step", "wall_s", "train_loss", "grad_norm", "lr", "tokens_per_s", "mfu", "input_part"}
EVAL_KEYS = {"step", "wall_s", "valid_loss", "eval_s"}
SAVE_KEYS = {"step", "wall_s", "save_s"}

# Learning


def test_the_loss_falls(tmp_path: Path) -> None:
    settings = config(steps=60, batch_size=8, log_every=20, eval_every=60, save_every=60)
    _, run, last = start(tmp_path, settings)
    found = records(run)
    assert found[0]["valid_loss"] > math.log(64) - 0.1
    # The text's entropy is 0.9 · log(1/0.9) + 0.1 · log(64/0.1) or so: 0.74 nats.
    assert 0.6 < found[-2]["valid_loss"] < 1.3
    assert last["valid_loss"] == found[-2]["valid_loss"]
    assert last["train_loss"] < 1.3


# Records


def test_metrics_have_their_keys_and_steps(tmp_path: Path) -> None:
    settings = config(steps=7, log_every=2, eval_every=3)
    _, run, last = start(tmp_path, settings)
    found = records(run)
    kinds = {"log": KEYS, "eval": EVAL_KEYS, "save": SAVE_KEYS}
    expected = "0 eval, 2 log, 3 eval, 4 log, 4 save, 6 log, 6 eval, 7 log, 7 eval, 7 save"
    assert [line["step"] for line in found] == [int(part.split()[0]) for part in expected.split(", ")]
    for line, part in zip(found, expected.split(", "), strict=True):
        assert set(line) == kinds[part.split()[1]]
        assert all(math.isfinite(value) for value in line.values())
    times = [line["wall_s"] for line in found]
    assert times == sorted(times)
    assert set(last) == (KEYS | EVAL_KEYS | SAVE_KEYS) - {"step"}
    for line in found:
        if "lr" in line:
            assert line["lr"] == learning_rate(line["step"] - 1, settings.optimizer, steps=7)


def test_every_tracker_gets_every_record(tmp_path: Path) -> None:
    first, second = Listed(), Listed()
    _, run, _ = start(tmp_path, config(), trackers=(first, second))
    assert first.records == second.records == records(run)


def test_progress_is_told_every_record(tmp_path: Path) -> None:
    told = Listed()
    _, run, _ = start(tmp_path, config(), progress=told.log)
    assert told.records == records(run)


def test_mfu_is_speed_times_work_over_the_stated_peak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> float:
        raise AssertionError("the peak was stated, and measured all the same")

    monkeypatch.setattr(room, "measure_peak_flops", refuse)
    _, run, _ = start(tmp_path, config())
    # Forward and backward: three times two FLOPs for each weight of a matrix, and attention over 16 positions.
    matrices = 2 * (4 * 32 * 32 + 3 * 32 * 64) + 64 * 32
    per_token = 3 * (2 * matrices + 2 * 2 * 2 * 16 * 32)
    assert flops(MODEL).total_flops == 16 * per_token
    for line in records(run):
        if "mfu" in line:
            assert line["mfu"] == pytest.approx(line["tokens_per_s"] * per_token / PEAK, rel=1e-12)


def test_the_peak_is_measured_where_none_is_stated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "measure_peak_flops", lambda _, dtype: {torch.float32: 2 * PEAK}[dtype])
    _, run, _ = start(tmp_path, config(steps=1, peak_flops=None))
    line = records(run)[1]
    assert line["mfu"] == pytest.approx(line["tokens_per_s"] * flops(MODEL).total_flops / 16 / (2 * PEAK), rel=1e-12)


def on_a_clock(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
    """A clock on which nothing takes time but these functions of the loop."""
    now = [0.0]

    def passes(taken: float, inner: Callable[..., Any]) -> Callable[..., Any]:
        def slow(*args: Any, **kwargs: Any) -> Any:
            now[0] += taken
            return inner(*args, **kwargs)

        return slow

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    for name, taken in seconds.items():
        monkeypatch.setattr(room, name, passes(taken, getattr(room, name)))


def test_speed_counts_neither_evaluation_nor_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_clock(monkeypatch, mean_loss=100.0, snapshot=100.0, train_step=2.0)
    _, run, _ = start(tmp_path, config(steps=6, log_every=2, eval_every=1, save_every=1))
    found = records(run)
    assert {line["tokens_per_s"] for line in found if "tokens_per_s" in line} == {4 * 16 / 2}
    assert {line["eval_s"] for line in found if "eval_s" in line} == {100.0}
    assert {line["save_s"] for line in found if "save_s" in line} == {100.0}
    assert found[-1]["wall_s"] == 7 * 100 + 6 * 2 + 6 * 100


def test_time_that_steps_wait_for_input_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "one_ahead", lambda make, steps: (make(step) for step in steps))  # made when asked for
    on_a_clock(monkeypatch, batch_at=3.0, train_step=1.0, mean_loss=100.0)
    _, run, _ = start(tmp_path, config(steps=4, log_every=2))
    assert [line["input_part"] for line in records(run) if "input_part" in line] == [0.75, 0.75]


# Checkpoints


@pytest.mark.parametrize(("keep", "kept"), [(1, [9]), (2, [8, 9]), (3, [6, 8, 9]), (9, [2, 4, 6, 8, 9])])
def test_keeps_the_newest_checkpoints(tmp_path: Path, keep: int, kept: list[int]) -> None:
    model, run, _ = start(tmp_path, config(save_every=2, eval_every=9, log_every=9, keep_checkpoints=keep))
    assert run.saved_checkpoints() == [run.checkpoint(step) for step in kept]
    assert sorted(p.name for p in run.checkpoints.iterdir()) == [run.checkpoint(step).name for step in kept]
    other = tiny_model(seed=5)
    assert load_checkpoint(run.newest_checkpoint(), other) == 9
    assert_same(dict(other.state_dict()), dict(model.state_dict()))


# Precision and speed


def test_auto_takes_the_faster_dtype(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "fastest_dtype", lambda _: "bfloat16")
    losses = {}
    for name in ("auto", "bfloat16", "float32"):
        _, run, _ = start(tmp_path / name, config(steps=2, dtype=name))
        losses[name] = computed(run)
    assert losses["auto"] == losses["bfloat16"] != losses["float32"]


no_compiler = not any(map(shutil.which, ("c++", "g++", "clang++", "cl")))
inductor = (
    pytest.mark.slow,
    pytest.mark.skipif(no_compiler, reason="torch.compile's default backend needs a C++ compiler"),
)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=inductor)])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # the compiler's own
def test_compiled_training_has_the_same_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    settings = replace(config(), model=replace(MODEL, n_layers=1))
    _, eager, _ = start(tmp_path / "eager", settings)
    compiled_with = []

    def compile_with(loss: Callable[..., Any], inner: Callable[..., Any] = torch.compile) -> Any:
        compiled_with.append(backend)
        return inner(loss, backend=backend)

    monkeypatch.setattr(torch, "compile", compile_with)
    _, compiled, _ = start(tmp_path / "compiled", with_field(settings, "train", compile=True))
    assert compiled_with == [backend]
    assert len(computed(eager)) == len(computed(compiled))
    for ours, theirs in zip(computed(eager), computed(compiled), strict=True):
        assert theirs == pytest.approx(ours, rel=1e-4)  # other orders of summing, amplified over nine steps
    go_on(compiled, settings)  # its checkpoint is an ordinary one


# Stopping


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    settings = config()
    run, model = RunFolder(tmp_path), tiny_model()
    run.create(settings)
    torch.nn.init.constant_(next(model.parameters()), float("nan"))
    with pytest.raises(TrainingError, match=r"loss is nan .* at step 1; lower optimizer\.lr .*start a new run"):
        train(model, settings, TRAIN, VALID, run=run, device=CPU)
    assert run.saved_checkpoints() == []
    assert records(run)[0]["valid_loss"] is None


def test_the_advice_can_be_followed(tmp_path: Path) -> None:
    settings = with_field(config(optimizer="sgd", log_every=100), "optimizer", lr=1e30, schedule="wsd")
    with pytest.raises(TrainingError, match="at step 2") as caught:
        start(tmp_path / "a", settings)
    assert RunFolder(tmp_path / "a").saved_checkpoints() == []  # never save what has gone wrong between two lines
    field = str(caught.value).split("lower optimizer.")[1].split()[0]
    start(tmp_path / "b", with_field(settings, "optimizer", **{field: 1e-2}))


@pytest.mark.parametrize("which", ["train", "valid"])
def test_tokens_shorter_than_the_context(tmp_path: Path, which: str) -> None:
    run, settings = RunFolder(tmp_path), config()
    run.create(settings)
    tokens = {"train": TRAIN, "valid": VALID} | {which: TRAIN[:16]}
    with pytest.raises(DataError, match="at least context_length \\+ 1 = 17 tokens, got 16"):
        train(tiny_model(), settings, tokens["train"], tokens["valid"], run=run, device=CPU)
    assert run.saved_checkpoints() == []


# Each step sees its own batch


@pytest.mark.parametrize("sampling", ["shuffle", "random"])
def test_batches_depend_on_seed_and_step_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampling: str) -> None:
    asked: list[dict[str, Any]] = []
    inner = batch_at

    def watch(dataset: np.ndarray, **options: Any) -> Any:
        asked.append(options)
        return inner(dataset, **options)

    monkeypatch.setattr(room, "batch_at", watch)
    start(tmp_path, config(sampling=sampling, seed=11))
    assert [options["step"] for options in asked] == list(range(9))
    assert {options["seed"] for options in asked} == {11}
    assert {options["replacement"] for options in asked} == {sampling == "random"}
    torch.manual_seed(0)
    pairs = itertools.pairwise(inner(TRAIN, **options)[0] for options in asked)
    assert not any(torch.equal(a, b) for a, b in pairs)
