"""Mutated files: right or one error of ours, never a traceback from deep inside, never a hang, never silently wrong."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cs336_basics.train.errors import CheckpointError
from tests.cli.small import run
from tests.faults.fuzz import fuzz_kinds, fuzzed, mutate_one_file
from tests.faults.naive import plain
from tests.train.tiny import assert_same, states, trained

KINDS = ["config", "metrics", "checkpoint", "token file", "sidecar"]


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_right_or_refused(kind: str, tmp_path: Path) -> None:
    row = fuzzed(kind, fuzz_kinds(tmp_path)[kind], count=300)
    assert (row.injected, row.lost) == (300, 0), row.why[:5]


def test_a_plain_checkpoint_is_silently_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    model, optimizer = trained("adamw", steps=1)
    state = {**states(model, optimizer), "iteration": 1}
    path.write_bytes(plain(state))

    def read() -> None:
        assert_same(torch.load(path, weights_only=True), state)

    assert fuzzed("plain", (path, read, CheckpointError), count=50).lost > 25


COMMANDS: list[tuple[str, Callable[[int], bool]]] = [
    ("runs show fuzzed", lambda code: code in (0, 2)),
    ("runs list .", lambda code: code == 0),
    ("generate --run fuzzed --device cpu --max-new-tokens 2", lambda code: code in (0, 2)),
    ("train --run fuzzed --resume", lambda code: code in (0, 1, 2)),
]


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.filterwarnings("default")
def test_a_run_with_a_mutated_file_never_ends_in_a_traceback(
    trained_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An exception that is not ours leaves `main` as it is, and would fail this test."""
    for seed in range(25):
        shutil.copytree(trained_run / "run", trained_run / "fuzzed")
        path, _ = mutate_one_file(trained_run / "fuzzed", random.Random(seed))
        for words, may in COMMANDS:
            assert may(run(trained_run, words)), (seed, path, words)
            assert "Traceback" not in capsys.readouterr().err, (seed, path, words)
        shutil.rmtree(trained_run / "fuzzed")
