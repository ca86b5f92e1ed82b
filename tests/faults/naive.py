"""Writers as they are often written, each wrong in one way: what the tests of the faults must find fault with."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from cs336_basics import files as room
from cs336_basics.train.run import RunFolder
from tests.faults.disk import Disk

files: Any = room  # whose `os` is what is exchanged


def write_all(path: Path, content: bytes, *, synced: bool) -> None:
    flags = files.os.O_WRONLY | files.os.O_CREAT | files.os.O_TRUNC
    descriptor = files.os.open(path, flags, 0o666)
    for at in range(0, len(content), files._BUFFER_BYTES):
        files.os.write(descriptor, content[at : at + files._BUFFER_BYTES])
    if synced:
        files.os.fsync(descriptor)
    files.os.close(descriptor)


def in_place(path: Path, content: bytes) -> None:
    """Over the old file: what stood there is gone before the new is there."""
    write_all(path, content, synced=True)


def unsynced(path: Path, content: bytes) -> None:
    """Renamed before it is on disk: after a power cut the new name may have nothing under it."""
    temporary = path.with_name(path.name + ".tmp")
    write_all(temporary, content, synced=False)
    files.os.replace(temporary, path)


def removed_first(path: Path, content: bytes) -> None:
    """As on systems where a rename does not replace: for a moment there is neither."""
    temporary = path.with_name(path.name + ".tmp")
    write_all(temporary, content, synced=True)
    if path.exists():
        files.os.unlink(path)
    files.os.replace(temporary, path)


WRITERS: dict[str, Callable[[Path, bytes], None]] = {
    writer.__name__: writer for writer in (in_place, unsynced, removed_first)
}


class NaiveSaver:
    """Stands for `train.saver.Saver`: one checkpoint, written over the one before, without a seal."""

    def __init__(self, run: RunFolder, *_: object) -> None:
        self.run = run

    def attempt(self, write: Callable[[], object]) -> None:
        write()

    def save(self, state: Mapping[str, Any], metrics: object) -> None:  # noqa: ARG002  # as the loop calls it
        in_place(self.run.checkpoint(0), plain(state))

    def wait(self) -> None: ...

    def finish(self) -> None: ...


def plain(state: Mapping[str, Any]) -> bytes:
    """What torch.save writes of a state, as version 1 did."""
    import io

    buffer = io.BytesIO()
    torch.save({key: value for key, value in state.items() if key != "about"}, buffer)
    return buffer.getvalue()


@contextmanager
def put_in(disk: Disk) -> Iterator[Disk]:
    """Let the library's files lie on this disk while the body runs."""
    before = files.os
    files.os = disk
    try:
        yield disk
    finally:
        files.os = before
