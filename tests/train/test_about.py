"""A checkpoint holds all that a run depends on, and a run goes on from it only as it was."""

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import cs336_basics
from cs336_basics.config import ConfigError, RunConfig, to_dict
from cs336_basics.nn import TransformerLM
from cs336_basics.train import engine
from cs336_basics.train import loop as room
from cs336_basics.train.about import random_state, require_same_run, revision, set_random_state
from cs336_basics.train.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint
from cs336_basics.train.errors import CheckpointError
from cs336_basics.train.keep import read_newest
from cs336_basics.train.run import FREE_FIELDS, DataIdentity, RunFolder, with_field
from cs336_basics.train.seal import FORMAT_VERSION
from cs336_basics.train.step import loss_fn
from tests.faults.naive import plain
from tests.train.runs import TRAIN, VALID, KillAt, KilledError, computed, config, go_on, start
from tests.train.test_run import changes
from tests.train.tiny import CPU, assert_same, states, tiny_model, trained

# What it holds


def test_it_says_all_that_a_run_depends_on(tmp_path: Path) -> None:
    settings, data = config(seed=7), DataIdentity(tokenizer="a" * 64, train="b" * 64)
    run, model = RunFolder(tmp_path), tiny_model()
    run.create(settings, data)
    room.train(model, settings, TRAIN, VALID, run=run, device=CPU)
    state = read_newest(run)[1]
    assert set(state) == {"model", "optimizer", "iteration", "about"}
    about = state["about"]
    assert about["config"] == to_dict(settings)
    assert about["data"] == dict(vars(data))
    assert about["sampler"] == {"seed": 7, "step": 9, "sampling": "shuffle"}
    assert set(about["random"]) == {"python", "numpy", "torch"} | ({"mps"} & set(about["random"]))
    assert about["version"] == cs336_basics.__version__
    assert about["revision"] == revision()


def test_the_revision_is_that_of_the_source() -> None:
    root = Path(cs336_basics.__file__).resolve().parents[2]
    if not (root / ".git").exists():
        pytest.skip("this is no checkout")
    assert len(revision().removesuffix("-dirty")) == 40


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]  # the global ones


def test_random_states_come_back(tmp_path: Path) -> None:
    random.gauss(0, 1)  # it keeps a second number for later
    np.random.standard_normal()
    model, optimizer = trained("sgd")
    save_checkpoint(model, optimizer, 0, tmp_path / "a.pt", about={"random": random_state()})
    expected = [*draws(), random.gauss(0, 1), float(np.random.standard_normal())]
    draws()
    set_random_state(read_checkpoint(tmp_path / "a.pt")["about"]["random"])
    assert [*draws(), random.gauss(0, 1), float(np.random.standard_normal())] == expected


@pytest.mark.parametrize("restored", [True, False])
def test_a_run_that_draws_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restored: bool) -> None:
    """A loss with noise of each generator; without their states the curve is another, so this test can tell."""

    def noisy(model: TransformerLM, **options: Any) -> Any:
        inner = loss_fn(model, **options)

        def loss(ids: Tensor, targets: Tensor) -> Tensor:
            return inner(ids, targets) * (1 + sum(draws()) / 10)

        return loss

    def seed() -> None:
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)

    monkeypatch.setattr(engine, "loss_fn", noisy)
    seed()
    _, whole_run, _ = start(tmp_path / "whole", config())
    seed()
    with pytest.raises(KilledError):
        start(tmp_path / "cut", config(), trackers=(KillAt(7),))
    draws()
    if not restored:
        monkeypatch.setattr(room, "set_random_state", lambda _: None)
    cut_run = RunFolder(tmp_path / "cut")
    go_on(cut_run, config())
    assert (computed(cut_run) == computed(whole_run)) == restored


# What is refused


