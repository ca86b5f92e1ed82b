"""`nox -s faults`: every fault, many times over, as one table; fails where anything is lost or a control loses nothing.

Arguments: names of groups to run (kills, signals, damage, disk, ...), and `--part 0.1` for a tenth of the faults.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from tests.faults.campaigns import Row, killed_runs
from tests.faults.damage import damaged, kinds, passed_over, plain_kinds
from tests.faults.endurance import endured
from tests.faults.full import failing_runs, filled_disk
from tests.faults.fuzz import fuzz_kinds, fuzzed
from tests.faults.hostile import refused
from tests.faults.nonfinite import injected
from tests.faults.overhead import cost_of_saving
from tests.faults.retention import by_name, lives
from tests.faults.saves import power_cuts
from tests.faults.signals import signalled_runs, twice_signalled
from tests.faults.workers import Workers
from tests.train.tiny import assert_same


class Bench(NamedTuple):
    """Where a group works, with whom, and which part of its faults it puts in."""

    work: Path
    workers: Workers
    part: float

    def some(self, count: int) -> int:
        return max(2, round(count * self.part))


Rows = Iterator[tuple[Row, Row | None]]  # and that of a naive writer, where there is one

SAVING_LIMIT = 0.03  # of the time of training


def power(bench: Bench) -> Rows:
    row, control = power_cuts(bench.work, "ours"), power_cuts(bench.work, "unsynced")
    yield row, control


def kills(bench: Bench) -> Rows:
    runs = bench.some(40)
    control = killed_runs(bench.work / "naive", bench.workers, runs=3, kills=5, where="saves", saver="naive")
    yield killed_runs(bench.work / "saves", bench.workers, runs=runs, kills=5, where="saves"), control
    for where in ("writes", "anywhere"):
        yield killed_runs(bench.work / where, bench.workers, runs=runs, kills=5, where=where), None


def signals(bench: Bench) -> Rows:
    for signum in (signal.SIGTERM, signal.SIGINT):
        place = bench.work / signum.name
        control = signalled_runs(place / "deaf", bench.workers, signum, count=3, saver="deaf")
        yield signalled_runs(place, bench.workers, signum, count=bench.some(50)), control
        yield twice_signalled(place, bench.workers, signum, count=bench.some(10)), None


def damage(bench: Bench) -> Rows:
    plain = plain_kinds(bench.work)["plain .pt"]
    control = damaged("plain .pt", plain, flips=50, cuts=2)[0]
    for name, kind in kinds(bench.work).items():
        flipped, cut = damaged(name, kind, flips=bench.some(1000), cuts=bench.some(200))
        yield flipped, control if name == "checkpoint" else None
        yield cut, None
    yield passed_over(bench.work, count=bench.some(1000)), None


def disk(bench: Bench) -> Rows:
    control = failing_runs(bench.work / "naive", bench.workers, count=24, then="stop", saver="naive")
    for then in ("stop", "go on"):
        yield failing_runs(bench.work / then, bench.workers, count=bench.some(612), then=then), control
    row = filled_disk(bench.work, bench.workers)
    if row.injected:
        yield row, None


def retention(bench: Bench) -> Rows:
    control = lives(bench.work / "naive", count=60, pruned=by_name)
    yield lives(bench.work / "ours", count=bench.some(500)), control


def numbers(bench: Bench) -> Rows:
    control = injected(bench.work / "naive", count=5, guarded=False)
    yield injected(bench.work / "ours", count=bench.some(100)), control


def trust(bench: Bench) -> Rows:
    yield refused(bench.work), None


def fuzz(bench: Bench) -> Rows:
    files, load, _ = plain_kinds(bench.work)["plain .pt"]
    sound = torch.load(files[0], weights_only=True)

    def read() -> None:
        load()
        assert_same(torch.load(files[0], weights_only=True), sound)

    control = fuzzed("plain .pt", (files[0], read, RuntimeError), count=50)
    for name, kind in fuzz_kinds(bench.work).items():
        yield fuzzed(name, kind, count=bench.some(1000)), control if name == "checkpoint" else None


def endurance(bench: Bench) -> Rows:
    steps = max(1500, round(5000 * bench.part))
    allowed = 100.0 if steps >= 5000 else 700.0
    leaking, _ = endured(bench.work, bench.workers, steps=1500, leak=2000, bytes_a_step=700)
    row, said = endured(bench.work, bench.workers, steps=steps, bytes_a_step=allowed)
    print(f"  {said}", file=sys.stderr)
    yield row, leaking


GROUPS: dict[str, Callable[[Bench], Rows]] = {
    group.__name__: group for group in (power, kills, signals, damage, disk, retention, numbers, trust, fuzz, endurance)
}


def main() -> int:
    """Run the groups, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(prog="nox -s faults --", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}; default: all")
    parser.add_argument("--part", type=float, default=1.0, help="of the faults to put in (default: all)")
    chosen = parser.parse_args()
    if unknown := {*chosen.groups} - {*GROUPS}:
        parser.error(f"no group is named {', '.join(sorted(unknown))}")
    lines, wrong = ["| fault | injected | survived | lost | lost by a naive writer |", "|---|---|---|---|---|"], []
    with Workers() as workers, tempfile.TemporaryDirectory() as folder:
        for name in chosen.groups or GROUPS:
            start, work = time.monotonic(), Path(folder, name)
            work.mkdir()
            for row, control in GROUPS[name](Bench(work, workers, chosen.part)):
                shown = "" if control is None else f"{control.lost} of {control.injected}"
                lines.append(f"| {row.fault} | {row.injected:,} | {row.survived:,} | {row.lost:,} | {shown} |")
                wrong += [f"{row.fault}: {reason}" for reason in row.why[:5]]
                wrong += (
                    [f"{row.fault}: the control lost nothing, so this shows nothing"]
                    if control and not control.lost
                    else []
                )
            print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
        part, waited = cost_of_saving(Path(folder))
    print("\n".join(lines))
    print(f"\na save costs {part:.2%} of training at the default interval, {waited:.3%} of it before the next step")
    wrong += [f"a save must cost less than {SAVING_LIMIT:.0%}"] if part >= SAVING_LIMIT else []
    print("\n".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
