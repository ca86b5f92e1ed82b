"""Runs that are asked to stop, once or twice."""

import random
import shutil
import signal
from pathlib import Path
from typing import Any

from cs336_basics.train.run import RunFolder
from tests.faults.campaigns import Row, Undisturbed, steps_kept
from tests.faults.workers import Workers


def signalled_runs(
    work: Path, workers: Workers, signum: signal.Signals, *, count: int, saver: str = "ours", seed: int = 0
) -> Row:
    """Ask runs to stop at a random time; the step must be saved, and the run go on as if nothing had been."""
    row = Row(f"{signum.name}, then resumed")
    rare = {"save_every": 100}  # so that what is saved is saved for the signal
    plain = Undisturbed(work / "undisturbed", workers, changes=rare)
    rng = random.Random(seed)
    while row.injected < count:
        folder = work / f"{signum.name}-{row.injected}"
        after, begun = rng.uniform(0, 0.7) * plain.seconds, str(RunFolder(folder).metrics)
        given: dict[str, Any] = {"folder": str(folder), "saver": saver, "changes": rare}
        ended = workers.run("run", signals=((after, signum),), since=begun, **given)
        if ended.code == 0:  # it came to its end first
            plain.seconds = min(plain.seconds, ended.seconds)
            shutil.rmtree(folder)
            continue
        row.count(_fault(ended.code, ended.said, folder, workers, plain, signum))
        shutil.rmtree(folder)
    return row


def _fault(code: int, said: str, folder: Path, workers: Workers, plain: Undisturbed, signum: signal.Signals) -> str:
    kept = steps_kept(RunFolder(folder))
    if code != 128 + signum or f"step {kept} is finished and saved" not in said or kept < 1:
        return f"exit code {code}, {kept} updates saved: {said}"
    ended = workers.run("run", folder=str(folder), changes={"save_every": 100})
    return plain.difference(folder) if ended.code == 0 else ended.said


def twice_signalled(work: Path, workers: Workers, signum: signal.Signals, *, count: int) -> Row:
    """Signal twice in the middle of a step that would never end: the second must end it all the same."""
    row = Row(f"{signum.name} twice")
    while row.injected < count:
        folder = work / f"twice-{signum.name}-{row.injected}"
        twice, begun = ((0.1, signum), (0.3, signum)), str(RunFolder(folder).metrics)
        ended = workers.run("endless", signals=twice, since=begun, limit_s=30, folder=str(folder))
        # By SIGTERM as the system does it, by SIGINT as KeyboardInterrupt.
        right = ended.code == -signum if signum == signal.SIGTERM else "KeyboardInterrupt" in ended.said
        row.count("" if right and ended.seconds < 10 else f"exit code {ended.code} after {ended.seconds:.1f} s")
    return row
