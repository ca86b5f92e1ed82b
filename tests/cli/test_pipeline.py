"""The whole job on a small text, command by command: what each writes, says, and leaves to the next."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cs336_basics.cli.stdlib_text import END
from tests.cli.small import MODEL, TRAIN, run

pytestmark = pytest.mark.e2e


def test_decode_gives_back_the_exact_bytes(work: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run(work, "tokenizer decode text.bin --tokenizer tok") == 0
    assert capfdbinary.readouterr().out == (work / "text.txt").read_bytes()
    assert run(work, "tokenizer decode text.bin --tokenizer tok --out back.txt") == 0
    assert (work / "back.txt").read_bytes() == (work / "text.txt").read_bytes()


def test_inspect_shows_size_longest_and_compression(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(work, "tokenizer inspect tok --text text.txt --longest 3") == 0
    out = capsys.readouterr().out
    assert "300 tokens" in out
    assert re.search(r"[\d.]+ bytes a token", out)
    assert END in out


def test_a_run_folder_holds_all_it_should(trained: Path) -> None:
    folder = trained / "run"
    names = {path.name for path in folder.iterdir()}
    assert {"config.toml", "tokenizer", "metrics.jsonl", "checkpoints", "samples", "loss.png"} <= names
    config = tomllib.loads((folder / "config.toml").read_text())
    assert config["model"]["vocab_size"] == 300, "resolved from the tokenizer"
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records if "train_loss" in r] == [2, 4, 6, 8]
    assert [r["step"] for r in records if "valid_loss" in r] == [0, 4, 8]
    assert (folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert not [path for path in folder.rglob("*") if ".tmp" in path.name]
    assert (folder / "samples" / "step-00000008.txt").read_text().startswith(END)


def test_a_second_run_into_the_folder_is_refused(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(trained, "train --run run --data.train text.bin --data.tokenizer tok --train.steps 8", *TRAIN, *MODEL)
    assert code == 2
    assert "already holds a run" in capsys.readouterr().err


def test_the_run_says_what_comes_next(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "train --run other --data.train text.bin --data.tokenizer tok --train.steps 2"
    assert run(work, words, *TRAIN, *MODEL) == 0
    out = capsys.readouterr().out
    assert "Next: cs336 generate --run other" in out
    assert "parameters on cpu" in out


def test_evaluate_scores_validation_tokens_and_texts(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(trained, "evaluate --run run --device cpu") == 0
    assert run(trained, "evaluate --run run --text text.txt --device cpu") == 0
    bits = [float(value) for value in re.findall(r"([\d.]+) bits per byte", capsys.readouterr().out)]
    assert len(bits) == 2
    assert all(0 < value < 8 for value in bits)


def test_evaluate_refuses_an_empty_text(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (trained / "empty.txt").touch()
    assert run(trained, "evaluate --run run --text empty.txt --device cpu") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_generate_is_the_same_for_the_same_seed(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "generate --run run --device cpu --max-new-tokens 20 --prompt Once"
    texts = []
    for seed in ("1", "1", "2"):
        assert run(trained, f"{words} --seed {seed}") == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]
    assert all(text.startswith("Once") for text in texts)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--temperature -1", "temperature"),
        ("--top-p 2", "p must be in (0, 1]"),
        ("--top-k 0", "k must be at least 1"),
        ("--max-new-tokens -3", "max_new_tokens"),
        ("--stop nothing", "nothing"),
    ],
)
def test_generate_names_the_bad_option(
    words: str, message: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(trained, f"generate --run run --device cpu {words}") == 2
    assert message in capsys.readouterr().err


def test_tokens_of_another_tokenizer_are_refused(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(work, "tokenizer train text.txt --out tok2 --vocab-size 280 --workers 1") == 0
    code = run(work, "train --run mixed --data.train text.bin --data.tokenizer tok2 --train.steps 2", *TRAIN, *MODEL)
    assert code == 2
    assert "tok2 did not make text.bin" in capsys.readouterr().err
    assert not (work / "mixed").exists()


def test_a_corpus_shorter_than_the_context_is_refused(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (work / "short.txt").write_text("Once upon")
    assert run(work, "tokenizer encode short.txt --tokenizer tok --out short.bin") == 0
    code = run(work, "train --run short --data.train short.bin --data.tokenizer tok --train.steps 2", *TRAIN, *MODEL)
    assert code == 2
    assert "Traceback" not in capsys.readouterr().err
    assert not (work / "short").exists()


@pytest.mark.slow
def test_demo_goes_from_text_to_samples(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "demo --run demo --text text.txt --model.vocab-size 300 --train.steps 8"
    assert run(work, words, *TRAIN, *MODEL) == 0
    out = capsys.readouterr().out
    for name in ("this model", "xz, primed", "token frequencies"):
        assert name in out
    assert (work / "demo" / "samples" / "sample.txt").read_text().startswith("Return a ")
    assert len(out.splitlines()) < 45, "one screen"


def test_accounting_prints_the_gpt2_table(capsys: pytest.CaptureFixture[str], work: Path) -> None:
    assert run(work, "accounting") == 0
    out = capsys.readouterr().out
    assert all(size in out for size in ("small", "medium", "large", "xl"))
    assert run(work, "accounting model --model.d-model 64 --model.n-heads 2") == 0
    assert "parameters" in capsys.readouterr().out.lower()


def test_the_installed_command_runs_and_fails_with_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cs336_basics.cli", "generate", "--run", "nowhere"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("cs336 generate: error: ")
    assert "Traceback" not in done.stderr
