"""Disks that are full or broken, at every call by which a run writes."""

import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cs336_basics.train.run import RunFolder
from tests.faults.campaigns import Row, Undisturbed, steps_kept
from tests.faults.workers import Workers

KINDS = ("ENOSPC", "EIO", "ENOSPC+", "EIO+")  # once, and from then on


def failing_runs(work: Path, workers: Workers, *, count: int, then: str, saver: str = "ours", seed: int = 0) -> Row:
    """Let a run meet an error at one of the calls by which it writes, in each kind; `then` is config.on_disk_error."""
    row = Row(f"ENOSPC and EIO, then {then}")
    changes = {"on_disk_error": then, "keep_checkpoints": 2}
    plain = Undisturbed(work / "undisturbed", workers, changes=changes, within="")
    rng = random.Random(seed)
    numbers = [*range(1, plain.calls + 1)]
    places = [(kind, number) for number in numbers for kind in KINDS]
    for kind, number in places if count >= len(places) else rng.sample(places, count):
        folder = work / f"{then}-{kind}-{number}"
        given: dict[str, Any] = {"folder": str(folder), "changes": changes, "within": ""}
        ended = workers.run("run", kind=kind, number=number, saver=saver, **given)
        row.count(_fault(ended.code, ended.said, folder, then, workers, plain, given))
        shutil.rmtree(folder)
    return row


def _fault(
    code: int, said: str, folder: Path, then: str, workers: Workers, plain: Undisturbed, given: dict[str, Any]
) -> str:
    left = [path.name for path in folder.rglob("*.tmp")]
    if left:
        return f"{left} are left"
    if steps_kept(RunFolder(folder)) < 0:
        return "no checkpoint can be read"
    last = said.strip().splitlines()[-1]
    if code == 0 and then == "stop" and "calls: " not in last:
        return f"no error was told: {said}"
    if code != 0 and (str(folder) not in last or not re.search("No space left on device|Input/output error", last)):
        return f"the error names no path: {last}"
    if code != 0:
        ended = workers.run("run", **given)
        if ended.code != 0:
            return ended.said
    return plain.difference(folder)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[bool]:
    """A tmpfs of so many megabytes at the folder; False where none may be mounted."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    mounted = (
        shutil.which("mount") is not None and subprocess.run(words, capture_output=True, check=False).returncode == 0
    )
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run([shutil.which("umount") or "umount", str(folder)], check=True)


def filled_disk(work: Path, workers: Workers) -> Row:
    """Run until a real disk is full: the run ends and names the file, and goes on once it lies on a larger one."""
    row = Row("a tmpfs of 1 MB")
    changes = {"keep_checkpoints": 8}
    plain = Undisturbed(work / "undisturbed-on-tmpfs", workers, changes=changes)
    with small_disk(work / "small", 1) as mounted:
        if not mounted:
            return row
        folder = work / "small" / "run"
        ended = workers.run("run", folder=str(folder), changes=changes)
        last = ended.said.strip().splitlines()[-1]
        left = [path.name for path in folder.rglob("*.tmp")]
        kept = steps_kept(RunFolder(folder))
        larger = work / "larger"
        shutil.copytree(folder, larger)
    full = ended.code != 0 and "No space left on device" in last and str(folder) in last
    if not full or left or kept < 1:
        row.count(f"exit code {ended.code}, {kept} updates saved, {left} left: {last}")
        return row
    ended = workers.run("run", folder=str(larger), changes=changes)
    row.count(plain.difference(larger) if ended.code == 0 else ended.said)
    return row
