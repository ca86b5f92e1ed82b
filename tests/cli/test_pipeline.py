"""The whole job on a small text, command by command: what each writes, says, and leaves to the next."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cs336_basics.cli.main import main
from cs336_basics.cli.stdlib_text import END

pytestmark = pytest.mark.e2e

MODEL = ("--model.context-length", "16", "--model.d-model", "32", "--model.n-layers", "2", "--model.n-heads", "2")
TRAIN = ("--train.batch-size", "8", "--train.eval-every", "4", "--train.eval-batches", "2", "--train.log-every", "2")
DEVICE = ("--train.device", "cpu")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text, its tokenizer and its tokens, each made by a command."""
    folder = tmp_path_factory.mktemp("work")
    stories = (f"Once upon a time there was a {animal} who ate {n} apples.\n{END}\n" for n in range(150)
               for animal in ("fox", "bear", "hen"))  # fmt: skip
    (folder / "text.txt").write_text("".join(stories))
    assert run(folder, "tokenizer train text.txt --out tok --vocab-size 300 --workers 1") == 0
    assert run(folder, "tokenizer encode text.txt --tokenizer tok --out text.bin") == 0
    return folder


@pytest.fixture(scope="module")
def trained(work: Path) -> Path:
    """The same folder with a run of eight updates in it."""
    assert run(work, "train --run run --data.train text.bin --data.tokenizer tok --train.steps 8", *TRAIN, *MODEL) == 0
    return work


def run(folder: Path, line: str, *more: str) -> int:
    """Run a command in the folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return main([*line.split(), *more, *(DEVICE if line.startswith(("train", "demo")) else ())])


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


def test_resume_refuses_what_would_bend_the_curve(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(trained, "train --run run --resume --optimizer.lr 0.5") == 2
    assert "optimizer.lr must stay 0.001 when a run is resumed, got 0.5" in capsys.readouterr().err


def test_resume_of_a_finished_run_changes_nothing(trained: Path) -> None:
    metrics = trained / "run" / "metrics.jsonl"
    before = [json.loads(line).get("train_loss") for line in metrics.read_text().splitlines()]
    assert run(trained, "train --run run --resume") == 0
    assert [json.loads(line).get("train_loss") for line in metrics.read_text().splitlines()] == before


def test_resume_takes_the_flags_the_run_was_started_with(trained: Path) -> None:
    words = "train --run run --resume --data.train text.bin --data.tokenizer tok --train.steps 8"
    assert run(trained, words, *TRAIN, *MODEL) == 0


def test_resume_sees_a_flag_that_equals_the_default(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(trained, "train --run run --resume --train.steps 1000") == 2
    assert "train.steps must stay 8 when a run is resumed, got 1000" in capsys.readouterr().err


def test_a_run_stopped_before_its_first_checkpoint_starts_again(trained: Path) -> None:
    shutil.copytree(trained / "run", trained / "stopped")
    for path in (trained / "stopped" / "checkpoints").iterdir():
        path.unlink()
    assert run(trained, "train --run stopped --resume") == 0
    curves = [
        [(r["step"], r.get("train_loss"), r.get("valid_loss")) for r in map(json.loads, path.read_text().splitlines())]
        for path in (trained / "stopped" / "metrics.jsonl", trained / "run" / "metrics.jsonl")
    ]
    assert curves[0] == curves[1]


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


def test_a_damaged_checkpoint_is_named(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = trained / "run" / "checkpoints" / "step-00000008.pt"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) // 2])
    try:
        assert run(trained, "generate --run run --device cpu") == 2
        assert "step-00000008.pt" in capsys.readouterr().err
    finally:
        checkpoint.write_bytes(whole)


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
