"""Files written whole or not at all: the one place that creates, syncs and renames."""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file to write, that takes its place once all of it is on disk: `whole_files` of one.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_file(f"{folder}/a") as file:
    ...         written, seen = file.write(b"abc"), list(Path(folder).glob("a"))
    ...     written, seen, Path(folder, "a").read_bytes()
    (3, [], b'abc')
    """
    with whole_files(path) as (file,):
        yield file


@contextmanager
def whole_files(*paths: str | os.PathLike[str]) -> Iterator[tuple[BinaryIO, ...]]:
    """Binary files that belong together: none takes its place before all of them are on disk.

    Each is written under a temporary name in its own folder, made anew under the umask, synced and renamed, in
    the order given; then the folders are synced. Whatever is raised until all are synced, in the body too, leaves
    older files as they were and nothing else. After that old files but the first are removed before the renames: a
    crash among them leaves later files missing, never an old one beside a new one.

    Raises: OSError for a path that is there and no plain file (a rename would replace the device or the pipe), and
        whatever the system says.
    """
    targets = [Path(path) for path in paths]
    for target in targets:
        if target.exists() and not target.is_file():
            raise OSError(errno.EINVAL, "not a plain file", str(target))
    mark = f"{os.getpid()}-{secrets.token_hex(4)}.tmp"
    temporaries = [target.with_name(f".{target.name}.{mark}") for target in targets]
    try:
        with ExitStack() as stack:
            # "x": never through a link, nor into what somebody else is writing.
            files = tuple(stack.enter_context(temporary.open("xb")) for temporary in temporaries)
            yield files
            for file in files:
                file.flush()
                os.fsync(file.fileno())
        for target in targets[1:]:
            target.unlink(missing_ok=True)
        for temporary, target in zip(temporaries, targets, strict=True):
            temporary.replace(target)
    finally:
        for temporary in temporaries:
            with suppress(OSError):
                temporary.unlink()
    for folder in dict.fromkeys(target.parent for target in targets):
        _sync_folder(folder)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a small text file whole, in UTF-8, its line ends as they are."""
    with whole_file(path) as file:
        file.write(text.encode())


def _sync_folder(folder: Path) -> None:
    """Make the renames themselves durable; some systems cannot sync a folder, and then there is nothing to do."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
