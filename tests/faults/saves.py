"""Saves of a small state by any of the writers, and what a power cut within one leaves."""

from pathlib import Path

from cs336_basics.train.checkpoint import save_checkpoint
from tests.faults.campaigns import Row
from tests.faults.disk import Disk
from tests.faults.naive import WRITERS, plain, put_in
from tests.faults.power import cuts
from tests.train.tiny import states, trained

OLD, NEW = 1, 2  # updates in the old checkpoint and in the new one


def write(writer: str, path: Path, steps: int) -> None:
    """Save the state after so many updates."""
    model, optimizer = trained("adamw", steps=steps)
    if writer == "ours":
        save_checkpoint(model, optimizer, steps, path)
    else:
        WRITERS[writer](path, plain({**states(model, optimizer), "iteration": steps}))


def power_cuts(work: Path, writer: str) -> Row:
    """Cut the power at every call of a save: the old file or the new one must be there, and at its end the new."""
    row, path = Row("power cut at every call of a save"), work / f"{writer}.pt"
    write(writer, path, OLD)
    old = path.read_bytes()
    with put_in(Disk()) as disk:
        write(writer, path, NEW)
    new = path.read_bytes()
    for done, found in cuts(disk.calls, {str(path): old}):
        right = (new,) if done == len(disk.calls) else (old, new)
        row.count("" if found.get(str(path)) in right else f"neither old nor new after {done} calls")
    return row
