"""Which checkpoints count: the newest good one is read, the newest and the best good ones are kept."""

from pathlib import Path

import pytest

from cs336_basics.train.checkpoint import save_checkpoint
from cs336_basics.train.errors import CheckpointError, CheckpointWarning, DamagedError
from cs336_basics.train.keep import prune, read_newest
from cs336_basics.train.run import RunFolder, step_of
from tests.train.tiny import trained


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A folder with checkpoints after 1 to 5 updates, by name."""
    found = RunFolder(tmp_path)
    found.checkpoints.mkdir()
    model, optimizer = trained("sgd")
    for step in range(1, 6):
        save_checkpoint(model, optimizer, step, found.checkpoint(step))
    return found


def hurt(run: RunFolder, *steps: int) -> None:
    for step in steps:
        path = run.checkpoint(step)
        path.write_bytes(path.read_bytes()[:-7])


def steps(run: RunFolder) -> list[int]:
    return [step_of(path) for path in run.saved_checkpoints()]


def test_the_newest_good_one_is_read(run: RunFolder) -> None:
    assert read_newest(run)[1]["iteration"] == 5
    hurt(run, 5, 4)
    with pytest.warns(
        CheckpointWarning, match=r"step-00000005\.pt is damaged .* passed over for .*step-00000003\.pt"
    ) as said:
        path, state = read_newest(run)
    assert (path, state["iteration"], len(said)) == (run.checkpoint(3), 3, 1)
    hurt(run, 3, 2, 1)
    with pytest.raises(DamagedError, match=r"step-00000005\.pt is damaged"):
        read_newest(run)


def test_one_that_is_pruned_while_it_is_looked_for_is_not_missed(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = [[*run.saved_checkpoints(), run.checkpoint(6)], run.saved_checkpoints(), run.saved_checkpoints()]
    inner = RunFolder.saved_checkpoints
    monkeypatch.setattr(RunFolder, "saved_checkpoints", lambda run: listed.pop() if len(listed) < 2 else inner(run))
    assert read_newest(run)[1]["iteration"] == 5


def test_one_that_cannot_be_read_is_no_reason_to_go_back(run: RunFolder) -> None:
    run.checkpoint(5).unlink()
    run.checkpoint(5).mkdir()
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        read_newest(run)


@pytest.mark.parametrize(
    ("hurts", "last", "best", "left"),
    [
        ((), 2, 0, [4, 5]),
        ((), 9, 0, [1, 2, 3, 4, 5]),
        ((4,), 2, 0, [3, 5]),
        ((5,), 1, 0, [4, 5]),  # what is newer than the newest good one is left to whoever looks into it
        ((5, 4), 2, 0, [2, 3, 4, 5]),
        ((1, 2, 3, 4, 5), 1, 0, [1, 2, 3, 4, 5]),
        ((), 1, 1, [2, 5]),
        ((2,), 1, 1, [3, 5]),
        ((), 1, 2, [2, 3, 5]),
        ((), 1, 9, [1, 2, 3, 4, 5]),
    ],
)
def test_the_newest_and_the_best_good_ones_are_kept(
    run: RunFolder, hurts: tuple[int, ...], last: int, best: int, left: list[int]
) -> None:
    hurt(run, *hurts)
    newest = prune(run, last=last, best=best, losses={1: 5.0, 2: 1.0, 3: 2.0, 4: 3.0, 5: 4.0})
    assert steps(run) == left
    assert [step_of(path) for path in newest] == [step for step in (5, 4, 3, 2, 1) if step not in hurts][:last]


def test_a_checkpoint_has_the_loss_before_it(run: RunFolder) -> None:
    prune(run, last=1, best=2, losses={2: 1.0, 4: 2.0})
    assert steps(run) == [2, 3, 5]
