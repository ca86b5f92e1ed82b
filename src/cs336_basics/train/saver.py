"""Checkpoints written beside training: a step waits for a copy in memory, not for the disk."""

import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from cs336_basics.config import TrainConfig
from cs336_basics.files import sweep, sync
from cs336_basics.train.checkpoint import write_checkpoint
from cs336_basics.train.errors import CheckpointWarning, SaveError
from cs336_basics.train.keep import prune
from cs336_basics.train.run import RunFolder
from cs336_basics.train.tracker import JsonlTracker


class Saver:
    """Writes one checkpoint of a run at a time, reads it back, and removes those that are not to be kept.

    What goes wrong is raised by the next `save` or by `wait`, or is a CheckpointWarning there, as
    config.on_disk_error says; `finish` raises in any case.
    """

    def __init__(self, run: RunFolder, config: TrainConfig) -> None:
        self.run, self.config = run, config
        self._writer: threading.Thread | None = None
        self._error: SaveError | None = None

    def attempt(self, write: Callable[[], object]) -> None:
        """Write something else of the run. Raises: as `wait`."""
        try:
            write()
        except OSError as error:
            self._tell(_of_disk(error))

    def save(self, state: Mapping[str, Any], metrics: JsonlTracker) -> None:
        """Begin to write a `snapshot`, once the one before is written and all lines of metrics are."""
        self.wait()
        try:
            metrics.flush()
        except OSError as error:  # a checkpoint says that the metrics up to its step are there
            self._error = _of_disk(error)
            return
        # A daemon: a second Ctrl-C ends the process without waiting for a disk, and a file is whole or not there.
        self._writer = threading.Thread(target=self._write, args=(state, dict(metrics.valid_losses)), daemon=True)
        self._writer.start()

    def wait(self) -> None:
        """Wait until all is on disk. Raises: SaveError where the config says stop."""
        error = self._joined()
        if error is not None:
            self._tell(error)

    def finish(self) -> None:
        """Wait until all is on disk. Raises: SaveError where the last one is not."""
        error = self._joined()
        if error is not None:
            raise error

    def _tell(self, error: SaveError) -> None:
        if self.config.on_disk_error == "stop":
            raise error
        warnings.warn(f"{error}; the run goes on without it", CheckpointWarning, stacklevel=3)

    def _joined(self) -> SaveError | None:
        if self._writer is not None:
            self._writer.join()
        error, self._writer, self._error = self._error, None, None
        return error

    def _write(self, state: Mapping[str, Any], losses: dict[int, float]) -> None:
        path = self.run.checkpoint(int(state["iteration"]))
        try:
            # Lines up to this step are never written again: they must be on disk before the checkpoint is.
            sync(self.run.metrics)
            write_checkpoint(state, path)
            kept = prune(self.run, last=self.config.keep_checkpoints, best=self.config.keep_best, losses=losses)
            if path not in kept:
                raise SaveError(f"save_checkpoint: {path} was read back and is not what was written")
        except SaveError as error:
            self._error = error
        except OSError as error:
            self._error = _of_disk(error)


@contextmanager
def saving(run: RunFolder, config: TrainConfig) -> Iterator[Saver]:
    """A `Saver` for a run that nobody else trains in while the body runs; what killed writers left is swept away.

    An exception waits for what is being written, and so does the end; Ctrl-C waits for nothing.

    Raises: ConfigError where another trains in the folder; SaveError where the last checkpoint is not on disk.
    """
    with run.held():
        for folder in (run.path, run.checkpoints):
            sweep(folder)
        saver = Saver(run, config)
        try:
            yield saver
        except Exception:
            with suppress(SaveError):
                saver.finish()
            raise
        saver.finish()


def _of_disk(error: OSError) -> SaveError:
    return SaveError(f"train: {error.filename} cannot be written: {error.strerror or error}")
