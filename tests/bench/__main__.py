"""`python -m tests.bench [contracts|kernels|ops|... ...] [--out FILE]`: a table, and a JSON row a figure.

`train/small` keeps the figures of the group `train` with `small` in their names, which saves minutes.
Exits 1 if a figure falls short of what it must reach; figures without a bound are reported.
"""

import argparse
import importlib
import json
import platform
from collections.abc import Iterator
from pathlib import Path

import torch

from tests.bench.measure import ROUNDS, Figure

GROUPS = ("contracts", "ops", "kernels", "train", "generate", "tokenizer")
WITH_ROWS = ("train",)  # groups of which rows can be chosen


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure, and report what falls short.")
    parser.add_argument("groups", nargs="*", metavar="|".join(GROUPS), help="what to measure (default: everything)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"turns of each candidate (at least {ROUNDS})")
    parser.add_argument("--out", type=Path, help="file for one JSON row a figure (default: none)")
    asked = parser.parse_args()
    unknown = [group for group in asked.groups if group not in GROUPS and group.split("/")[0] not in WITH_ROWS]
    if unknown or asked.rounds < ROUNDS:
        parser.error(f"no such group: {unknown[0]}" if unknown else f"--rounds must be at least {ROUNDS}")
    torch.set_num_threads(1)
    machine = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "rounds": asked.rounds,
    }
    print(*(f"{name} {value}" for name, value in machine.items()), sep=", ")
    rows, short = [], []
    for group in asked.groups or GROUPS:
        for figure in figures(group, asked.rounds):
            print(figure.line(), flush=True)
            rows.append(json.dumps({**figure.row(), **machine}) + "\n")
            short += [f"{group}: {figure.name}: {name}" for name in figure.short()]
            if asked.out is not None:  # after each: the rest may take minutes
                asked.out.write_text("".join(rows), encoding="utf-8")
    if short:
        raise SystemExit("\n".join(["", "short of what they must reach:", *short]))


def figures(group: str, rounds: int) -> Iterator[Figure]:
    """The figures of a group, each as soon as it is measured."""
    name, *only = group.split("/", 1)
    found: Iterator[Figure] = importlib.import_module(f"tests.bench.{name}").figures(rounds, *only)
    return found


if __name__ == "__main__":
    main()
