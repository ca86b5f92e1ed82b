"""Where metrics go: a protocol, and the built-in one, a line of JSON for each record."""

import json
import math
import os
import reprlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from cs336_basics.files import append, write_text
from cs336_basics.train.errors import MetricsError


class Tracker(Protocol):
    """Takes the metrics of a step; wrap wandb, TensorBoard or a list in three lines."""

    def log(self, step: int, metrics: dict[str, float]) -> None: ...


class JsonlTracker:
    """Appends `{"step": ..., ...}` lines to a file, each written whole; a non-finite number becomes null.

    Starting at 0 begins a new file. Starting later goes on with an old one: the lines of later steps are
    dropped, as a resumed run writes them again, and `last` holds the newest value of each metric before.
    `valid_losses` are those so far, by step. A line that cannot be written is an OSError, and is kept for the next
    `log` or `flush`.
    """

    def __init__(self, path: str | os.PathLike[str], *, start_step: int = 0) -> None:
        self.path = Path(path)
        old = read_metrics(self.path) if start_step > 0 and self.path.exists() else ()
        kept = [line for line in old if line["step"] <= start_step]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self.last: dict[str, float] = {}
        self.valid_losses: dict[int, float] = {}
        self._waiting = b""
        for line in kept:
            self._note(line["step"], {name: value for name, value in line.items() if name != "step"})

    def log(self, step: int, metrics: dict[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self._note(step, finite)
        self._waiting += json.dumps({"step": step, **finite}).encode() + b"\n"
        self.flush()

    def flush(self) -> None:
        """Write the lines that could not be written before, if there are any."""
        if self._waiting:
            append(self.path, self._waiting)
            self._waiting = b""

    def _note(self, step: int, metrics: dict[str, float | None]) -> None:
        self.last.update((name, value) for name, value in metrics.items() if value is not None)
        loss = metrics.get("valid_loss")
        if loss is not None:
            self.valid_losses[step] = loss


def read_metrics(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The records of a metrics file, in order; a last line without its end, cut short or being written, is left out.

    Raises: MetricsError naming the file and the line that is no JSON object of a whole step and numbers, when that
        line is reached.
    """
    with Path(path).open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):  # no JSON, no UTF-8, too many digits or brackets
                record = None
            if not _is_record(record):
                text = reprlib.repr(line.decode("utf-8", "replace").rstrip("\r\n"))
                raise MetricsError(
                    f"read_metrics: line {number} of {path} must be a JSON object of a whole step and finite numbers, "
                    f"got {text}; delete that line: the weights do not depend on it, and the run goes on without it"
                )
            yield record


def _is_record(found: object) -> bool:
    return isinstance(found, dict) and type(found.get("step")) is int and all(map(_is_number_or_null, found.values()))


def _is_number_or_null(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value is None
    return abs(value) <= sys.float_info.max
