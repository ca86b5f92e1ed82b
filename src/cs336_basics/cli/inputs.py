"""What every command owes to the files it is given: to leave them as they are. And to ask before it works for a file of
its own whether there can be one."""

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from cs336_basics.config import ConfigError


def require_apart(out: str | Path, writes: Iterable[Path], reads: Mapping[str, Path]) -> None:
    """Refuse an `out` for which a command would write over a file that it reads; `reads` says what each is.

    Links are followed: a file has one content, whatever names it goes by.

    Raises: ConfigError naming both.
    """
    for path in writes:
        for what, read in reads.items():
            if is_same(path, read):
                for_this = "" if str(path) == str(out) else f", for which {path} is written"
                raise ConfigError(
                    f"out must not write over what is read, got {out}{for_this}; {read} is {what}, name another"
                )


def require_writable(out: str | Path, folder: str | Path) -> None:
    """Refuse an `out` for which nothing can be written in `folder`, before the work whose fruit it is to take.

    Asked by writing there, or where there is no such folder in the next one above.

    Raises: ConfigError naming it, and why.
    """
    place = Path(folder).absolute()
    try:
        while not place.exists():
            place = place.parent
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise ConfigError(f"out: {out} cannot be written ({error.strerror}); choose another place") from None


def is_same(first: str | Path, second: str | Path) -> bool:
    """Whether both are there and one file."""
    try:
        return Path(first).samefile(second)
    except OSError:
        return False
