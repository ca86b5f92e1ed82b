"""No command writes over what it reads, whatever names the files go by."""

import os
import shutil
from pathlib import Path

import pytest

from cs336_basics.cli.commands import TokenizerEncode
from tests.cli.small import run
from tests.cli.test_next import next_command

pytestmark = pytest.mark.e2e


@pytest.fixture
def files(work: Path, tmp_path: Path) -> Path:
    """A text, its tokens and its tokenizer, and the text under names that a command might write to."""
    for name in ("text.txt", "text.bin", "text.bin.json"):
        shutil.copy(work / name, tmp_path)
    shutil.copytree(work / "tok", tmp_path / "tok")
    (tmp_path / "link").symlink_to("text.txt")
    os.link(tmp_path / "text.txt", tmp_path / "hard")
    (tmp_path / "folder").mkdir()
    shutil.copy(work / "text.txt", tmp_path / "folder" / "x.json")
    shutil.copy(work / "text.txt", tmp_path / "folder" / "vocab.json")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("encode text.txt --tokenizer tok --out text.txt", "got text.txt; text.txt is the text"),
        ("encode text.txt --tokenizer tok --out folder/../text.txt", "text.txt is the text"),
        ("encode text.txt --tokenizer tok --out link", "got link; text.txt is the text"),
        ("encode link --tokenizer tok --out text.txt", "got text.txt; link is the text"),
        ("encode text.txt --tokenizer tok --out hard", "got hard; text.txt is the text"),
        (
            "encode folder/x.json --tokenizer tok --out folder/x",
            "got folder/x, for which folder/x.json is written; folder/x.json is the text",
        ),
        ("encode text.txt --tokenizer tok --out tok/vocab.json", "tok/vocab.json is the tokenizer's vocab.json"),
        ("decode text.bin --tokenizer tok --out text.bin", "got text.bin; text.bin is the token file"),
        ("decode text.bin --tokenizer tok --out text.bin.json", "text.bin.json is its sidecar"),
        ("decode text.bin --tokenizer tok --out tok/merges.txt", "tok/merges.txt is the tokenizer's merges.txt"),
        (
            "train folder/vocab.json --out folder --vocab-size 300 --workers 1",
            "got folder, for which folder/vocab.json is written; folder/vocab.json is the text",
        ),
    ],
)
def test_out_must_not_write_over_an_input(
    files: Path, words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in files.rglob("*") if path.is_file()}
    assert run(files, f"tokenizer {words}") == 2
    err = capsys.readouterr().err
    assert "error: out must not write over what is read, " in err
    assert message in err
    assert err.endswith(", name another\n")
    assert {path: path.read_bytes() for path in files.rglob("*") if path.is_file()} == before


def test_older_files_that_are_not_read_are_replaced(files: Path) -> None:
    assert run(files, "tokenizer encode folder/x.json --tokenizer tok --out text.bin") == 0
    assert run(files, "tokenizer decode text.bin --tokenizer tok --out text.txt") == 0


def test_what_comes_next_does_not_write_over_the_text(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "text.txt").rename(files / "story.bin")
    assert run(files, "tokenizer train story.bin --out tok --vocab-size 300 --workers 1") == 0
    then = next_command(capsys.readouterr().out)
    assert isinstance(then, TokenizerEncode)
    assert (then.text, then.out) == ("story.bin", "story.bin.bin")
    assert run(files, f"tokenizer encode {then.text} --tokenizer tok --out {then.out}") == 0
