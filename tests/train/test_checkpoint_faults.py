"""Bad checkpoints: one error, which names the file; model and optimizer as they were; nothing in a file runs."""

import io
import os
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.config import ModelConfig
from cs336_basics.train.checkpoint import load_checkpoint
from cs336_basics.train.errors import CheckpointError
from tests.train.tiny import MODEL, assert_same, states, tiny_model, trained


def as_bytes(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def whole(name: str = "adamw", steps: int = 1) -> dict[str, Any]:
    """What a sound checkpoint holds."""
    return {**states(*trained(name, steps=steps)), "iteration": steps}


def refused(path: Path, raw: bytes, name: str = "adamw", config: ModelConfig = MODEL) -> str:
    """Load the bytes from a file and from memory; return the message of the error, having checked all else."""
    path.write_bytes(raw)
    model, optimizer = trained(name, seed=1, steps=1) if config is MODEL else (tiny_model(config), None)
    before = states(model, optimizer or torch.optim.SGD(model.parameters()))
    with pytest.raises(CheckpointError, match="load_checkpoint: the open file ") as of_memory:
        load_checkpoint(io.BytesIO(raw), model, optimizer)
    assert "delete" not in str(of_memory.value), "there is no file to delete"
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, model, optimizer)
    assert_same(states(model, optimizer or torch.optim.SGD(model.parameters())), before)
    text = str(caught.value)
    assert text.startswith(f"load_checkpoint: {path} ")
    assert "\n" not in text
    return text


def changed(**parts: Any) -> dict[str, Any]:
    return whole() | parts


def one_state(**parts: Any) -> bytes:
    """A checkpoint in which the optimizer's first state has other values."""
    found = whole()
    found["optimizer"]["state"][0] |= parts
    return as_bytes(found)


BROKEN: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "text": lambda: b"step,loss\n1,2.5\n",
    "random": lambda: bytes(torch.randint(256, (3000,), generator=torch.Generator().manual_seed(0)).tolist()),
    "zip": lambda: b"PK\x03\x04" + bytes(200),
    "half": lambda: as_bytes(whole())[:60_000],
    "one byte short": lambda: as_bytes(whole())[:-1],
}
NO_CHECKPOINT: dict[str, Callable[[], bytes]] = {
    "a list": lambda: as_bytes([1, 2]),
    "a bare state": lambda: as_bytes(whole()["model"]),
    "no iteration": lambda: as_bytes({key: whole()[key] for key in ("model", "optimizer")}),
    "no optimizer": lambda: as_bytes({"model": whole()["model"], "iteration": 1}),
    "iteration a text": lambda: as_bytes(changed(iteration="1")),
    "model a number": lambda: as_bytes(changed(model=3)),
}
NOT_FITTING: dict[str, Callable[[], bytes]] = {
    "weights numbers": lambda: as_bytes(changed(model=dict.fromkeys(whole()["model"], 3))),
    "a weight missing": lambda: as_bytes(changed(model=dict(list(whole()["model"].items())[1:]))),
    "a weight too many": lambda: as_bytes(changed(model=whole()["model"] | {"bias": torch.zeros(1)})),
    "optimizer none": lambda: as_bytes(changed(optimizer=None)),
    "optimizer empty": lambda: as_bytes(changed(optimizer={})),
    "groups numbers": lambda: as_bytes(changed(optimizer={"param_groups": [1, 2], "state": {}})),
    "states numbers": lambda: as_bytes(changed(optimizer=whole()["optimizer"] | {"state": {0: 1}})),
    "a moment of another shape": lambda: one_state(exp_avg=torch.zeros(2, 3)),
    "endless steps": lambda: one_state(step=torch.tensor(float("inf"))),
    "one group": lambda: as_bytes(changed(optimizer=whole()["optimizer"] | {"param_groups": []})),
}


