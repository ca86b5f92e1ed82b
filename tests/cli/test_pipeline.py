"""The whole job on a small text, command by command: what each writes, says, and leaves to the next."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cs336_basics.cli.stdlib_text import END
from cs336_basics.contracts import ContractError
from tests.cli.small import MODEL, TRAIN, run

pytestmark = pytest.mark.e2e


def test_decode_gives_back_the_exact_bytes(work: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert run(work, "tokenizer decode text.bin --tokenizer tok") == 0
    assert capfdbinary.readouterr().out == (work / "text.txt").read_bytes()
    assert run(work, "tokenizer decode text.bin --tokenizer tok --out back.txt") == 0
    assert (work / "back.txt").read_bytes() == (work / "text.txt").read_bytes()


def test_decode_into_no_folder_names_the_option_and_the_mend(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(work, "tokenizer decode text.bin --tokenizer tok --out nodir/x") == 2
    mend = "out must lie in a folder that exists, got nodir/x; create nodir"
    assert capsys.readouterr().err == f"cs336 tokenizer decode: error: {mend}\n"
    assert not (work / "nodir").exists()


def test_decode_into_what_is_no_file_is_refused(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(work, "tokenizer decode text.bin --tokenizer tok --out tok") == 2
    assert "error: out: tok cannot be written (not a plain file); choose another" in capsys.readouterr().err


def test_decode_names_bad_tokens(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(work, "tokenizer decode none.bin --tokenizer tok") == 2
    assert "cs336 tokenizer decode: error: tokens: none.bin is missing; " in capsys.readouterr().err
    (work / "bare.bin").write_bytes((work / "text.bin").read_bytes())
    assert run(work, "tokenizer decode bare.bin --tokenizer tok") == 2
    assert "error: tokens: bare.bin.json is missing beside bare.bin; " in capsys.readouterr().err


def test_encode_names_its_options(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        ("none.txt --out x.bin", "text must be a file to read, got none.txt"),
        ("text.txt --out nodir/x.bin", "out must lie in a folder that exists, got nodir/x.bin; create nodir"),
        ("text.txt --out tok", "out must name a file, got tok, but tok is a folder"),
    ):
        assert run(work, f"tokenizer encode {words} --tokenizer tok") == 2
        assert capsys.readouterr().err.startswith(f"cs336 tokenizer encode: error: {message}")


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
    err = capsys.readouterr().err
    assert "already holds a run; go on with it (cs336 train --run run --resume), name another folder" in err
    assert run(trained, "train --run run") == 2, "named first, before the data that is not"
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


@pytest.mark.parametrize(
    ("loss", "said"),
    [(0.0, "1.00"), (20.0, "485165195.41"), (21.0, "1.32e+09"), (709.0, "8.22e+307"), (1e6, "inf")],
)
def test_perplexity_in_words(
    loss: float, said: str, trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def score(*arguments: Any) -> tuple[float, int]:
        return loss * len(arguments[2]), 1

    monkeypatch.setattr("cs336_basics.cli.evaluate.score", score)  # as a diverged model would make it
    assert run(trained, "evaluate --run run --device cpu") == 0
    assert f" nats per token, perplexity {said}\n" in capsys.readouterr().out


def test_a_stated_peak_is_not_called_measured(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "train --data.train text.bin --data.tokenizer tok --train.steps 2"
    for flags, kind in (("--run stated --train.peak-flops 1e12", "stated"), ("--run asked", "measured")):
        assert run(work, f"{words} {flags}", *TRAIN, *MODEL) == 0
        assert f" of the {kind} peak\n" in capsys.readouterr().out


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


def test_generate_takes_special_tokens_in_a_prompt_as_it_is_told(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = f"generate --run run --device cpu --max-new-tokens 9 --temperature 0 --prompt One{END}"
    texts = []
    for option in ("--allowed-special all", "--disallowed-special none"):
        assert run(trained, f"{words} {option}") == 0
        texts.append(capsys.readouterr().out)
    assert all(text.startswith(f"One{END}") for text in texts)
    assert texts[0] != texts[1]
    assert run(trained, "generate --run run --device cpu --max-new-tokens 2") == 0
    assert capsys.readouterr().out.startswith(END), "the prompt that is not given is the token itself"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--temperature -1", "temperature must be at least 0 and finite, got -1.0"),
        ("--temperature inf", "temperature must be at least 0 and finite, got inf"),
        ("--top-p 2", "top_p must be above 0 and at most 1, got 2.0"),
        ("--top-p 0", "top_p must be above 0 and at most 1, got 0.0"),
        ("--top-k 0", "top_k must be at least 1, got 0"),
        ("--min-p 1.5", "min_p must be at least 0 and at most 1, got 1.5"),
        ("--max-new-tokens -3", "max_new_tokens must be at least 0, got -3"),
        ("--seed -1", "seed must be at least 0 and below 2**63, got -1"),
        ("--stop nothing", "stop must be one of the special tokens"),
        ("--prompt \udcff", "prompt must be text that UTF-8 can write"),
        (f"--prompt One{END}", f"prompt must hold no disallowed special token, got '{END}' at index 3; allow it"),
    ],
)
def test_generate_names_the_bad_option(
    words: str, message: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(trained, f"generate --run run --device cpu {words}") == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"cs336 generate: error: {message}")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_generate_prints_nothing_before_it_can_go_on(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ContractError("sample: logits must have a finite largest entry in every row")

    monkeypatch.setattr("cs336_basics.generate.sample", fail)  # as a model of NaN would make it
    assert run(trained, "generate --run run --device cpu --prompt Once") == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("cs336 generate: error: sample: logits must")
    assert captured.out == ""


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
    assert "error: data.train: dataset must hold at least" in capsys.readouterr().err
    assert not (work / "short").exists()


def test_the_installed_command_runs_and_fails_with_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cs336_basics.cli", "generate", "--run", "nowhere"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("cs336 generate: error: ")
    assert "Traceback" not in done.stderr
