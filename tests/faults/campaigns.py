"""What is done to runs, many times over, and what came of it: the rows of the table of `nox -s faults`."""

import random
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cs336_basics.train.errors import CheckpointError, MetricsError
from cs336_basics.train.keep import read_newest
from cs336_basics.train.run import RunFolder
from cs336_basics.train.tracker import read_metrics
from tests.faults.workers import Ended, Workers
from tests.train.runs import computed
from tests.train.tiny import assert_same

WHERE = {"saves": "during saves", "writes": "during any write", "anywhere": "at random points"}
WITHIN = {"saves": "checkpoints", "writes": ""}  # the paths whose calls are counted


@dataclass
class Row:
    """A fault, how often it was put in, and how often all was well after it; `why` says what was not."""

    fault: str
    injected: int = 0
    survived: int = 0
    why: list[str] = field(default_factory=list)

    def count(self, reason: str = "") -> None:
        """One more fault; without a reason nothing was lost."""
        self.injected += 1
        self.survived += not reason
        if reason:
            self.why.append(reason)

    @property
    def lost(self) -> int:
        return self.injected - self.survived


class Undisturbed:
    """A run that nothing happened to, which the others must equal bit for bit."""

    def __init__(self, folder: Path, workers: Workers, **given: Any) -> None:
        ended = workers.run("run", folder=str(folder), **given)
        assert ended.code == 0, ended.said
        self.calls = int(ended.said.split("calls: ")[1])
        self.seconds = ended.seconds
        self.records = computed(RunFolder(folder))
        self.state = read_newest(RunFolder(folder))[1] if "saver" not in given else {}

    def difference(self, folder: Path) -> str:
        """What another run computed otherwise; nothing where all is the same."""
        run = RunFolder(folder)
        if computed(run) != self.records:
            return "the loss curve is another"
        try:
            state = read_newest(run)[1]
            for part in ("model", "optimizer", "iteration"):
                assert_same(state[part], self.state[part])
        except (CheckpointError, AssertionError) as error:
            return f"the last state is another: {error}"
        return ""


def steps_kept(run: RunFolder) -> int:
    """How far a run can be taken up: the updates in its newest good checkpoint; -1 where none is readable."""
    if not run.saved_checkpoints():
        return 0
    try:
        return int(read_newest(run)[1]["iteration"])
    except CheckpointError:
        return -1


def metrics_fault(run: RunFolder) -> str:
    """What is wrong with a run's metrics: every line that has its end must be a record."""
    try:
        for _ in read_metrics(run.metrics) if run.metrics.exists() else ():
            pass
    except MetricsError as error:
        return str(error)
    return ""


def killed_runs(
    work: Path, workers: Workers, *, runs: int, kills: int, where: str, saver: str = "ours", seed: int = 0
) -> Row:
    """Kill runs `kills` times each, `where` saves write, at any write or anywhere, and let each come to its end."""
    row = Row(f"kill -9 {WHERE[where]}")
    plain = Undisturbed(work / "undisturbed", workers, within=WITHIN.get(where, ""))
    rng = random.Random(seed)
    for number in range(runs):
        folder = work / f"{where}-{number}"
        run, so_far, done = RunFolder(folder), 0, 0
        while done < kills:
            ended = _kill(folder, workers, plain, rng, where, saver)
            if ended.code != -signal.SIGKILL:
                assert ended.code == 0, ended.said
                shutil.rmtree(folder)  # it came to its end first: once more
                plain.seconds = min(plain.seconds, ended.seconds)
                so_far = 0
                continue
            done += 1
            kept = steps_kept(run)
            reason = "" if kept >= so_far else f"update {so_far} was saved, and {kept} is what is left"
            row.count(reason or metrics_fault(run))
            so_far = max(so_far, kept)
            if kept < 0:
                shutil.rmtree(run.checkpoints)
                run.checkpoints.mkdir()
                so_far = 0
        if saver == "ours":
            ended = workers.run("run", folder=str(folder))
            reason = plain.difference(folder) if ended.code == 0 else ended.said
            left = [path.name for path in folder.rglob("*.tmp")]
            reason = reason or (f"{left} are left of those that were killed" if left else "")
            if reason:
                row.survived -= 1
                row.why.append(reason)
        shutil.rmtree(folder)
    return row


def _kill(folder: Path, workers: Workers, plain: Undisturbed, rng: random.Random, where: str, saver: str) -> Ended:
    if where in WITHIN:
        # Some of the calls of half a run, so that runs get on between kills.
        number = rng.randint(1, max(2, plain.calls // 2))
        return workers.run("run", folder=str(folder), saver=saver, kind="kill", number=number, within=WITHIN[where])
    after = rng.uniform(0.1, 0.95) * plain.seconds
    return workers.run("run", folder=str(folder), saver=saver, signals=((after, signal.SIGKILL),))


def times(count: int, *, seed: int) -> Iterator[random.Random]:
    """So many generators of random numbers, one for each fault, so that any can be put in again alone."""
    for number in range(count):
        yield random.Random(seed * 1_000_000 + number)