@pytest.mark.parametrize("make", BROKEN.values(), ids=BROKEN)
def test_refuses_damage(tmp_path: Path, make: Callable[[], bytes]) -> None:
    text = refused(tmp_path / "bad.pt", make())
    assert "is damaged or no checkpoint" in text
    assert "; delete it: the run goes on from the checkpoint before it" in text


@pytest.mark.parametrize("make", NO_CHECKPOINT.values(), ids=NO_CHECKPOINT)
def test_refuses_other_files_of_torch(tmp_path: Path, make: Callable[[], bytes]) -> None:
    text = refused(tmp_path / "bad.pt", make())
    assert "is not a checkpoint" in text
    assert "; delete it: the run goes on from the checkpoint before it" in text


@pytest.mark.parametrize("make", NOT_FITTING.values(), ids=NOT_FITTING)
def test_refuses_states_that_do_not_fit(tmp_path: Path, make: Callable[[], bytes]) -> None:
    assert "does not fit the " in refused(tmp_path / "bad.pt", make())


SOUND = as_bytes(whole())


@given(length=st.integers(0, len(SOUND) - 1))
@settings(deadline=None, max_examples=25)
def test_refuses_a_file_cut_anywhere(length: int) -> None:
    model = tiny_model(seed=1)
    before = states(model, torch.optim.SGD(model.parameters()))
    with pytest.raises(CheckpointError, match="the open file is damaged"):
        load_checkpoint(io.BytesIO(SOUND[:length]), model)
    assert_same(states(model, torch.optim.SGD(model.parameters())), before)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(MODEL, d_ff=128), r"layers\.0\.ffn\.w1\.weight must have shape \(128, 32\), got \(64, 32\)"),
        (replace(MODEL, n_layers=1), r"it has \['layers\.1\.attn"),
        (replace(MODEL, n_layers=3), r"it lacks \['layers\.2\.attn"),
        (replace(MODEL, vocab_size=65), r"must have shape \(65, 32\), got \(64, 32\)"),
    ],
    ids=["d_ff", "fewer layers", "more layers", "vocabulary"],
)
def test_refuses_a_model_of_another_shape(tmp_path: Path, config: ModelConfig, message: str) -> None:
    text = refused(tmp_path / "bad.pt", SOUND, config=config)
    assert re.search("does not fit the model: .*" + message, text)


@pytest.mark.parametrize(
    ("saved", "loaded"),
    [(a, b) for a in ("adamw", "muon", "sgd") for b in ("adamw", "muon", "sgd") if a != b],
)
def test_refuses_the_state_of_another_optimizer(tmp_path: Path, saved: str, loaded: str) -> None:
    assert "does not fit the optimizer" in refused(tmp_path / "bad.pt", as_bytes(whole(saved)), name=loaded)


@pytest.mark.parametrize("place", ["nowhere/a.pt", ".", "file/a.pt"])
def test_a_file_that_is_not_there(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match=r"load_checkpoint: .* cannot be read: "):
        load_checkpoint(tmp_path / place, tiny_model())


# A file is data, never code


class Evil:
    """Unpickled by an unwary reader, makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")  # torch, of the third file
@pytest.mark.parametrize("kind", ["as a weight", "beside the rest", "bare pickle"])
def test_nothing_in_a_file_runs(tmp_path: Path, kind: str) -> None:
    flag = tmp_path / "ran"
    evil = Evil(flag)
    raw = {
        "as a weight": lambda: as_bytes(changed(model={"token_embeddings.weight": evil})),
        "beside the rest": lambda: as_bytes(changed(extra=evil)),
        "bare pickle": lambda: pickle.dumps(changed(extra=evil)),
    }[kind]()
    text = refused(tmp_path / "bad.pt", raw)
    assert not flag.exists()
    assert "weights_only" not in text  # torch's own text explains how to let it run
    flag.mkdir()
    with pytest.raises(FileExistsError):  # the trap does work
        pickle.loads(pickle.dumps(evil))  # noqa: S301  # our own bytes
