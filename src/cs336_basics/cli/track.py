"""Trackers that need an optional library."""

from pathlib import Path

from cs336_basics.config import ConfigError


class TensorBoardTracker:
    """Metrics as TensorBoard scalars: `tensorboard --logdir runs`."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ConfigError("tensorboard must be installed: pip install 'cs336-basics[track]'") from None
        self._writer = SummaryWriter(str(folder))

    def log(self, step: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()
