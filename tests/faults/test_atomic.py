"""A checkpoint is the old one or the new one, whole, wherever its writer is killed and whenever the power goes."""

import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cs336_basics.data.token_file import sidecar_path, write_tokens
from cs336_basics.train.checkpoint import load_checkpoint
from cs336_basics.train.errors import CheckpointError
from tests.faults.disk import Disk
from tests.faults.naive import WRITERS, put_in
from tests.faults.power import cuts
from tests.faults.saves import NEW, OLD, power_cuts, write
from tests.faults.workers import ROOT, Workers
from tests.train.tiny import assert_same, states, tiny_model, trained

each_writer = pytest.mark.parametrize("writer", ["ours", *WRITERS])


def is_whole(path: Path) -> bool:
    """Whether the checkpoint is the old one or the new one, bit for bit."""
    model, optimizer = trained("adamw", seed=5)
    try:
        steps = load_checkpoint(path, model, optimizer)
    except CheckpointError:
        return False
    assert steps in (OLD, NEW)
    assert_same(states(model, optimizer), states_after(steps))
    return True


@cache
def states_after(steps: int) -> dict[str, Any]:
    return states(*trained("adamw", steps=steps))


@each_writer
def test_killed_at_every_call_of_a_save(writer: str, tmp_path: Path, workers: Workers) -> None:
    path, lost, number = tmp_path / "a.pt", 0, 0
    code = -9
    while code == -9:
        number += 1
        write(writer, path, OLD)
        code, said, _ = workers.run("save", path=str(path), steps=NEW, writer=writer, kind="kill", number=number)
        assert code in (-9, 0), said
        lost += not is_whole(path)
        for left in tmp_path.glob(".*.tmp"):
            left.unlink()
    assert number > 5, "a save is some calls"
    assert (lost == 0) == (writer in ("ours", "unsynced")), "a kill takes nothing that was only not yet on disk"


@each_writer
def test_a_power_cut_at_every_call_of_a_save(writer: str, tmp_path: Path) -> None:
    row = power_cuts(tmp_path, writer)
    assert row.injected > 15
    assert (row.lost == 0) == (writer == "ours"), row.why


def test_a_power_cut_never_mixes_a_token_file_and_its_sidecar(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"

    def write_ids(seed: int) -> dict[str, bytes]:
        ids = np.random.default_rng(seed).integers(0, 300, 500)
        write_tokens(path, [ids], vocab_size=300, tokenizer_hash="a")
        return {str(file): file.read_bytes() for file in (path, sidecar_path(path))}

    old = write_ids(0)
    with put_in(Disk()) as disk:
        new = write_ids(1)
    for done, found in cuts(disk.calls, old):
        kept = {name: found[name] for name in old if name in found}
        whole = kept in (old, new) or len(kept) < 2  # one alone is refused by name
        assert whole, done
        assert done < len(disk.calls) or kept == new


def test_the_system_sees_the_calls_in_this_order(tmp_path: Path) -> None:
    """Not our own log: what the kernel was asked, by strace."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    program = "import sys; from cs336_basics.files import write_text; write_text(sys.argv[1], 'x' * 100_000)"
    log, target = tmp_path / "log", tmp_path / "out" / "a"
    target.parent.mkdir()
    traced = "trace=openat,write,fsync,rename,renameat,renameat2"
    words = [strace, "-y", "-o", str(log), "-e", traced, sys.executable, "-c", program, str(target)]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, cwd=ROOT, env={"PYTHONPATH": str(ROOT / "src")}
    )
    if "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    lines = [line for line in log.read_text().splitlines() if str(target.parent) in line]
    seen = [re.sub(r"\(.*", "", line) for line in lines]
    compact = [name for before, name in zip(["", *seen], seen, strict=False) if name != before]
    assert compact[:3] == ["openat", "write", "fsync"], lines
    assert compact[3].startswith("rename"), lines
    assert compact[4:] == ["openat", "fsync"], lines
    assert "O_EXCL" in lines[0]
    assert f"<{target.parent}>" in lines[-1], "the folder itself"


def test_the_tiny_model_has_something_to_lose() -> None:
    assert sum(param.numel() for param in tiny_model().parameters()) > 10_000
