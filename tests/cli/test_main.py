"""The command line from the outside: what it says, what it refuses, and how."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cs336_basics.cli.command import Command
from cs336_basics.cli.commands import COMMANDS, Generate, TokenizerTrain, Train
from cs336_basics.cli.main import main, parse


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    try:
        code = main(words)
    except SystemExit as stop:  # how tyro ends for --help and for flags that do not fit
        code = int(stop.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(name in out for name in COMMANDS)


def test_no_words_at_all_show_the_overview_and_fail(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys)
    assert code == 2
    assert "usage: cs336" in out


def test_group_lists_its_commands_only(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "tokenizer", "--help")
    assert code == 0
    assert "tokenizer encode" in out
    assert "evaluate" not in out


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("trian",), "did you mean train?"),
        (("tokenizer", "encod"), "did you mean tokenizer encode?"),
        (("x",), "error"),
    ],
)
def test_unknown_command_suggests_the_nearest(
    words: tuple[str, ...], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, *words)
    assert code == 2
    assert hint in err


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_every_command_is_explained(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *name.split(), "--help")
    assert code == 0
    assert out.count("(required)") + out.count("(default:") >= 2
    first_line = (COMMANDS[name].__doc__ or "").strip().split(".")[0]
    assert " ".join(first_line.split()) in " ".join(out.split())


def test_the_default_width_of_the_feed_forward_layer_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "train", "--help")
    told = " ".join(out.replace("│", " ").split())
    assert "8/3 * d_model up to a multiple of 64 (swiglu), 4 * d_model (silu)" in told


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--version")
    assert code == 0
    assert out.startswith("cs336 ")


def test_flags_win_over_toml_and_toml_over_defaults(tmp_path: Path) -> None:
    path = tmp_path / "train.toml"
    path.write_text('run = "a"\n[model]\nd_model = 64\nn_heads = 4\n[train]\nsteps = 7\n')
    command = parse(Train, ["--config", str(path), "--train.steps", "9"], prog="cs336 train")
    assert isinstance(command, Train)
    assert (command.run, command.model.d_model, command.train.steps, command.train.seed) == ("a", 64, 9, 0)


def test_toml_may_give_lists_and_positional_options(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_text('text = "a.txt"\nout = "tok"\nspecial_tokens = ["<a>", "<b>"]\n')
    command = parse(TokenizerTrain, [f"--config={path}"], prog="cs336 tokenizer train")
    assert isinstance(command, TokenizerTrain)
    assert command.text == "a.txt"
    assert command.special_tokens == ("<a>", "<b>")


def test_optional_numbers_may_be_given_or_not() -> None:
    def filled(*words: str) -> Command:
        return parse(Generate, ["--run", "r", *words], prog="cs336 generate")

    assert filled() == Generate(run="r")
    assert filled("--top-k", "5", "--top-p", "None") == Generate(run="r", top_k=5, top_p=None)


BAD_TOML = [
    ("modle = 1\n", "modle is not a field of Train; did you mean model?"),
    ("xyz = 1\n", "xyz is not a field of Train; its fields are config, run"),
    ("[model]\nd_modle = 64\n", "d_modle is not a field of ModelConfig; did you mean d_model?"),
    ("[model]\nd_model = 63\n", "n_heads must be a divisor of d_model = 63"),
    ('[train]\nsteps = "many"\n', "steps must be a whole number, got 'many'"),
    ("run = 3\n", "run must be a text, got 3"),
    ("run = \n", ": not TOML: "),
]


@pytest.mark.parametrize(("text", "message"), BAD_TOML)
def test_bad_config_files_are_refused_by_field(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    code, _, err = run(capsys, "train", "--config", str(path))
    assert code == 2
    assert message in err
    assert str(path) in err
    assert "Traceback" not in err


BAD_WORDS = [
    (("train",), "--run"),
    (("train", "--run", "{tmp}/r"), "data.train must be given"),
    (("train", "--run", "{tmp}/r", "--data.train", "{tmp}/no.bin", "--data.tokenizer", "{tmp}/no"), "{tmp}/no"),
    (("train", "--run", "{tmp}/r", "--resume"), "holds no config.toml"),
    (("train", "--config", "{tmp}/none.toml"), "config: {tmp}/none.toml: cannot be read"),
    (("train", "--run", "r", "--model.d-model", "x"), "d-model"),
    (("generate", "--run", "{tmp}/r"), "holds no config.toml"),
    (("generate", "--run", "{tmp}/r", "--device", "abacus"), "device must be auto"),
    (("evaluate", "--run", "{tmp}/r"), "holds no config.toml"),
    (
        ("tokenizer", "train", "{tmp}/none.txt", "--out", "{tmp}/t"),
        "error: text must be a file to read, got {tmp}/n",
    ),
    (("tokenizer", "train", "{tmp}/empty.txt", "--out", "{tmp}/t"), "error: text must hold text, {tmp}/empty.txt is"),
    (("tokenizer", "train", "{tmp}/latin.txt", "--out", "{tmp}/t"), "error: text must be UTF-8 text, {tmp}/latin.txt"),
    (("tokenizer", "train", "{tmp}/text.txt", "--out", "{tmp}/t", "--vocab-size", "12"), "error: vocab_size"),
    (
        ("tokenizer", "train", "{tmp}/text.txt", "--out", "{tmp}/t", "--special-tokens", "a", "a"),
        "error: special_tokens must hold no token twice",
    ),
    (
        ("tokenizer", "train", "{tmp}/text.txt", "--out", "{tmp}/t", "--workers", "-1"),
        "error: workers must be at least",
    ),
    (
        ("tokenizer", "train", "{tmp}/text.txt", "--out", "{tmp}/text.txt"),
        "error: out must be a folder or a new name, got {tmp}/text.txt; {tmp}/text.txt is a file, name another",
    ),
    (("tokenizer", "train", "{tmp}/text.txt", "--out", "{tmp}/text.txt/deep/er"), "; {tmp}/text.txt is a file"),
    (("tokenizer", "encode", "{tmp}/text.txt", "--tokenizer", "{tmp}/t", "--out", "{tmp}/x.bin"), "{tmp}/t"),
    (("tokenizer", "decode", "{tmp}/x.bin", "--tokenizer", "{tmp}/t"), "{tmp}/t"),
    (("tokenizer", "decode", "{tmp}/x.bin", "--tokenizer", "{tmp}/t", "--out", "{tmp}/no/x"), "error: out must lie in"),
    (("tokenizer", "inspect", "{tmp}/t"), "{tmp}/t"),
    (("tokenizer", "inspect", "{tmp}/t", "--longest", "-3"), "error: longest must be at least 0, got -3"),
    (("demo", "--run", "{tmp}/d", "--text", "{tmp}/none.txt"), "none.txt cannot be read"),
    (("demo", "--run", "{tmp}/d", "--text", "{tmp}/latin.txt"), "byte offset 3"),
    (("demo", "--run", "{tmp}/d", "--text", "{tmp}/empty.txt"), "error: text: {tmp}/empty.txt must hold text"),
    (("demo", "--run", "{tmp}/d", "--valid-share", "2"), "valid_share must be above 0 and below 1"),
    (("demo", "--run", "{tmp}/d", "--prompt", ""), "error: prompt must be a text of one character or more, got ''"),
    (
        ("demo", "--run", "{tmp}/text.txt"),
        "error: run: {tmp}/text.txt cannot be made a folder: {tmp}/text.txt is a file",
    ),
    (("demo", "--run", "{tmp}/text.txt/a"), "; name another: --run FOLDER (nox -s demo -- --run FOLDER)"),
    (("train", "--run", "{tmp}/text.txt"), "{tmp}/text.txt is a file; name another folder"),
    (("demo", "--run", ""), "error: run must be a text of one character or more, got ''"),
    (("train", "--run", ""), "error: run must be a text of one character or more, got ''"),
    (("train", "--run", "", "--resume"), "error: run must be a text of one character or more, got ''"),
    (("evaluate", "--run="), "error: run must be a text of one character or more, got ''"),
    (("generate", "--run", "r", "--device", ""), "error: device must be a text of one character or more, got ''"),
    (("tokenizer", "train", "{tmp}/text.txt", "--out", ""), "error: out must be a text of one character or more"),
    (("tokenizer", "inspect", ""), "error: tokenizer must be a text of one character or more, got ''"),
    (("accounting", "gpt3"), "gpt3"),
    (("accounting", "--batch-size", "0"), "error: batch_size must be at least 1, got 0"),
]


@pytest.mark.parametrize(("words", "message"), BAD_WORDS, ids=[" ".join(words)[:60] for words, _ in BAD_WORDS])
def test_bad_input_is_one_clear_error_and_leaves_nothing_behind(
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # where an empty name would lead
    (tmp_path / "empty.txt").touch()
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 au lait")
    (tmp_path / "text.txt").write_text("one line of text\n")
    before = sorted(tmp_path.rglob("*"))
    code, _, err = run(capsys, *(word.format(tmp=tmp_path) for word in words))
    assert code == 2
    assert message.format(tmp=tmp_path) in err
    assert "Traceback" not in err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_names_the_option_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "text.txt").write_text("low lower lowest")
    monkeypatch.setattr("os.fsync", fail)
    words = ("tokenizer", "train", f"{tmp_path}/text.txt", "--out", f"{tmp_path}/t", "--workers", "1")
    code, _, err = run(capsys, *words, "--vocab-size", "259")
    assert code == 2
    assert f"error: out must be one to write to, got {tmp_path}/t (No space left on device)" in err


OUT_OF_MEMORY = [
    (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"),
        "no memory for 2.00 GiB more; ",
    ),
    (torch.OutOfMemoryError("of whatever text"), "no memory; "),
    (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB). Tried to allocate 256 bytes"), "256 bytes more; "),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), "no memory; "),
    (MemoryError(), "no memory; "),
]
LIGHTER = [
    (("train", "--run", "r"), "train", "train.batch_size, a higher train.grad_accumulation"),
    (("demo",), "demo", "train.batch_size, a higher train.grad_accumulation"),
    (("generate", "--run", "r"), "generate", "--device cpu"),
    (("evaluate", "--run", "r"), "evaluate", "--device cpu"),
]


@pytest.mark.parametrize(("words", "module", "mend"), LIGHTER, ids=[module for _, module, _ in LIGHTER])
@pytest.mark.parametrize(("error", "message"), OUT_OF_MEMORY, ids=[str(error)[:20] for error, _ in OUT_OF_MEMORY])
def test_want_of_memory_is_one_error_that_says_what_to_lower(
    words: tuple[str, ...],
    module: str,
    mend: str,
    error: Exception,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: Command) -> None:
        raise error

    monkeypatch.setattr(f"cs336_basics.cli.{module}.run", fail)
    code, _, err = run(capsys, *words)
    assert code == 1
    assert err.startswith(f"cs336 {words[0]}: error: no memory")
    assert message in err
    assert mend in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("make", [lambda: torch.empty(1 << 50), lambda: np.empty(1 << 50)], ids=["torch", "numpy"])
def test_want_of_memory_on_the_cpu_is_known_by_its_real_error(
    make: Callable[[], object], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cs336_basics.cli.generate.run", lambda _: make())
    code, _, err = run(capsys, "generate", "--run", "r")
    assert code == 1
    assert "no memory for " in err


def test_other_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Command) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("cs336_basics.cli.generate.run", fail)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        main(["generate", "--run", "r"])


@pytest.mark.e2e
def test_help_is_quick_and_loads_no_torch() -> None:
    program = (
        "import sys, time; from cs336_basics.cli.main import main\n"
        "try: main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
        "print('CPU', time.process_time())"
    )
    seconds = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        seconds.append(float(done.stdout.split("CPU")[-1]))
    # 0.3 s is the promise on an idle machine; processor time does not count what others do meanwhile.
    assert min(seconds) < 0.3
