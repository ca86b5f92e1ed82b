"""A small job for the tests of the command line: settings that train in a second, and commands run in a folder."""

from pathlib import Path

import pytest

from cs336_basics.cli.main import main

MODEL = ("--model.context-length", "16", "--model.d-model", "32", "--model.n-layers", "2", "--model.n-heads", "2")
TRAIN = ("--train.batch-size", "8", "--train.eval-every", "4", "--train.eval-batches", "2", "--train.log-every", "2")
DEVICE = ("--train.device", "cpu")


def run(folder: Path, line: str, *more: str) -> int:
    """Run a command in the folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return main([*line.split(), *more, *(DEVICE if line.startswith(("train", "demo")) else ())])
