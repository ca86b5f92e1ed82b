"""A run and the data it was made from: the data may move, and may not change."""

import json
import shutil
import tomllib
from pathlib import Path

import pytest

from tests.cli.small import MODEL, TRAIN, run

pytestmark = pytest.mark.e2e

RESUME = "train --run {} --resume"


@pytest.fixture(scope="module")
def made(work: Path) -> Path:
    """A folder with `data`, a run of it, and tokens of another text and of another tokenizer."""
    (work / "data").mkdir()
    for name in ("tok", "text.bin", "text.bin.json"):
        (work / name).rename(work / "data" / name)
    words = (
        "train --run whole --data.train data/text.bin --data.tokenizer data/tok --train.steps 8 --train.save-every 4"
    )
    assert run(work, words, *TRAIN, *MODEL) == 0
    (work / "other.txt").write_text("Twice upon a time there was no fox at all.\n" * 60)
    assert run(work, "tokenizer encode other.txt --tokenizer data/tok --out other.bin") == 0
    assert run(work, "tokenizer train text.txt --out tok2 --vocab-size 300 --special-tokens <|x|> --workers 1") == 0
    assert run(work, "tokenizer encode text.txt --tokenizer tok2 --out other2.bin") == 0
    return work


@pytest.fixture
def stopped(made: Path, tmp_path: Path) -> Path:
    """The same folder, elsewhere: its run, stopped at update 4, knows data that is no longer there."""
    for path in made.iterdir():
        if path.is_dir():
            shutil.copytree(path, tmp_path / path.name)
        else:
            shutil.copy(path, tmp_path)
    config = tmp_path / "whole" / "config.toml"
    config.write_text(config.read_text().replace(str(made), str(tmp_path)))
    (tmp_path / "whole" / "checkpoints" / "step-00000008.pt").unlink()
    (tmp_path / "data").rename(tmp_path / "moved")
    return tmp_path


def losses(folder: Path) -> list[tuple[float | None, ...]]:
    names = ("step", "train_loss", "valid_loss")
    return [tuple(map(json.loads(line).get, names)) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_new_run_records_what_its_data_is(made: Path) -> None:
    found = tomllib.loads((made / "whole" / "data.toml").read_text())
    assert found["train"] == json.loads((made / "data" / "text.bin.json").read_text())["sha256"]
    assert found["tokenizer"] == json.loads((made / "data" / "tok" / "special_tokens.json").read_text())["fingerprint"]
    assert found["valid"] == ""


def test_a_run_goes_on_when_its_data_has_moved(made: Path, stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(stopped, RESUME.format("whole")) == 2
    err = capsys.readouterr().err
    assert "data/text.bin is" in err or "data/text.bin.json is missing" in err
    assert "if it was moved, say where to: --data.train PATH" in err
    assert run(stopped, RESUME.format("whole") + " --data.train moved/text.bin") == 0
    assert losses(stopped / "whole") == losses(made / "whole")
    assert run(stopped, "evaluate --run whole --device cpu") == 0, "the new place is remembered"
    assert run(stopped, RESUME.format("whole") + " --data.tokenizer moved/tok") == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--data.train other.bin", "data.train must be what the run was made with, sha256 "),
        (
            "--data.train moved/text.bin --data.valid other.bin",
            "data.valid must be what the run was made with, none, got",
        ),
        ("--data.train other2.bin --data.tokenizer tok2", "data.tokenizer must be what the run was made with, sha256 "),
        ("--data.train other2.bin", "did not make other2.bin"),
        ("--data.train moved/text.bin --data.valid-share 0.2", "data.valid_share must stay 0.05"),
    ],
)
def test_other_data_is_refused_by_name(
    stopped: Path, flags: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in (stopped / "whole").rglob("*") if path.is_file()}
    assert run(stopped, f"{RESUME.format('whole')} {flags}") == 2
    assert message in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (stopped / "whole").rglob("*") if path.is_file()} == before


def test_data_that_changed_in_its_place_is_refused(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (stopped / "moved").rename(stopped / "data")
    assert run(stopped, "tokenizer encode other.txt --tokenizer data/tok --out data/text.bin") == 0
    assert run(stopped, RESUME.format("whole")) == 2
    assert "data.train must be what the run was made with" in capsys.readouterr().err
    assert run(stopped, "evaluate --run whole --device cpu") == 2
    assert "data.train must be what the run was made with" in capsys.readouterr().err


def test_an_older_run_that_recorded_nothing_compares_paths(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (stopped / "whole" / "data.toml").unlink()
    assert run(stopped, f"{RESUME.format('whole')} --data.train moved/text.bin") == 2
    assert "data.train must stay" in capsys.readouterr().err
    (stopped / "moved").rename(stopped / "data")
    assert run(stopped, RESUME.format("whole")) == 0
    (stopped / "data").rename(stopped / "moved")
    assert run(stopped, f"{RESUME.format('whole')} --data.train moved/text.bin") == 0, "it is recorded now"


def test_evaluate_without_its_data_asks_for_a_text(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(stopped, "evaluate --run whole --device cpu") == 2
    err = capsys.readouterr().err
    assert err.startswith("cs336 evaluate: error: the run's own tokens are not to be had (")
    assert err.endswith("; score a text with --text FILE\n")
    assert run(stopped, "evaluate --run whole --device cpu --text other.txt") == 0


def test_a_lost_copy_of_the_tokenizer_is_made_anew(stopped: Path) -> None:
    shutil.rmtree(stopped / "whole" / "tokenizer")
    assert run(stopped, f"{RESUME.format('whole')} --data.train moved/text.bin --data.tokenizer moved/tok") == 0
    assert run(stopped, "generate --run whole --device cpu --max-new-tokens 2") == 0
