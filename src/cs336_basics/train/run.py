"""A run folder: where config, tokenizer, metrics, checkpoints, samples and the loss curve of a run live."""

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cs336_basics.config import ConfigError, RunConfig, load_config, to_dict, to_toml
from cs336_basics.files import write_text
from cs336_basics.train.errors import CheckpointError

# Fields that may change when a run goes on: they decide how it is computed or watched, not what it computes.
FREE_FIELDS = frozenset(
    f"train.{name}"
    for name in (
        "device",
        "compile",
        "peak_flops",
        "log_every",
        "eval_every",
        "eval_batches",
        "save_every",
        "keep_checkpoints",
    )
)


@dataclass(frozen=True)
class RunFolder:
    """The layout of a run: `path` and the names in it."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

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

    def checkpoint(self, step: int) -> Path:
        """The file of the checkpoint after `step` updates."""
        return self.checkpoints / f"step-{step:08d}.pt"

    def saved_checkpoints(self) -> list[Path]:
        """Checkpoints, oldest first."""
        return sorted(self.checkpoints.glob("step-*.pt"))

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

    def require_new(self) -> None:
        """Refuse a folder that already holds a run.

        Raises: ConfigError.
        """
        if self.config.exists() or self.saved_checkpoints():
            raise ConfigError(f"run: {self.path} already holds a run; name another folder, or delete it")

    def create(self, config: RunConfig) -> None:
        """Make the folder of a new run and save its config.

        Raises: ConfigError where it already holds a run or cannot be made.
        """
        self.require_new()
        try:
            for folder in (self.path, self.checkpoints, self.samples):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"run: {self.path} cannot be made a folder: {error.strerror}; name another") from None
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


def require_same_curve(saved: RunConfig, asked: RunConfig) -> None:
    """Refuse to resume under a config that would bend the loss curve.

    Raises: ConfigError naming the first changed field that is not in FREE_FIELDS.
    """
    before, after = _flatten(to_dict(saved)), _flatten(to_dict(asked))
    for name in sorted((before.keys() | after.keys()) - FREE_FIELDS):
        if before.get(name) != after.get(name):
            raise ConfigError(
                f"{name} must stay {before.get(name)!r} when a run is resumed, got {after.get(name)!r}; "
                "leave it out, or start a new run"
            )


def with_field(config: RunConfig, section: str, **changes: Any) -> RunConfig:
    """A copy of the config with fields of one section changed."""
    changed = dataclasses.replace(getattr(config, section), **changes)
    return dataclasses.replace(config, **{section: changed})


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat.update(_flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value})
    return flat
