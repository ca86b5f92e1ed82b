"""A run folder: where config, tokenizer, metrics, checkpoints, samples and the loss curve of a run live."""

import dataclasses
import os
import re
import shlex
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cs336_basics.config import ConfigError, RunConfig, check, check_types, load_config, to_dict, to_toml
from cs336_basics.files import held, write_text
from cs336_basics.train.errors import CheckpointError

# Fields that may change when a run goes on: they decide how it is computed or watched, not what it computes.
FREE_FIELDS = frozenset(
    f"train.{name}"
    for name in (
        "device",
        "kernels",
        "compile",
        "peak_flops",
        "log_every",
        "eval_every",
        "eval_batches",
        "save_every",
        "keep_checkpoints",
        "keep_best",
        "on_disk_error",
        "divergence_patience",
    )
) | {"data.verify"}
# Where the data lies may change too, where a run has recorded what it is.
DATA_PATHS = frozenset(f"data.{name}" for name in ("train", "valid", "tokenizer"))


@dataclass(frozen=True, kw_only=True)
class DataIdentity:
    """What the data of a run is, wherever it lies; saved as `data.toml` in its folder."""

    tokenizer: str = ""  # its fingerprint, a sha256 too
    train: str = ""  # sha256 of the token file
    valid: str = ""  # the same; empty where a part of train is held out

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("tokenizer", "train"):
            check(self, name, bool(getattr(self, name)), "a sha256")


@dataclass(frozen=True)
class RunFolder:
    """The layout of a run: `path` and the names in it."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    @property
    def data(self) -> Path:
        return self.path / "data.toml"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def plot(self) -> Path:
        return self.path / "loss.png"

    @property
    def lock(self) -> Path:
        return self.path / ".lock"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other trainers out of the folder while the body runs.

        Raises: ConfigError where one is at work in it.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(held(self.lock))
            except BlockingIOError as error:
                raise ConfigError(
                    f"run: {self.path} is in use by {error.strerror}; wait for it or stop it, or name another folder"
                ) from None
            yield

    def trainer(self) -> str:
        """Who trains in the folder, as far as it can be told without the lock, which is theirs; empty for nobody."""
        try:
            words = self.lock.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""
        found = re.fullmatch(r"process (\d{1,9}) on (.+)", words)
        if not found or (found[2] == socket.gethostname() and not _is_alive(int(found[1]))):
            return ""
        return words

    def checkpoint(self, step: int) -> Path:
        """The file of the checkpoint after `step` updates."""
        return self.checkpoints / f"step-{step:08d}.pt"

    def trace(self, step: int) -> Path:
        """The file of the profiler's trace of update `step`."""
        return self.path / "traces" / f"step-{step:08d}.json"

    def saved_checkpoints(self) -> list[Path]:
        """Checkpoints, oldest first."""
        return sorted(path for path in self.checkpoints.glob("step-*.pt") if path.stem[5:].isdigit())

    def newest_checkpoint(self) -> Path:
        """The checkpoint to go on from.

        Raises: CheckpointError where there is none.
        """
        saved = self.saved_checkpoints()
        if not saved:
            # A folder with a config is a run that was stopped before its first checkpoint: only --resume enters it.
            words = ["cs336", "train", "--run", str(self.path), *(["--resume"] if self.config.exists() else [])]
            raise CheckpointError(f"{self.path} has no checkpoint; train into it first: {shlex.join(words)}")
        return saved[-1]

    def require_new(self, *, another: str = "another folder") -> None:
        """Refuse a folder that already holds a run, and what is no folder; `another` says how to name one.

        Raises: ConfigError.
        """
        if self.config.exists() or self.saved_checkpoints():
            go_on = shlex.join(["cs336", "train", "--run", str(self.path), "--resume"])
            raise ConfigError(
                f"run: {self.path} already holds a run; go on with it ({go_on}), name {another}, or delete it"
            )
        there = next(path for path in (self.path, *self.path.absolute().parents) if path.exists())
        if not there.is_dir():
            raise ConfigError(f"run: {self.path} cannot be made a folder: {there} is a file; name {another}")

    def make(self) -> None:
        """Make the folders of a new run.

        Raises: ConfigError where it already holds a run or cannot be made.
        """
        self.require_new()
        try:
            for folder in (self.path, self.checkpoints, self.samples):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"run: {self.path} cannot be made a folder: {error.strerror}; name another") from None

    def create(self, config: RunConfig, data: DataIdentity | None = None) -> None:
        """Make the folder of a new run and save what its data is and its config, last, which makes it one.

        Raises: ConfigError where it already holds a run or cannot be made.
        """
        self.make()
        if data is not None:
            self.save_data(data)
        self.save_config(config)

    def save_config(self, config: RunConfig) -> None:
        """Write config.toml whole."""
        write_text(self.config, to_toml(config))

    def load_config(self) -> RunConfig:
        """Read the config the run was made with.

        Raises: ConfigError where there is none.
        """
        if not self.config.is_file():
            raise ConfigError(f"run {self.path} holds no config.toml: it is not a run folder")
        return load_config(RunConfig, self.config)

    def save_data(self, data: DataIdentity) -> None:
        """Write data.toml whole."""
        write_text(self.data, to_toml(data))

    def load_data(self) -> DataIdentity | None:
        """What the run's data was when it was made; None for a run that did not record it.

        Raises: ConfigError for a damaged file.
        """
        return load_config(DataIdentity, self.data) if self.data.exists() else None


def step_of(checkpoint: Path) -> int:
    """The number of updates in a checkpoint's name: the inverse of `RunFolder.checkpoint`."""
    return int(checkpoint.stem.removeprefix("step-"))


def require_same_data(saved: DataIdentity, asked: DataIdentity, *, may_change: frozenset[str] = frozenset()) -> None:
    """Refuse to resume, or to score, with other data than the run was made with, but for fields that may change.

    Raises: ConfigError naming the field of the config whose file is another.
    """
    for name, before in vars(saved).items():
        after = getattr(asked, name)
        if before != after and f"data.{name}" not in may_change:
            raise ConfigError(
                f"data.{name} must be what the run was made with, {_digest(before)}, got {_digest(after)}; "
                "give that, wherever it lies now, or start a new run"
            )


def require_same_curve(saved: RunConfig, asked: RunConfig, *, free: frozenset[str] = FREE_FIELDS) -> None:
    """Refuse to resume under a config that would bend the loss curve.

    Raises: ConfigError naming the first changed field that is not in `free`.
    """
    before, after = flatten(to_dict(saved)), flatten(to_dict(asked))
    for name in sorted((before.keys() | after.keys()) - free):
        if before.get(name) != after.get(name):
            raise ConfigError(
                f"{name} must stay {before.get(name)!r} when a run is resumed, got {after.get(name)!r}; "
                f"leave it out, allow it with --may-change {name}, or start a new run"
            )


def with_field(config: RunConfig, section: str, **changes: Any) -> RunConfig:
    """A copy of the config with fields of one section changed."""
    changed = dataclasses.replace(getattr(config, section), **changes)
    return dataclasses.replace(config, **{section: changed})


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _digest(digest: str) -> str:
    return f"sha256 {digest[:12]}" if digest else "none"


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by their full names, such as train.steps."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return flat
