"""Checkpoints: one sealed file of plain data, written whole or not at all, and refused where a single bit is wrong.

A file is what `torch.save` writes of {model, optimizer, iteration, about}, and after it a seal (`seal.py`), with which
`torch.load` reads it as well. Version 1 had neither seal nor `about`; it is read still, as far as torch can tell that
it is whole.
"""

import copy
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cs336_basics.files import whole_file
from cs336_basics.train.errors import CheckpointError, DamagedError, SaveError
from cs336_basics.train.seal import LaterError, Sealing, WrongError, verify_seal

Target: TypeAlias = str | os.PathLike[str] | IO[bytes]

_KEYS = ("model", "optimizer", "iteration")
# What a run does: its newest checkpoint counts, and `cs336 train --resume` begins anew where there is none.
_MEND = "delete it: the run goes on from the checkpoint before it, or with train --resume from the start"


def save_checkpoint(
    model: nn.Module, optimizer: Optimizer, iteration: int, out: Target, *, about: Mapping[str, Any] | None = None
) -> None:
    """Write the states of model and optimizer and the number of finished iterations to a path or an open file.

    A path holds the old checkpoint or the new one, never part of one (`files.whole_file`). `about` is what else is
    to be known when it is read, as plain data and tensors.

    Raises: SaveError, a CheckpointError, if the folder is missing or the file cannot be written.
    """
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "iteration": iteration}
    write_checkpoint({**state, "about": dict(about or {})}, out)


