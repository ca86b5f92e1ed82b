"""What each command says comes next is a command that this shell and this command line take, whatever the names."""

import shlex
import shutil
from pathlib import Path

import pytest

from cs336_basics.cli.command import Command
from cs336_basics.cli.commands import COMMANDS
from cs336_basics.cli.main import parse
from cs336_basics.config import ModelConfig
from tests.cli.small import MODEL, TRAIN, run

pytestmark = pytest.mark.e2e


def next_command(text: str) -> Command:
    """The command of the one line that begins with `Next: `."""
    (line,) = [line for line in text.splitlines() if line.startswith("Next: ")]
    program, *words = shlex.split(line.removeprefix("Next: "))
    assert program == "cs336"
    length = 2 if " ".join(words[:2]) in COMMANDS else 1
    return parse(COMMANDS[" ".join(words[:length])], words[length:], prog="cs336")


@pytest.fixture
def spaced(trained: Path, tmp_path: Path) -> Path:
    """A text, a tokenizer and a run whose names have spaces, quotes and dollars."""
    shutil.copy(trained / "text.txt", tmp_path / "my text.txt")
    shutil.copytree(trained / "tok", tmp_path / "tom's tok")
    shutil.copytree(trained / "run", tmp_path / "my $run")
    return tmp_path


def test_names_with_spaces_are_quoted(spaced: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--vocab-size", "300", "--workers", "1")
    assert run(spaced, "tokenizer train", "my text.txt", "--out", "to k", *options) == 0
    then = next_command(capsys.readouterr().out)
    assert vars(then) | {"text": "my text.txt", "tokenizer": "to k", "out": "my text.bin"} == vars(then)

    assert run(spaced, "tokenizer encode", "my text.txt", "--tokenizer", "tom's tok", "--out", "my text.bin") == 0
    then = next_command(capsys.readouterr().out)
    assert vars(vars(then)["data"]) | {"train": "my text.bin", "tokenizer": "tom's tok"} == vars(vars(then)["data"])

    assert run(spaced, "tokenizer inspect", "tom's tok") == 0
    assert vars(next_command(capsys.readouterr().out))["tokenizer"] == "tom's tok"

    data = ("--data.train", "my text.bin", "--data.tokenizer", "tom's tok", "--train.steps", "1")
    assert run(spaced, "train --run", "a run", *data, *TRAIN, *MODEL) == 0
    assert vars(next_command(capsys.readouterr().out))["run"] == "a run"

    assert run(spaced, "evaluate --text", "my text.txt", "--run", "my $run") == 0
    assert vars(next_command(capsys.readouterr().out))["run"] == "my $run"

    assert run(spaced, "accounting model --run", "my $run") == 0
    assert vars(next_command(capsys.readouterr().out))["run"] == "my $run"


def test_generate_says_it_beside_the_text(spaced: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(spaced, "generate --max-new-tokens 2 --prompt Once --run", "my $run") == 0
    captured = capsys.readouterr()
    assert vars(next_command(captured.err))["run"] == "my $run"
    assert "Next" not in captured.out, "standard output is the text"


@pytest.mark.parametrize(
    "flags",
    [
        "",
        "--model.d-model 64 --model.n-heads 4 --model.n-kv-heads 2 --model.d-ff 100 --model.rope-theta 500.5",
        "--model.norm post --model.qk-norm --model.ffn silu --model.tie-embeddings --model.position none",
    ],
)
def test_accounting_says_how_to_train_the_same_model(
    flags: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, f"accounting model --model.vocab-size 500 {flags}") == 0
    wanted = parse(COMMANDS["accounting"], ["model", *flags.split()], prog="cs336")
    model = vars(next_command(capsys.readouterr().out))["model"]
    assert model == vars(wanted)["model"]
    assert model.vocab_size == ModelConfig().vocab_size, "the tokenizer decides that"


def test_accounting_names_its_next_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "accounting") == 0
    assert vars(next_command(capsys.readouterr().out))["what"] == "model"
