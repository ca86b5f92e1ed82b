"""Where metrics go: a protocol, and the built-in one, a line of JSON for each record."""

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from cs336_basics.files import write_text


class Tracker(Protocol):
    """Takes the metrics of a step; wrap wandb, TensorBoard or a list in three lines."""

    def log(self, step: int, metrics: dict[str, float]) -> None: ...


class JsonlTracker:
    """Appends `{"step": ..., ...}` lines to a file, each written whole; a non-finite number becomes null.

    Starting at 0 begins a new file. Starting later goes on with an old one: the lines of later steps are
    dropped, as a resumed run writes them again, and `last` holds the newest value of each metric before.
    """

    def __init__(self, path: str | os.PathLike[str], *, start_step: int = 0) -> None:
        self.path = Path(path)
        old = read_metrics(self.path) if start_step > 0 and self.path.exists() else ()
        kept = [line for line in old if line["step"] <= start_step]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
        self.last: dict[str, float] = {}
        for line in kept:
            self.last.update((name, value) for name, value in line.items() if name != "step" and value is not None)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **finite}) + "\n")


def read_metrics(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """The records of a metrics file, in order; a last line cut short by a kill is left out."""
    with Path(path).open(encoding="utf-8") as file:
        for line in file:
            if not line.endswith("\n"):
                return
            yield json.loads(line)
