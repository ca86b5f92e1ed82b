"""Which checkpoints of a run count: the newest good one to go on from, and those that are kept."""

import warnings
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cs336_basics.files import remove
from cs336_basics.train.checkpoint import read_checkpoint, verify_checkpoint
from cs336_basics.train.errors import CheckpointError, CheckpointWarning, DamagedError
from cs336_basics.train.run import RunFolder, step_of


def read_newest(run: RunFolder) -> tuple[Path, dict[str, Any]]:
    """The newest checkpoint that is as it was written, and what it holds; a CheckpointWarning names damaged ones.

    Raises: CheckpointError where there is none, and DamagedError of the newest where all are damaged.
    """
    damaged: list[DamagedError] = []
    run.newest_checkpoint()  # where there is none, it says what to do
    for path in reversed(run.saved_checkpoints()):
        try:
            state = read_checkpoint(path)
        except DamagedError as error:
            damaged.append(error)
            continue
        except CheckpointError:
            if path.exists():
                raise
            return read_newest(run)  # a trainer at work has put a newer one in its place
        if damaged:
            text = f"{damaged[0]}; passed over for {path}"
            warnings.warn(text, CheckpointWarning, stacklevel=2)
        return path, state
    raise damaged[0]


def prune(run: RunFolder, *, last: int, best: int = 0, losses: Mapping[int, float] | None = None) -> list[Path]:
    """Remove checkpoints but the newest `last` that are as they were written, and the `best` by loss, likewise.

    `losses` are validation losses by step; a checkpoint has that of its own step, or else the last before. A damaged
    file counts for nothing, and where none is good nothing is removed, nor is anything newer than the newest good one.

    Returns: those kept because they are the newest, newest first.
    """
    saved = run.saved_checkpoints()
    newest = _good(reversed(saved), last)
    known = sorted((losses or {}).items())

    def loss_of(path: Path) -> float:
        before = bisect_right(known, (step_of(path), float("inf")))
        return known[before - 1][1] if before else float("inf")

    lowest = _good(sorted(saved, key=loss_of), best) if known else []
    for path in saved:
        if newest and path < newest[0] and path not in (*newest, *lowest):
            remove(path)
    return newest


def _good(paths: Iterable[Path], count: int) -> list[Path]:
    """The first `count` that are as they were written."""
    good: list[Path] = []
    for path in paths:
        if len(good) == count:
            break
        try:
            verify_checkpoint(path)
        except CheckpointError:
            continue
        good.append(path)
    return good
