"""A power cut at every call by which a run writes: its newest checkpoint stays, and so do the lines up to its step."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from cs336_basics.files import sync
from cs336_basics.train import saver as room
from cs336_basics.train.run import RunFolder, step_of
from tests.faults.disk import Call, Disk
from tests.faults.jobs import settings
from tests.faults.naive import put_in
from tests.faults.power import cuts
from tests.train.runs import start


def whole_files(calls: Sequence[Call]) -> dict[str, bytes]:
    """What was written under each name that a file was renamed to."""
    written: dict[str, bytes] = defaultdict(bytes)
    found = {}
    for call in calls:
        if call.name == "write":
            written[call.path] += call.more
        elif call.name == "replace":
            found[call.more] = written[call.path]
    return found


def sure_steps(calls: Sequence[Call]) -> list[int]:
    """After how many calls which checkpoint is the newest that must be there: renamed, and its folder synced."""
    sure, renamed, found = 0, 0, [0]
    for call in calls:
        if call.name == "replace" and call.more.endswith(".pt"):
            renamed = step_of(Path(call.more))
        elif call.name == "fsync" and call.path.endswith("checkpoints"):
            sure = renamed
        found.append(sure)
    return found


@pytest.mark.parametrize("synced", [True, False])
def test_lines_and_checkpoint_fit_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: bool) -> None:
    """Lines up to a checkpoint are not written again: were they not synced before it, a cut would lose them."""
    monkeypatch.setattr(room, "sync", sync if synced else lambda _: None)
    run = RunFolder(tmp_path / "run")
    with put_in(Disk()) as disk:
        start(run.path, settings(steps=4))
    whole, sure = whole_files(disk.calls), sure_steps(disk.calls)
    tried, faults = 0, []
    for done, found in cuts(disk.calls, {}):
        tried += 1
        checkpoints = {step_of(Path(path)): path for path in found if path.endswith(".pt") and "/.step" not in path}
        newest = max((step for step, path in checkpoints.items() if found[path] == whole[path]), default=0)
        lines = found.get(str(run.metrics), b"").split(b"\n")[:-1]
        steps = {json.loads(line)["step"] for line in lines}
        if newest < sure[done]:
            faults.append(f"after {done} calls step {newest} is left of {sure[done]}")
        if not set(range(1, newest + 1)) <= steps:
            faults.append(f"after {done} calls step {newest} is saved, and of its lines there are {sorted(steps)}")
    assert tried > 200
    assert sure[-1] == 4
    assert (not faults) == synced, faults[:5]
