"""TensorBoard as a tracker: every metric a scalar of its step, written out at once; without it, how to install it."""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from cs336_basics.cli.track import TensorBoardTracker, require_tensorboard
from cs336_basics.config import ConfigError
from tests.cli.small import MODEL, TRAIN, run


class Writer:
    """Stands for torch.utils.tensorboard.SummaryWriter, which wants tensorboard installed."""

    made: list["Writer"] = []  # noqa: RUF012  # emptied by the fixture

    def __init__(self, log_dir: str) -> None:
        self.log_dir, self.waiting, self.written = log_dir, [], []  # type: ignore[var-annotated]  # lists of calls
        Writer.made.append(self)

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        self.waiting.append((tag, scalar_value, global_step))

    def flush(self) -> None:
        self.written += self.waiting
        self.waiting.clear()


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> list[Writer]:
    """The writers made, where tensorboard seems to be installed."""
    module = ModuleType("tensorboard")
    module.__spec__ = ModuleSpec("tensorboard", None)
    monkeypatch.setitem(sys.modules, "tensorboard", module)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    monkeypatch.setattr(Writer, "made", [])
    return Writer.made


def test_metrics_are_scalars_of_their_step(writers: list[Writer], tmp_path: Path) -> None:
    tracker = TensorBoardTracker(tmp_path / "events")
    tracker.log(3, {"train_loss": 2.5, "lr": 0.1})
    (writer,) = writers
    assert writer.log_dir == str(tmp_path / "events")
    assert writer.written == [("train_loss", 2.5, 3), ("lr", 0.1, 3)]
    tracker.log(4, {"valid_loss": 1.5})
    assert writer.written[2:] == [("valid_loss", 1.5, 4)], "at once, not when the run ends"


@pytest.mark.e2e
def test_train_writes_the_same_metrics_to_it(writers: list[Writer], work: Path) -> None:
    words = "train --run tracked --tensorboard --data.train text.bin --data.tokenizer tok --train.steps 4"
    assert run(work, words, *TRAIN, *MODEL) == 0
    (writer,) = writers
    assert Path(writer.log_dir) == Path("tracked/tensorboard")
    assert [step for tag, _, step in writer.written if tag == "train_loss"] == [2, 4]
    assert [step for tag, _, step in writer.written if tag == "valid_loss"] == [0, 4]


@pytest.mark.e2e
def test_without_tensorboard_nothing_is_begun(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"tensorboard must be installed: pip install 'cs336-basics\[track\]'"):
        require_tensorboard()
    words = "train --run untracked --tensorboard --data.train text.bin --data.tokenizer tok --train.steps 4"
    assert run(work, words, *TRAIN, *MODEL) == 2
    assert "error: tensorboard must be installed" in capsys.readouterr().err
    assert not (work / "untracked").exists()
