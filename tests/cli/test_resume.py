"""Going on with a run from the command line: what may change, what is refused, and how damage is mended."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from cs336_basics.config import RunConfig, load_config
from cs336_basics.train.run import RunFolder
from tests.cli.small import MODEL, TRAIN, run
from tests.faults.disk import Disk, failing_at
from tests.faults.naive import put_in

pytestmark = pytest.mark.e2e


def test_resume_refuses_what_would_bend_the_curve(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(trained, "train --run run --resume --optimizer.lr 0.5") == 2
    assert "optimizer.lr must stay 0.001 when a run is resumed, got 0.5" in capsys.readouterr().err


def test_resume_of_a_finished_run_changes_nothing(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = trained / "run" / "metrics.jsonl"
    before = [json.loads(line).get("train_loss") for line in metrics.read_text().splitlines()]
    assert run(trained, "train --run run --resume") == 0
    assert [json.loads(line).get("train_loss") for line in metrics.read_text().splitlines()] == before
    out = capsys.readouterr().out
    assert "already finished: the 8 updates of train.steps are done" in out
    assert "start a new run with a larger --train.steps" in out
    assert run(trained, "train --run run --resume --train.steps 9") == 2, "as that says"


def test_resume_of_a_finished_run_makes_up_for_what_is_missing(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained / "run", trained / "bare")
    for name in ("metrics.jsonl", "loss.png", "samples/step-00000008.txt"):
        (trained / "bare" / name).unlink()
    assert run(trained, "train --run bare --resume") == 0
    out = capsys.readouterr().out
    assert "already finished" in out
    assert "validation loss" not in out, "nobody knows it any more"
    assert (trained / "bare" / "samples" / "step-00000008.txt").exists()


def test_resume_takes_the_flags_the_run_was_started_with(trained: Path) -> None:
    words = "train --run run --resume --data.train text.bin --data.tokenizer tok --train.steps 8"
    assert run(trained, words, *TRAIN, *MODEL) == 0


def test_resume_sees_a_flag_that_equals_the_default(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(trained, "train --run run --resume --train.steps 1000") == 2
    assert "train.steps must stay 8 when a run is resumed, got 1000" in capsys.readouterr().err


def test_a_run_stopped_before_its_first_checkpoint_starts_again(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained / "run", trained / "stopped")
    for path in (trained / "stopped" / "checkpoints").iterdir():
        path.unlink()
    capsys.readouterr()
    assert run(trained, "train --run stopped --resume") == 0
    assert "already finished" not in capsys.readouterr().out
    curves = [
        [(r["step"], r.get("train_loss"), r.get("valid_loss")) for r in map(json.loads, path.read_text().splitlines())]
        for path in (trained / "stopped" / "metrics.jsonl", trained / "run" / "metrics.jsonl")
    ]
    assert curves[0] == curves[1]


def test_a_damaged_line_of_metrics_is_named_and_deleting_it_mends_the_run(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained / "run", trained / "smudged")
    metrics = trained / "smudged" / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join([*lines[:2], '{"step": 4, "tra\n', *lines[2:]]))
    assert run(trained, "train --run smudged --resume") == 2
    assert "read_metrics: line 3 of smudged/metrics.jsonl must be" in capsys.readouterr().err
    assert run(trained, "generate --run smudged --device cpu --max-new-tokens 2") == 0, "the weights are fine"
    metrics.write_text("".join(lines))
    assert run(trained, "train --run smudged --resume") == 0


def test_a_field_that_bends_the_curve_changes_only_where_it_is_named(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained / "run", trained / "bent")
    words = "train --run bent --resume --optimizer.lr 0.5 --train.seed 3"
    for named, message in (
        ("", "optimizer.lr must stay 0.001 when a run is resumed, got 0.5"),
        ("--may-change optimizer.lr", "train.seed must stay 0 when a run is resumed, got 3"),
        ("--may-change optimizer.learning_rate", "may_change must be fields of the config, such as optimizer.lr"),
    ):
        assert run(trained, f"{words} {named}") == 2
        assert message in capsys.readouterr().err
    assert run(trained, f"{words} --may-change optimizer.lr train.seed") == 0
    assert load_config(RunConfig, trained / "bent" / "config.toml").optimizer.lr == 0.5


def test_a_change_that_does_not_fit_leaves_the_run_as_it_was(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(trained / "run", trained / "wider")
    before = (trained / "wider" / "config.toml").read_bytes()
    for change in ("--model.d-ff 80 --may-change model.d_ff", "--optimizer.name muon --may-change optimizer.name"):
        assert run(trained, f"train --run wider --resume {change}") in (1, 2)
        assert "does not fit the" in capsys.readouterr().err
        assert (trained / "wider" / "config.toml").read_bytes() == before
    assert run(trained, "train --run wider --resume") == 0
    assert run(trained, "train --run other --may-change optimizer.lr --data.train text.bin --data.tokenizer tok") == 2
    assert "may_change must be given together with --resume" in capsys.readouterr().err


def test_a_folder_in_use_is_refused(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunFolder(trained / "run").held():
        assert run(trained, "train --run run --resume") == 2
        assert f"run: run is in use by process {os.getpid()} on " in capsys.readouterr().err
        assert run(trained, "generate --run run --device cpu --max-new-tokens 2") == 0, "whoever reads is welcome"


def test_a_full_disk_ends_the_run_with_1_and_the_run_goes_on_from_what_was_saved(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "train --run full --data.train text.bin --data.tokenizer tok --train.steps 8 --train.save-every 2"
    with put_in(Disk(failing_at(30, "ENOSPC", on=True), within="checkpoints")):
        assert run(work, words, *TRAIN, *MODEL) == 1
    err = capsys.readouterr().err
    assert re.search(r"full/checkpoints/step-0000000\d\.pt cannot be written: No space left on device\n$", err)
    assert err.count("\n") == 1
    assert not list((work / "full").rglob("*.tmp"))
    assert run(work, "train --run full --resume") == 0
    assert run(work, words.replace("full", "roomy"), *TRAIN, *MODEL) == 0
    assert losses(work / "full") == losses(work / "roomy")


def test_huge_token_files_need_not_be_read_whole(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = bytearray((work / "text.bin").read_bytes())
    content[-2] ^= 1
    (work / "changed.bin").write_bytes(content)
    shutil.copy(work / "text.bin.json", work / "changed.bin.json")
    words = "train --run {} --data.train changed.bin --data.tokenizer tok --train.steps 1"
    assert run(work, words.format("strict"), *TRAIN, *MODEL) == 2
    assert "data: sha256 of changed.bin must be" in capsys.readouterr().err
    assert run(work, words.format("loose"), "--data.no-verify", *TRAIN, *MODEL) == 0


TOML = """run = "run"
resume = true
[data]
train = "text.bin"
tokenizer = "tok"
[train]
dtype = "auto"
"""


@pytest.mark.parametrize(
    ("more", "words", "message"),
    [
        ("keep_checkpoints = 7\n", "", ""),
        ("keep_checkpoints = 3\n", "--train.keep-checkpoints 7", ""),
        ("steps = 9\n", "", "train.steps must stay 8 when a run is resumed, got 9"),
        ("steps = 9\n", "--train.steps 8 --train.keep-checkpoints 7", ""),
        ("[model]\nqk_norm = true\n", "", "model.qk_norm must stay False when a run is resumed, got True"),
        (
            "[model]\nd_modle = 9\n",
            "",
            "again.toml[model]: d_modle is not a field of ModelConfig",
        ),
        ("batch_size = 'x'\n", "", "again.toml[train]: batch_size must be a whole number, got 'x'"),
        ("", "--no-resume", "already holds a run"),
        ("", "--run nowhere", "run nowhere holds no config.toml"),
    ],
)
def test_toml_lies_between_the_runs_config_and_the_flags(
    trained: Path, more: str, words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (trained / "again.toml").write_text(TOML + more)
    assert run(trained, f"train --config again.toml {words}") == (2 if message else 0)
    assert message in capsys.readouterr().err
    if not message:
        assert load_config(RunConfig, trained / "run" / "config.toml").train.keep_checkpoints == 7


@pytest.mark.parametrize(
    ("text", "message"), [("model = 3\n", "model must be a table, got 3"), ("run = 3\n", "run must")]
)
def test_toml_of_other_types_is_refused_when_resuming(
    trained: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (trained / "bad.toml").write_text(text)
    flag = "" if "run" in text else "--run run"
    assert run(trained, f"train --config bad.toml --resume {flag}") == 2
    assert f"bad.toml: {message}" in capsys.readouterr().err


def test_resume_does_not_ask_the_clock_anew_what_is_faster(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cs336_basics.cli.train.fastest_dtype", lambda _: "bfloat16")
    assert run(trained, "train --run run --resume --train.dtype auto") == 0
    assert run(trained, "train --run run --resume --train.dtype bfloat16") == 2


def losses(folder: Path) -> list[tuple[float | None, ...]]:
    """What a run computed, a line a record."""
    names = ("step", "train_loss", "valid_loss")
    return [tuple(map(json.loads(line).get, names)) for line in (folder / "metrics.jsonl").read_text().splitlines()]


COMMANDS = (
    "train --run {} --resume",
    "generate --run {} --device cpu --max-new-tokens 2",
    "evaluate --run {} --device cpu",
)


def test_a_damaged_checkpoint_is_passed_over_with_a_warning(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "train --run twice --data.train text.bin --data.tokenizer tok --train.steps 8 --train.save-every 4"
    assert run(work, words, *TRAIN, *MODEL) == 0
    before = losses(work / "twice")
    newest = work / "twice" / "checkpoints" / "step-00000008.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    capsys.readouterr()
    for command in reversed(COMMANDS):
        assert run(work, command.format("twice")) == 0
        lines = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
        assert len(lines) == 1, "the last command has trained it again, from update 4 on, after it said so"
        assert "twice/checkpoints/step-00000008.pt is damaged" in lines[0]
        assert "passed over for twice/checkpoints/step-00000004.pt" in lines[0]
    assert newest.stat().st_size > 1000
    assert run(work, "train --run twice --resume") == 0
    assert "warning" not in capsys.readouterr().err
    assert losses(work / "twice") == before


def test_a_damaged_first_checkpoint_is_mended_as_its_error_says(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained / "run", trained / "once")
    only = trained / "once" / "checkpoints" / "step-00000008.pt"
    only.write_bytes(b"")
    assert run(trained, "generate --run once --device cpu") == 2
    assert "or with train --resume from the start" in capsys.readouterr().err
    only.unlink()
    assert run(trained, "generate --run once --device cpu") == 2
    assert "train into it first: cs336 train --run once --resume\n" in capsys.readouterr().err
    assert run(trained, "train --run once --resume") == 0
    assert run(trained, "generate --run once --device cpu --max-new-tokens 2") == 0
    assert losses(trained / "once") == losses(trained / "run")
