"""Accounting from the command line: the table, a model, and a run as it is trained."""

import re
from pathlib import Path

import pytest

from cs336_basics.accounting import flops, training_memory
from cs336_basics.cli.progress import memory
from cs336_basics.config import ModelConfig, OptimizerConfig, RunConfig, TrainConfig
from cs336_basics.train.run import RunFolder
from tests.cli.small import run

pytestmark = pytest.mark.e2e

MODEL = ModelConfig(vocab_size=500, d_model=64, n_heads=4, context_length=32)
OPTIMIZER = OptimizerConfig(name="sgd", momentum=0.0)
TRAIN = TrainConfig(batch_size=12, grad_accumulation=3, dtype="bfloat16")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a run that is not like the defaults, at `run`."""
    RunFolder(tmp_path / "run").create(RunConfig(model=MODEL, optimizer=OPTIMIZER, train=TRAIN))
    return tmp_path


def test_accounting_prints_the_gpt2_table(capsys: pytest.CaptureFixture[str], work: Path) -> None:
    assert run(work, "accounting") == 0
    out = capsys.readouterr().out
    assert all(size in out for size in ("small", "medium", "large", "xl"))
    assert run(work, "accounting model --model.d-model 64 --model.n-heads 2") == 0
    out = capsys.readouterr().out
    assert "parameters" in out.lower()
    assert re.search(r"memory of a training step, float32, adamw: [\d.]+ MiB\n", out)
    assert "1 GiB is 2**30 bytes" in out
    assert not re.search(r"\d [kMG]B", out), "one system of units"


def test_a_run_is_counted_as_it_is_trained(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "accounting --run run") == 0
    out = capsys.readouterr().out
    total = training_memory(MODEL, batch_size=4, dtype="bfloat16", optimizer=OPTIMIZER).total_bytes
    assert f"memory of a training step, bfloat16, sgd: {memory(total)}\n" in out
    assert f"over 4 x 32 tokens: {flops(MODEL, batch_size=4).forward_flops:,}\n" in out
    assert "float32, sgd" not in out, "the run is not trained in it"


def test_flags_and_toml_win_over_the_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.toml").write_text('run = "run"\nbatch_size = 3\n')
    assert run(folder, "accounting model --config a.toml --optimizer adamw") == 0
    total = training_memory(MODEL, batch_size=3, dtype="bfloat16").total_bytes
    assert f"memory of a training step, bfloat16, adamw: {memory(total)}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--run run --model.d-model 512", "--model.d-model must not be given with a run, whose own model is counted"),
        ("model --run=run --model.qk-norm", "--model.qk-norm must not be given with a run"),
        ("--model.d-model=64", "--model.d-model must not be given for GPT-2's sizes; say: cs336 accounting model"),
        ("gpt2 --model.no-qk-norm", "--model.no-qk-norm must not be given for GPT-2's sizes"),
        ("--config a.toml", "model.d_model must not be given for GPT-2's sizes"),
        ("--config a.toml --run run", "model.d_model must not be given with a run"),
        ("--config b.toml", "b.toml: model must be a table, got 3"),
    ],
)
def test_what_has_no_effect_is_refused_by_name(
    folder: Path, words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.toml").write_text("[model]\nd_model = 64\n")
    (folder / "b.toml").write_text("model = 3\n")
    assert run(folder, f"accounting {words}") == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"cs336 accounting: error: {message}")
    assert captured.out == ""


def test_a_model_in_toml_is_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.toml").write_text('what = "model"\n[model]\nd_model = 64\nn_heads = 4\n')
    assert run(folder, "accounting --config a.toml") == 0
    assert "--model.d-model 64" in capsys.readouterr().out
