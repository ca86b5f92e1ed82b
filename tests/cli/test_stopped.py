"""Commands that are stopped: by Ctrl-C, by SIGTERM, by a reader that goes away."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cs336_basics.cli.command import Command
from cs336_basics.cli.commands import Train
from cs336_basics.cli.main import main
from cs336_basics.train.run import RunFolder, step_of
from tests.cli.small import MODEL, TRAIN, run
from tests.cli.test_next import next_command

pytestmark = pytest.mark.e2e

PROGRAM = (sys.executable, "-m", "cs336_basics.cli")


def terminate(
    folder: Path, words: str, *more: str, when: Callable[[], bool], signum: signal.Signals = signal.SIGTERM
) -> tuple[int, str]:
    """Start a command, send it a signal as soon as `when` holds, and return its exit code and standard error."""
    with subprocess.Popen([*PROGRAM, *words.split(), *more], cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not when():
            time.sleep(0.01)
        process.send_signal(signum)
        err = process.communicate()[1]
    return process.returncode, err


def test_terminated_while_writing_leaves_no_temporaries(work: Path, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_bytes((work / "text.txt").read_bytes() * 1000)
    (tmp_path / "out").mkdir()
    code, err = terminate(
        tmp_path,
        f"tokenizer encode long.txt --tokenizer {work}/tok --out out/long.bin",
        when=lambda: any((tmp_path / "out").iterdir()),
    )
    assert (code, err) == (143, "\ncs336 tokenizer encode: terminated\n")
    assert not any((tmp_path / "out").iterdir())


def test_terminated_while_workers_count_does_not_wait_for_them(tmp_path: Path) -> None:
    program = """
import os, signal, sys, threading, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from cs336_basics.cli import tokenizer
from cs336_basics.cli.main import main
from cs336_basics.train.run import RunFolder, step_of

def train(_):
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        executor.submit(time.sleep, 0).result()
        waiting = executor.submit(time.sleep, 60)
        while not waiting.running():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        waiting.result()

if __name__ == "__main__":
    tokenizer.train = train
    sys.exit(main(["tokenizer", "train", "a.txt", "--out", "tok"]))
"""
    (tmp_path / "program.py").write_text(program)
    command = [sys.executable, "program.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (143, "\ncs336 tokenizer train: terminated\n")


@pytest.mark.parametrize(
    ("signum", "code", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_stopped_training_is_saved_and_says_how_to_go_on(
    signum: signal.Signals, code: int, word: str, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"stopped-{word}"
    words = f"train --run {name} --data.train text.bin --data.tokenizer tok --train.device cpu --train.steps 100000"
    metrics = work / name / "metrics.jsonl"

    def trains() -> bool:
        return metrics.exists() and metrics.stat().st_size > 200

    found, err = terminate(work, words, *TRAIN, *MODEL, when=trains, signum=signum)
    assert found == code
    assert "stopping after this step; once more to stop at once\n" in err
    assert f"cs336 train: {word}\n" in err
    assert "Traceback" not in err
    (saved,) = RunFolder(work / name).saved_checkpoints()
    assert f"step {step_of(saved)} is finished and saved\n" in err
    assert max(json.loads(line)["step"] for line in metrics.read_text().splitlines()) <= step_of(saved)
    monkeypatch.chdir(work)
    then = next_command(err)
    assert isinstance(then, Train)
    assert (then.run, then.resume) == (name, True)


def test_of_two_trainers_one_has_the_folder(work: Path) -> None:
    words = "train --run shared --data.train text.bin --data.tokenizer tok --train.device cpu --train.steps 60"
    command = [*PROGRAM, *words.split(), *TRAIN, *MODEL]
    both = [subprocess.Popen(command, cwd=work, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ends = sorted((process.communicate()[1], process.returncode) for process in both)
    assert sorted(code for _, code in ends) == [0, 2], ends
    (refusal,) = [err for err, code in ends if code == 2]
    assert "is in use by process" in refusal or "already holds a run" in refusal
    steps = [json.loads(line)["step"] for line in (work / "shared" / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps)
    assert steps[-1] == 60


@pytest.mark.parametrize(("name", "options"), [("train", "--resume"), ("demo", "")])
def test_interrupted_work_says_how_to_go_on(
    name: str, options: str, trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: Command) -> None:
        (trained / "my run").mkdir(exist_ok=True)
        (trained / "my run" / "config.toml").write_bytes((trained / "run" / "config.toml").read_bytes())
        raise KeyboardInterrupt

    monkeypatch.setattr(f"cs336_basics.cli.{name}.run", stop)
    if options:
        (trained / "my run").mkdir()
        (trained / "my run" / "config.toml").write_bytes((trained / "run" / "config.toml").read_bytes())
    assert run(trained, f"{name} {options} --run", "my run") == 130
    err = capsys.readouterr().err
    assert err == f"\ncs336 {name}: interrupted\nNext: cs336 train --run 'my run' --resume\n"
    (trained / "my run" / "config.toml").unlink()
    (trained / "my run").rmdir()


def test_interrupted_before_there_is_a_run_nothing_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: Command) -> None:
        raise KeyboardInterrupt

    for name in ("train", "generate"):
        monkeypatch.setattr(f"cs336_basics.cli.{name}.run", stop)
        assert main([name, "--run", str(tmp_path / "r")]) == 130
        assert capsys.readouterr().err == f"\ncs336 {name}: interrupted\n"


def test_whoever_calls_keeps_the_signals(capsys: pytest.CaptureFixture[str]) -> None:
    def theirs(*_: object) -> None: ...

    before = signal.signal(signal.SIGTERM, theirs)
    try:
        assert main(["--version"]) == 0
        assert signal.getsignal(signal.SIGTERM) is theirs
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        assert main(["--version"]) == 0
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(["--version"])))
    thread.start()
    thread.join()
    assert codes == [0]
    assert capsys.readouterr().out.count("cs336 ") == 3


@pytest.mark.parametrize("words", ["--help", "--version", "train --help", "tokenizer", "accounting", "generate --runn"])
def test_a_reader_that_has_gone_is_no_error(words: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*PROGRAM, *words.split()], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(writing)
    assert done.returncode == (2 if words == "generate --runn" else 0)
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