@pytest.mark.parametrize(("section", "name", "value"), changes())
def test_a_changed_field_is_refused_by_name(section: str, name: str, value: Any) -> None:
    settings = RunConfig()
    about = {"config": to_dict(settings)}
    asked = with_field(dataclasses.replace(settings), section, **{name: value})
    field = f"{section}.{name}"
    if field in FREE_FIELDS or asked == settings:
        require_same_run(about, asked, None)
        return
    with pytest.raises(ConfigError, match=rf"{field} must stay "):
        require_same_run(about, asked, None)
    require_same_run(about, asked, None, may_change=frozenset({field}))


def test_the_loop_itself_refuses_it(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        start(tmp_path, config(), trackers=(KillAt(7),))
    bent = with_field(config(), "optimizer", lr=0.5)
    run = RunFolder(tmp_path)
    with pytest.raises(ConfigError, match=r"optimizer\.lr must stay 0\.01 when a run is resumed, got 0\.5"):
        go_on(run, bent)
    go_on(run, bent, may_change=frozenset({"optimizer.lr"}))
    assert read_newest(run)[1]["about"]["config"]["optimizer"]["lr"] == 0.5


def test_other_data_is_refused_by_name() -> None:
    data = DataIdentity(tokenizer="a" * 64, train="b" * 64)
    about = {"config": to_dict(config()), "data": dict(vars(data))}
    require_same_run(about, with_field(config(), "data", train="moved.bin"), data)
    other = dataclasses.replace(data, train="c" * 64)
    with pytest.raises(ConfigError, match=r"data\.train must be what the run was made with"):
        require_same_run(about, config(), other)
    require_same_run(about, config(), other, may_change=frozenset({"data.train"}))


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"config": 3}, "the checkpoint's config must be a table, got 3"),
        ({"data": [1]}, r"the checkpoint's data must be a table, got \[1\]"),
        ({"config": {"model": {"d_modle": 3}}}, r"the checkpoint's config\[model\]: d_modle is not a field"),
        ({"data": {"trains": "a"}}, "the checkpoint's data: trains is not a field of DataIdentity"),
        ({"config": to_dict(config()), "random": {}}, "the checkpoint's random states are not those of a run"),
        ({"random": {"python": [3, [1], None]}}, "the checkpoint's random states are not those of a run"),
        ({"random": 3}, "the checkpoint's random states are not those of a run"),
    ],
)
def test_a_whole_file_that_says_something_else_is_refused(tmp_path: Path, about: dict[str, Any], message: str) -> None:
    run = RunFolder(tmp_path)
    run.create(config())
    save_checkpoint(*trained("adamw", steps=2), 2, run.checkpoint(2), about=about)
    with pytest.raises((ConfigError, CheckpointError), match=message):
        go_on(run, config())


def test_version_1_is_read_and_a_later_one_refused_by_name(tmp_path: Path) -> None:
    model, optimizer = trained("adamw", steps=2)
    path = tmp_path / "a.pt"
    path.write_bytes(plain({**states(model, optimizer), "iteration": 2}))
    other, other_optimizer = trained("adamw", seed=1)
    assert load_checkpoint(path, other, other_optimizer) == 2
    assert_same(states(other, other_optimizer), states(model, optimizer))
    require_same_run(read_checkpoint(path)["about"], config(), None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cs336_basics.train.seal.FORMAT_VERSION", FORMAT_VERSION + 1)
        save_checkpoint(model, optimizer, 2, path)
    with pytest.raises(CheckpointError, match=r"its format version must be 2 or 1; a later cs336-basics wrote it"):
        load_checkpoint(path, other)


def test_a_sealed_file_whose_seal_is_cut_off_is_no_version_1(tmp_path: Path) -> None:
    model, optimizer = trained("adamw", steps=2)
    path = tmp_path / "a.pt"
    save_checkpoint(model, optimizer, 2, path)
    sound = path.read_bytes()
    path.write_bytes(sound[: sound.rindex(b"\ncs336 checkpoint")])
    with pytest.raises(CheckpointError, match=r"its seal is gone"):
        load_checkpoint(path, model)
