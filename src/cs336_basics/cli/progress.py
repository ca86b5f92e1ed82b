"""A progress bar where someone watches, and words for numbers."""

import sys
from typing import NoReturn

from tqdm import tqdm


def bar(total: int, *, unit: str, label: str) -> "tqdm[NoReturn]":
    """A tqdm bar on standard error; silent where that is no terminal."""
    scale = unit == "B"
    return tqdm(
        total=total,
        unit=unit,
        unit_scale=scale,
        unit_divisor=1000,
        desc=label,
        disable=not sys.stderr.isatty(),
        leave=False,
        file=sys.stderr,
    )


def say(text: str = "") -> None:
    """A line on standard output, at once even where that is a file."""
    print(text, flush=True)


def size(n_bytes: float) -> str:
    """Bytes in words.

    >>> size(2_217_696)
    '2.2 MB'
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.1f} {unit}"
    return f"{n_bytes:.0f} bytes"
