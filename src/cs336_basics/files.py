"""Files written whole or not at all, lines appended whole or not at all, folders held by one writer.

The one place that creates, syncs, renames and locks. Everything that changes a disk is a call of a function of
`os`, under the name `os` of this module: there the tests put their faults.
"""

import errno
import io
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final, cast

_BUFFER_BYTES: Final = 1 << 16
_LOCK_PATIENCE_S: Final = 0.5  # who only looks whether a folder is free has it for milliseconds
_TEMPORARY: Final = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp")
# What a system says that cannot sync a folder, or not for us: then there is nothing to do.
_UNSYNCABLE: Final = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM, errno.EBADF, errno.EISDIR}
_PLAIN: Final = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)  # the first is Windows', the second is not


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
    the order given, each rename followed by a sync of its folder. Whatever is raised until all are synced, in the
    body too, leaves older files as they were and nothing else. After that old files but the first are removed before
    the renames: a crash or a power cut among them leaves later files missing, never an old one beside a new one.

    Raises: OSError for a path that is there and no plain file (a rename would replace the device or the pipe), and
        whatever the system says, with the path.
    """
    targets = [Path(path) for path in paths]
    for target in targets:
        if target.exists() and not target.is_file():
            raise OSError(errno.EINVAL, "not a plain file", str(target))
    mark = f"{os.getpid()}-{secrets.token_hex(4)}.tmp"
    temporaries = [target.with_name(f".{target.name}.{mark}") for target in targets]
    try:
        with ExitStack() as stack:
            files = tuple(stack.enter_context(_writing(*pair)) for pair in zip(temporaries, targets, strict=True))
            yield files
            for file, target in zip(files, targets, strict=True):
                file.flush()
                with _naming(target):
                    os.fsync(file.fileno())
        stale = [target for target in targets[1:] if target.exists()]
        for target in stale:
            remove(target)
        # A disk may keep a later change of names and lose an earlier one, unless the folder is synced between them.
        for folder in dict.fromkeys(target.parent for target in stale):
            sync_folder(folder)
        for temporary, target in zip(temporaries, targets, strict=True):
            with _naming(target):
                os.replace(temporary, target)
            sync_folder(target.parent)
    except BaseException:
        for temporary in temporaries:
            with suppress(OSError):
                os.unlink(temporary)
        raise


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a small text file whole, in UTF-8, its line ends as they are."""
    with whole_file(path) as file:
        file.write(text.encode())


def append(path: str | os.PathLike[str], content: bytes) -> None:
    """Add content to a file's end in one call, or leave the file as it was; nothing is synced (`sync`).

    Raises: OSError with the path; also where the path is a link.
    """
    with _naming(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _PLAIN, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            try:
                if os.write(descriptor, content) < len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except BaseException:
                with suppress(OSError):
                    os.ftruncate(descriptor, size)
                raise
        finally:
            _close(descriptor)


def sync(path: str | os.PathLike[str]) -> None:
    """Wait until what was appended to a file is on disk; nothing where there is no file."""
    with suppress(FileNotFoundError), _naming(path):
        descriptor = os.open(path, os.O_WRONLY | _PLAIN)
        try:
            os.fsync(descriptor)
        finally:
            _close(descriptor)


def remove(path: str | os.PathLike[str]) -> None:
    """Remove a file, if it is there."""
    with suppress(FileNotFoundError), _naming(path):
        os.unlink(path)


def sweep(folder: Path) -> None:
    """Remove the temporaries that killed writers left; the caller knows that nobody writes there now (`held`)."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if _TEMPORARY.fullmatch(path.name):
            remove(path)


@contextmanager
def held(path: str | os.PathLike[str]) -> Iterator[None]:
    """Hold a lock file while the body runs; whoever ends, however it ends, holds nothing any more.

    Where the system or the file system knows no such locks (`flock`), nothing is held.

    Raises: BlockingIOError where another holds it, in this process or another, with who that is.
    """
    with _naming(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | _PLAIN, 0o666)
    try:
        _lock(descriptor, path)
        with suppress(OSError):  # a full disk does not hinder the lock, only its words
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        try:
            yield
        finally:
            with suppress(OSError):
                os.ftruncate(descriptor, 0)
    finally:
        _close(descriptor)


def _lock(descriptor: int, path: str | os.PathLike[str]) -> None:
    try:
        import fcntl
    except ImportError:  # as on Windows
        return
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            holder = os.read(descriptor, 200).decode("utf-8", "replace").strip()
            raise BlockingIOError(errno.EWOULDBLOCK, holder or "another process", str(path)) from None
        except OSError:  # a file system without locks
            return
        return


def sync_folder(folder: Path) -> None:
    """Make the renames themselves durable, where the system can sync a folder.

    Raises: OSError where it can and fails, as on a dying disk.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        with _naming(folder):
            os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSYNCABLE:
            raise
    finally:
        _close(descriptor)


class _Disk(io.RawIOBase):
    """A file being written, through `os`; once abandoned it swallows what is still in a buffer above it."""

    def __init__(self, descriptor: int, target: Path) -> None:
        self.descriptor, self.target, self.abandoned = descriptor, target, False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.descriptor

    def write(self, content: object) -> int:
        data = memoryview(cast("bytes", content))
        if self.abandoned:
            return data.nbytes
        with _naming(self.target):
            return os.write(self.descriptor, data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            _close(self.descriptor)


@contextmanager
def _writing(temporary: Path, target: Path) -> Iterator[BinaryIO]:
    with _naming(target):
        # Never through a link, nor into what somebody else is writing.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAIN, 0o666)
    disk = _Disk(descriptor, target)
    with io.BufferedWriter(disk, _BUFFER_BYTES) as file:
        try:
            yield cast("BinaryIO", file)
        except BaseException:
            disk.abandoned = True
            raise


def _close(descriptor: int) -> None:
    """Close, whatever the system says: what was synced is on disk, and what was not `sync` will ask for again."""
    with suppress(OSError):
        os.close(descriptor)


@contextmanager
def _naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Put the path that the caller asked for into the system's errors, which know a descriptor or a temporary."""
    try:
        yield
    except OSError as error:
        raise type(error)(error.errno, error.strerror, os.fspath(path)) from None
