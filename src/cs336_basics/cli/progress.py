"""A progress bar where someone watches, and words for numbers."""

import shlex
import sys
from typing import NoReturn, TextIO

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


def say_next(*words: object, to: TextIO | None = None) -> None:
    """The command to run next, quoted for a shell, on standard output or on `to`."""
    print("Next:", shlex.join(["cs336", *map(str, words)]), flush=True, file=to)


def size(n_bytes: float) -> str:
    """Bytes of a file in words, in powers of 1000 as disks are sold.

    >>> size(2_217_696)
    '2.2 MB'
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.1f} {unit}"
    return f"{n_bytes:.0f} bytes"


def memory(n_bytes: float) -> str:
    """Bytes of memory in words, in powers of 1024 as memory is built.

    >>> memory(6 * 2**30), memory(2_217_696)
    ('6.0 GiB', '2.1 MiB')
    """
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if n_bytes >= factor:
            return f"{n_bytes / factor:.1f} {unit}"
    return f"{n_bytes:.0f} bytes"
