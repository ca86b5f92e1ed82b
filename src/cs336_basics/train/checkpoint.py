"""Checkpoints: model, optimizer and iteration in one file, written whole or not at all."""

import os
from pathlib import Path
from typing import IO, Any, TypeAlias

import torch
from torch import nn
from torch.optim import Optimizer

from cs336_basics.files import whole_file
from cs336_basics.train.errors import CheckpointError

Target: TypeAlias = str | os.PathLike[str] | IO[bytes]

_KEYS = ("model", "optimizer", "iteration")
# What a run does: its newest checkpoint counts, and `cs336 train --resume` begins anew where there is none.
_MEND = "delete it: the run goes on from the checkpoint before it, or with train --resume from the start"


def save_checkpoint(model: nn.Module, optimizer: Optimizer, iteration: int, out: Target) -> None:
    """Write the states of model and optimizer and the number of finished iterations to a path or an open file.

    A path holds the old checkpoint or the new one, never part of one (`files.whole_file`).

    Raises: CheckpointError if the folder is missing or cannot be written.
    """
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "iteration": iteration}
    if not isinstance(out, str | os.PathLike):
        torch.save(state, out)
        return
    try:
        with whole_file(out) as file:
            torch.save(state, file)
    except OSError as error:
        raise CheckpointError(f"save_checkpoint: {out} cannot be written: {error.strerror or error}") from None


def load_checkpoint(src: Target, model: nn.Module, optimizer: Optimizer | None = None) -> int:
    """Put a checkpoint's states into model and optimizer, and return its number of finished iterations.

    Without an optimizer only the model is filled, as for generation. Tensors land on the devices that model
    and optimizer live on. The file is data: nothing in it is executed (weights_only=True always).

    Raises: CheckpointError naming the file where it is missing, damaged, not a checkpoint, or of another shape;
        the model and the optimizer are then as they were.
    """
    is_path = isinstance(src, str | os.PathLike)
    name = str(src) if is_path else "the open file"
    state = _read(src, name, _MEND if is_path else "give another")
    model_state = state["model"]
    mismatch = _mismatch(model.state_dict(), model_state)
    if mismatch:
        raise CheckpointError(f"load_checkpoint: {name} does not fit the model: {mismatch}")
    if optimizer is not None:
        try:
            optimizer.load_state_dict(state["optimizer"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"load_checkpoint: {name} does not fit the optimizer: {error}") from None
    model.load_state_dict(model_state)
    return int(state["iteration"])


def _read(src: Target, name: str, mend: str) -> dict[str, Any]:
    if isinstance(src, str | os.PathLike):
        try:
            with Path(src).open("rb") as file:
                return _read(file, name, mend)
        except OSError as error:
            raise CheckpointError(f"load_checkpoint: {name} cannot be read: {error.strerror or error}") from None
    try:
        state = torch.load(src, map_location="cpu", weights_only=True)
    # torch.load raises whatever its unpickler met: the damage has no one type.
    except Exception as error:
        # Its text stays out of ours: for a file that wants to run code it recommends to let it.
        kind = type(error).__name__
        raise CheckpointError(f"load_checkpoint: {name} is damaged or no checkpoint ({kind}); {mend}") from error
    found = state if isinstance(state, dict) else {}
    if any(key not in found for key in _KEYS):
        raise CheckpointError(f"load_checkpoint: {name} is not a checkpoint: it must hold {', '.join(_KEYS)}; {mend}")
    if not isinstance(found["model"], dict) or not isinstance(found["iteration"], int):
        raise CheckpointError(
            f"load_checkpoint: {name} is not a checkpoint: model must be a dict, iteration a number; {mend}"
        )
    return found


def _mismatch(own: dict[str, Any], saved: dict[str, Any]) -> str:
    missing, extra = sorted(own.keys() - saved.keys()), sorted(saved.keys() - own.keys())
    if missing or extra:
        return f"it lacks {missing[:3]} and has {extra[:3]} beyond it" if missing else f"it has {extra[:3]} beyond it"
    for key, value in own.items():
        shape = getattr(saved[key], "shape", None)
        if value.shape != shape:
            return f"{key} must have shape {tuple(value.shape)}, got {shape if shape is None else tuple(shape)}"
    return ""