def snapshot(
    model: nn.Module, optimizer: Optimizer, iteration: int, *, about: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What `save_checkpoint` would write, copied into main memory: training may go on while it is written."""
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "iteration": iteration}
    copied: dict[str, Any] = _copied({**state, "about": dict(about or {})}, {})
    return copied


def write_checkpoint(state: Mapping[str, Any], out: Target) -> None:
    """Write a state and its seal. Raises: SaveError naming the path, where it is one."""
    if not isinstance(out, str | os.PathLike):
        _write(state, out)
        return
    try:
        with whole_file(out) as file:
            _write(state, file)
    except OSError as error:
        raise SaveError(f"save_checkpoint: {out} cannot be written: {error.strerror or error}") from None


def load_checkpoint(src: Target, model: nn.Module, optimizer: Optimizer | None = None) -> int:
    """Put a checkpoint's states into model and optimizer, and return its number of finished iterations.

    Without an optimizer only the model is filled, as for generation. Tensors land on the devices that model
    and optimizer live on. The file is data: nothing in it is executed (weights_only=True always).

    Raises: CheckpointError naming the file where it is missing, damaged (DamagedError), not a checkpoint, or of
        another shape; the model and the optimizer are then as they were.
    """
    return restore(read_checkpoint(src), model, optimizer, name=_name(src))


def read_checkpoint(src: Target) -> dict[str, Any]:
    """What a checkpoint holds, its tensors in main memory: model, optimizer, iteration and about.

    Raises: DamagedError where the SHA-256 or the form is wrong, CheckpointError where it cannot be read.
    """
    if not isinstance(src, str | os.PathLike):
        return _read(cast("BinaryIO", src), _name(src), "give another")
    with _opened(src) as file:
        return _read(file, _name(src), _MEND)


def verify_checkpoint(path: str | os.PathLike[str]) -> None:
    """Compare a file with its seal, and load nothing. Raises: as `read_checkpoint`."""
    with _opened(path) as file:
        try:
            verify_seal(file)
        except (ValueError, OSError) as error:
            raise _damaged(_name(path), error, _MEND) from None


def restore(state: Mapping[str, Any], model: nn.Module, optimizer: Optimizer | None = None, *, name: str) -> int:
    """Put what `read_checkpoint` gave into model and optimizer, as `load_checkpoint` does; errors begin with name."""
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


def _name(src: Target) -> str:
    return os.fspath(src) if isinstance(src, str | os.PathLike) else "the open file"


def _copied(value: Any, seen: dict[int, Tensor]) -> Any:
    """The same containers with copies of the tensors in main memory; one that stands twice is copied once."""
    if isinstance(value, Tensor):
        if id(value) not in seen:
            seen[id(value)] = value.detach().to("cpu", copy=True)
        return seen[id(value)]
    if isinstance(value, dict):
        same = copy.copy(value)  # of its type, with what torch hangs on a state
        same.update((key, _copied(part, seen)) for key, part in value.items())
        return same
    if isinstance(value, list | tuple):
        return type(value)([_copied(part, seen) for part in value])
    return value


def _write(state: Mapping[str, Any], file: IO[bytes]) -> None:
    sealing = Sealing(file)
    torch.save(dict(state), cast("IO[bytes]", sealing))
    sealing.finish()


def _opened(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise CheckpointError(f"load_checkpoint: {path} cannot be read: {error.strerror or error}") from None


def _read(file: BinaryIO, name: str, mend: str) -> dict[str, Any]:
    try:
        begin = file.tell()
        version = verify_seal(file)
        _require_plain(file)
        file.seek(begin)
        state = torch.load(file, map_location="cpu", weights_only=True)
    # torch.load raises whatever its unpickler met: the damage has no one type.
    except Exception as error:
        raise _damaged(name, error, mend) from error
    found = state if isinstance(state, dict) else {}
    if any(key not in found for key in _KEYS):
        raise DamagedError(f"load_checkpoint: {name} is not a checkpoint: it must hold {', '.join(_KEYS)}; {mend}")
    if not isinstance(found["model"], dict) or type(found["iteration"]) is not int:
        raise DamagedError(
            f"load_checkpoint: {name} is not a checkpoint: model must be a dict, iteration a number; {mend}"
        )
    if version == 1 and "about" in found:
        raise DamagedError(f"load_checkpoint: {name} is damaged or no checkpoint (its seal is gone); {mend}")
    if not isinstance(found.setdefault("about", {}), dict):
        raise DamagedError(f"load_checkpoint: {name} is not a checkpoint: about must be a dict; {mend}")
    return found


def _damaged(name: str, error: Exception, mend: str) -> CheckpointError:
    # The text of others stays out of ours: for a file that wants to run code torch recommends to let it.
    if isinstance(error, LaterError):
        return CheckpointError(f"load_checkpoint: {name} cannot be read: {error}")
    kind = str(error) if isinstance(error, WrongError) else type(error).__name__
    return DamagedError(f"load_checkpoint: {name} is damaged or no checkpoint ({kind}); {mend}")


def _require_plain(file: BinaryIO) -> None:
    """Refuse a zip that torch does not write: compressed records (bombs) and names that lead out of their folder.

    Nothing is ever unpacked to a disk; such a file was made to do harm to somebody.
    """
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        size = file.seek(0, os.SEEK_END)
        for record in archive.infolist():
            parts = record.filename.split("/")
            if record.compress_type != zipfile.ZIP_STORED or record.file_size > size:
                raise WrongError(f"its record {record.filename!r} is compressed")
            if len(parts) < 2 or ".." in parts or "" in parts or "\\" in record.filename or ":" in record.filename:
                raise WrongError(f"its record {record.filename!r} must lie in its folder")


def _mismatch(own: dict[str, Any], saved: dict[str, Any]) -> str:
    missing, extra = sorted(own.keys() - saved.keys()), sorted(saved.keys() - own.keys())
    if missing or extra:
        return f"it lacks {missing[:3]} and has {extra[:3]} beyond it" if missing else f"it has {extra[:3]} beyond it"
    for key, value in own.items():
        shape = getattr(saved[key], "shape", None)
        if value.shape != shape:
            return f"{key} must have shape {tuple(value.shape)}, got {shape if shape is None else tuple(shape)}"
    return ""
