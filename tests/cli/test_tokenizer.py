"""The tokenizer's commands: what they say of a folder without one, and of what is next."""

import shutil
from pathlib import Path

import pytest

from cs336_basics.cli.commands import TokenizerInspect
from tests.cli.small import MODEL, TRAIN, run
from tests.cli.test_next import next_command

pytestmark = pytest.mark.e2e

COMMANDS = {
    "tokenizer encode text.txt --tokenizer {} --out x.bin": "tokenizer",
    "tokenizer decode text.bin --tokenizer {}": "tokenizer",
    "tokenizer inspect {}": "tokenizer",
    "train --run new --data.train text.bin --data.tokenizer {}": "data.tokenizer",
}


@pytest.mark.parametrize("folder", ["nowhere", "empty"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_without_a_tokenizer_says_how_to_make_one(
    work: Path, command: str, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (work / "empty").mkdir(exist_ok=True)
    assert run(work, command.format(folder)) == 2
    said = f"{COMMANDS[command]}: {folder} holds no tokenizer; make one with cs336 tokenizer train\n"
    assert capsys.readouterr().err.endswith(f"error: {said}")
    assert not (work / "new").exists()


def test_a_damaged_tokenizer_names_its_file(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(work / "tok", work / "half")
    (work / "half" / "merges.txt").unlink()
    assert run(work, "tokenizer inspect half") == 2
    assert "error: half/merges.txt must be a file to read" in capsys.readouterr().err


@pytest.mark.parametrize("emptied", [False, True])
def test_a_run_that_lost_its_tokenizer_says_how_to_give_it_back(
    trained: Path, emptied: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"lost-{emptied}"
    shutil.copytree(trained / "run", trained / name)
    shutil.rmtree(trained / name / "tokenizer")
    if emptied:
        (trained / name / "tokenizer").mkdir()
    for command in ("generate --max-new-tokens 2", "evaluate"):
        assert run(trained, f"{command} --run {name} --device cpu") == 2
        assert capsys.readouterr().err.endswith(
            f"error: tokenizer: {name}/tokenizer holds no tokenizer; put back the one that the run was made with: "
            f"cs336 train --run {name} --resume copies it from {trained}/tok\n"
        )
    assert run(trained, f"train --run {name} --resume") == 0
    assert run(trained, f"generate --max-new-tokens 2 --run {name} --device cpu") == 0


def test_a_run_whose_tokenizer_is_gone_everywhere(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(work / "tok", tmp_path / "tok")
    words = f"train --run run --data.train {work}/text.bin --data.tokenizer tok --train.steps 1"
    assert run(tmp_path, words, *TRAIN, *MODEL) == 0
    shutil.rmtree(tmp_path / "run" / "tokenizer")
    (tmp_path / "tok").rename(tmp_path / "moved")
    assert run(tmp_path, "generate --run run --device cpu") == 2
    assert capsys.readouterr().err.endswith("holds no tokenizer; put back the one that the run was made with\n")
    assert run(tmp_path, "train --run run --resume") == 2
    err = capsys.readouterr().err
    assert (
        f"data.tokenizer: {tmp_path}/tok holds no tokenizer; say where the one that the run was made with lies" in err
    )
    assert run(tmp_path, "train --run run --resume --data.tokenizer moved") == 0


def test_decode_into_a_file_says_what_comes_next(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(work, "tokenizer decode text.bin --tokenizer tok --out", "my back.txt") == 0
    then = next_command(capsys.readouterr().out)
    assert isinstance(then, TokenizerInspect)
    assert (then.tokenizer, then.text) == ("tok", ("my back.txt",))
