"""The demo: one command from a text to samples, and what it leaves where that cannot be."""

import re
from pathlib import Path

import pytest

from tests.cli.small import MODEL, TRAIN, run

pytestmark = pytest.mark.e2e


@pytest.mark.slow
def test_demo_goes_from_text_to_samples(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = "demo --run demo --text text.txt --model.vocab-size 300 --train.steps 8"
    assert run(work, words, *TRAIN, *MODEL) == 0
    out = capsys.readouterr().out
    for name in ("this model", "xz, primed", "token frequencies"):
        assert name in out
    assert (work / "demo" / "samples" / "sample.txt").read_text().startswith("Return a ")
    assert len(out.splitlines()) < 45, "one screen"


WORDS = "demo --text text.txt --model.vocab-size 300 --train.steps 2"


def test_a_text_shorter_than_the_context_names_options_of_the_demo_and_leaves_nothing(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = len((work / "text.txt").read_bytes())
    for share, part, mend in (("0.0001", "held-out part", "raise"), (f"{1 - 9 / size}", "rest", "lower")):
        assert run(work, f"{WORDS} --run new/deep --valid-share {share}", *TRAIN, *MODEL) == 2
        err = capsys.readouterr().err
        start = (
            rf"cs336 demo: error: text: its {part} must hold at least 17 tokens, one more than --model.context-length"
        )
        assert re.match(
            rf"{start}, got \d+; lower that, {mend} --valid-share, or give a longer text with --text FILE", err
        )
        assert not (work / "new").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError("a fault of ours")])
def test_failing_before_there_is_a_run_leaves_what_was_there(
    error: BaseException, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    folder = tmp_path / "mine"
    (folder / "text" / "old").mkdir(parents=True)
    (folder / "text" / "notes.txt").write_text("mine")
    (folder / "samples").symlink_to(folder / "text")
    (tmp_path / "text.txt").write_bytes((work / "text.txt").read_bytes())
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr("cs336_basics.cli.demo.train_run", fail)
    try:
        assert run(tmp_path, f"{WORDS} --run mine", *TRAIN, *MODEL) in (1, 130)
    except RuntimeError:
        assert isinstance(error, RuntimeError)
    assert sorted(tmp_path.rglob("*")) == before


def test_failing_when_there_is_a_run_leaves_it_to_be_gone_on_with(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("cs336_basics.cli.train.train", fail)
        assert run(work, f"{WORDS} --run begun", *TRAIN, *MODEL) == 1
    assert run(work, "train --run begun --resume") == 0
    capsys.readouterr()
    assert run(work, f"{WORDS} --run begun", *TRAIN, *MODEL) == 2
    err = capsys.readouterr().err
    assert "go on with it (cs336 train --run begun --resume), name another: --run FOLDER (nox -s demo -- --run" in err


def test_the_demo_does_not_write_over_its_text(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine" / "text" / "train.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes((work / "text.txt").read_bytes())
    assert run(tmp_path, "demo --run mine --text mine/text/train.txt", *TRAIN, *MODEL) == 2
    assert (
        "error: text must not lie where the demo writes its parts, got mine/text/train.txt" in capsys.readouterr().err
    )
    assert path.read_bytes() == (work / "text.txt").read_bytes()
