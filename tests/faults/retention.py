"""Random lives of a folder of checkpoints: saves, kills within them, damage, pruning."""

import random
from collections.abc import Callable
from pathlib import Path

import torch

from cs336_basics.files import sweep
from cs336_basics.train.checkpoint import verify_checkpoint, write_checkpoint
from cs336_basics.train.errors import CheckpointError
from cs336_basics.train.keep import prune
from cs336_basics.train.run import RunFolder, step_of
from tests.faults.campaigns import Row, times
from tests.faults.disk import Call, Disk
from tests.faults.naive import put_in

Prune = Callable[[RunFolder, int, int, dict[int, float]], object]


class GoneError(BaseException):
    """Stands for kill -9: from here on no call does anything."""


def ours(run: RunFolder, last: int, best: int, losses: dict[int, float]) -> object:
    return prune(run, last=last, best=best, losses=losses)


def by_name(run: RunFolder, last: int, best: int, losses: dict[int, float]) -> None:  # noqa: ARG001  # as the other is called
    """As it is often done: the newest by name are kept, whatever is in them."""
    for path in run.saved_checkpoints()[:-last]:
        path.unlink()


def good(run: RunFolder) -> dict[int, float]:
    """The steps of checkpoints that are as they were written."""
    found = {}
    for path in run.saved_checkpoints():
        try:
            verify_checkpoint(path)
        except CheckpointError:
            continue
        found[step_of(path)] = 0.0
    return found


def lives(work: Path, *, count: int, moves: int = 12, pruned: Prune = ours, seed: int = 0) -> Row:
    """Live so many sequences of moves; after each the newest good checkpoint must be there.

    After pruning, just those are there that are to be kept.
    """
    row = Row("save, kill, damage, prune")
    for number, rng in enumerate(times(count, seed=seed)):
        run = RunFolder(work / str(number))
        run.checkpoints.mkdir(parents=True)
        row.count(_live(run, rng, moves, pruned))
    return row


def _live(run: RunFolder, rng: random.Random, moves: int, pruned: Prune) -> str:
    last, best, losses, step = rng.randint(1, 3), rng.randint(0, 2), dict[int, float](), 0
    for _ in range(moves):
        before = good(run)
        move = rng.choice(["save", "save", "killed", "rotten", "damage", "prune"])
        if move == "damage":
            if run.saved_checkpoints():
                _damage(rng.choice(run.saved_checkpoints()), rng)
            continue
        if move == "prune":
            pruned(run, last, best, losses)
        else:
            step += 1
            losses[step] = rng.random()
            killed_at = rng.randint(1, 14) if move == "killed" else 0
            rotten = rng if move == "rotten" else None  # a disk that keeps something else than it was given
            _save(run, step, killed_at, rotten, lambda: pruned(run, last, best, losses))
        after = good(run)
        if before and max(after, default=0) < max(before):
            return f"after {move}: step {max(before)} was good, and {sorted(after)} are left"
        if move == "prune" and pruned is ours and before:
            wanted = {*sorted(before)[-last:], *sorted(before, key=losses.__getitem__)[:best]}
            if set(after) != wanted:
                return f"after pruning of {sorted(before)}: {sorted(after)} are left, not {sorted(wanted)}"
    return ""


def _save(
    run: RunFolder, step: int, killed_at: int, rotten: random.Random | None, pruning: Callable[[], object]
) -> None:
    def fault(count: int, call: Call) -> None:  # noqa: ARG001  # as the disk tells it
        if killed_at and count >= killed_at:
            raise GoneError

    state = {"model": {"weight": torch.full((100,), float(step))}, "optimizer": {}, "iteration": step}
    try:
        with put_in(Disk(fault)):
            write_checkpoint({**state, "about": {}}, run.checkpoint(step))
            if rotten:
                _damage(run.checkpoint(step), rotten)
            pruning()
    except GoneError:
        sweep(run.checkpoints)  # as the next trainer does


def _damage(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
