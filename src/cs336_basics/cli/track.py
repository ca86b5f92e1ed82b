"""Trackers that need an optional library."""

import importlib.util
from pathlib import Path

from cs336_basics.config import ConfigError


def require_tensorboard() -> None:
    """Raise ConfigError where tensorboard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ConfigError("tensorboard must be installed: pip install 'cs336-basics[track]'")


class TensorBoardTracker:
    """Metrics as TensorBoard scalars: `tensorboard --logdir runs`."""

    def __init__(self, folder: Path) -> None:
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def log(self, step: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()
