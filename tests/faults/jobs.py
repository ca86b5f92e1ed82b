"""What the workers do: a save, or a short training run, on a disk with a fault."""

import io
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext, redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cs336_basics.config import RunConfig
from cs336_basics.train import loop
from cs336_basics.train import saver as saver_room
from cs336_basics.train.about import revision
from cs336_basics.train.checkpoint import save_checkpoint
from cs336_basics.train.errors import StoppedError
from cs336_basics.train.run import RunFolder
from cs336_basics.train.stopping import StopAsked
from tests.faults.disk import Disk, Fault, failing_at, killed_at, nothing
from tests.faults.naive import WRITERS, NaiveSaver, plain, put_in
from tests.train.runs import TRAIN, VALID, config
from tests.train.tiny import CPU, tiny_model, trained

room: Any = loop  # in which things are exchanged: a worker's process ends with it


def settings(**changes: Any) -> RunConfig:
    """A run of eight short steps that saves after each and keeps no more than it must."""
    short = {"steps": 8, "save_every": 1, "eval_every": 4, "eval_batches": 1, "batch_size": 2, "keep_checkpoints": 1}
    found = config(**short | changes)
    return replace(found, model=replace(found.model, n_layers=1))


def fault_of(kind: str, number: int) -> Fault:
    """The fault by name: none, kill, or an error at a call; with a + after it, on all that follow."""
    if kind == "none":
        return nothing
    return killed_at(number) if kind == "kill" else failing_at(number, kind.rstrip("+"), on=kind.endswith("+"))


def save(path: str, steps: int, writer: str, kind: str, number: int) -> int:
    """Save the state after so many updates, with a fault at a call."""
    model, optimizer = trained("adamw", steps=steps)
    with put_in(Disk(fault_of(kind, number))):
        if writer == "ours":
            save_checkpoint(model, optimizer, steps, path)
        else:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "iteration": steps}
            WRITERS[writer](Path(path), plain(state))
    return 0


def run(
    folder: str,
    saver: str = "ours",
    kind: str = "none",
    number: int = 0,
    within: str = "checkpoints",
    changes: dict[str, Any] | None = None,
) -> int:
    """Begin a run, or go on with it; the calls that the fault counts are those on paths with `within` in them."""
    if saver == "naive":
        saver_room.Saver = NaiveSaver  # type: ignore[misc,assignment]  # the process ends with it
    told = settings(**(changes or {}))
    place = RunFolder(Path(folder))
    if not place.config.exists():
        place.create(told)
    disk = Disk(fault_of(kind, number), within=within)
    with put_in(disk), nullcontext(lambda: 0) if saver == "deaf" else StopAsked() as stop_asked:
        resume = bool(place.saved_checkpoints())
        model = tiny_model(told.model, seed=99 if resume else 0)
        try:
            loop.train(model, told, TRAIN, VALID, run=place, device=CPU, resume=resume, stop_asked=stop_asked)
        except StoppedError as stop:
            print(stop, file=sys.stderr)
            return 128 + stop.signum
    print(f"calls: {len(disk.calls)}", file=sys.stderr)
    return 0


def endless(folder: str) -> int:
    """A run in which a step never ends."""

    def step(*_: object, **__: object) -> None:
        while True:
            time.sleep(0.01)

    room.train_step = step
    return run(folder)


def audited(folder: str) -> int:
    """A run, with a line for each place that Python is told to change."""
    places: list[str] = []
    changing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(given[0], str) and int(given[2] or 0) & changing:
            places.append(given[0])
        elif event in ("os.rename", "os.remove", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod"):
            places.extend(str(place) for place in given[:2] if isinstance(place, str | Path))

    sys.addaudithook(hook)
    code = run(folder)
    for place in places:
        print(f"writes: {place}", file=sys.stderr)
    return code


class Gauge:
    """A tracker that notes what the process holds: bytes of memory and open files."""

    def __init__(self, leak: int) -> None:
        self.leak, self.leaked = leak, list[bytearray]()
        self.samples: list[tuple[int, int, int]] = []

    def log(self, step: int, metrics: dict[str, float]) -> None:
        if "valid_loss" in metrics:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            files = len([*Path("/proc/self/fd").iterdir()])
            self.samples.append((step, pages * os.sysconf("SC_PAGE_SIZE"), files))
        if self.leak:
            self.leaked.append(bytearray(b"x" * self.leak))


def long(folder: str, steps: int, leak: int = 0) -> int:
    """A long run of tiny steps, evaluated and saved every 25; with a line for each sample of what it holds."""
    told = settings(steps=steps, log_every=1, eval_every=25, save_every=25)
    place, gauge = RunFolder(Path(folder)), Gauge(leak)
    place.create(told)
    loop.train(tiny_model(told.model), told, TRAIN, VALID, run=place, device=CPU, trackers=(gauge,))
    for sample in gauge.samples:
        print("holds:", *sample, file=sys.stderr)
    return 0


def warm_up() -> None:
    """Do once, before the forks, what only takes time."""
    revision()
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()):
        assert run(folder, changes={"steps": 2}) == 0
        assert run(folder, changes={"steps": 2}) == 0, "taken up, at its end"
    random.seed(0)
    torch.manual_seed(0)
    np.random.seed(0)
    assert os.environ["OMP_NUM_THREADS"] == "1", "threads do not survive a fork"


JOBS: dict[str, Callable[..., int]] = {"save": save, "run": run, "endless": endless, "audited": audited, "long": long}
