"""Reading a text file block by block, so that memory does not follow its size."""

import codecs
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Final

from cs336_basics.tokenizer.errors import TokenizerError

Advance = Callable[[int], object]
"""Told of every step of long work: bytes read, or merges found."""

_BLOCK_BYTES: Final = 1 << 20


def text_size(path: str | os.PathLike[str], *, where: str = "text_size: path") -> int:
    """The size of a text file in bytes; `where` opens the message of an error.

    Raises: TokenizerError if it is missing or empty.
    """
    try:
        size = Path(path).stat().st_size
    except OSError as error:
        raise unreadable(where, path, error) from None
    if size == 0:
        raise TokenizerError(f"{where} must hold text, {path} is empty")
    return size


def read_text(
    path: str | os.PathLike[str],
    *,
    start: int = 0,
    end: int | None = None,
    advance: Advance | None = None,
    where: str = "read_text: path",
) -> Iterator[str]:
    """The text of a UTF-8 file from byte `start` to byte `end`, in blocks, as `encode_iterable` takes it.

    Line ends stay as they are. `advance` is told the bytes of each block; `where` opens the message of an error.

    Raises: TokenizerError if the file cannot be read, ends before `end` or is not UTF-8, with the offset, when that
        block is reached.
    """
    blocks = read_bytes(path, start=start, end=end, advance=advance, where=where)
    yield from as_text(blocks, start=start, path=path, where=where)


def read_bytes(
    path: str | os.PathLike[str],
    *,
    start: int = 0,
    end: int | None = None,
    advance: Advance | None = None,
    where: str = "read_bytes: path",
) -> Iterator[bytes]:
    """The bytes of a file from `start` to `end`, in blocks; the rest is as in `read_text`."""
    try:
        file = Path(path).open("rb")  # noqa: SIM115  # closed below; only opening may fail here
    except OSError as error:
        raise unreadable(where, path, error) from None
    with file:
        position = file.seek(start)
        while block := file.read(_BLOCK_BYTES if end is None else min(_BLOCK_BYTES, end - position)):
            yield block
            position += len(block)
            if advance:
                advance(len(block))
    if end is not None and position < end:
        raise shrunk(where, path)


def as_text(blocks: Iterable[bytes], *, start: int, path: str | os.PathLike[str], where: str) -> Iterator[str]:
    """The text of the blocks of a UTF-8 file, cut anywhere, the first of which begins at byte `start`.

    Raises: TokenizerError if they are not UTF-8, with the offset, when that block is reached.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    position = start
    for block, is_end in chain(zip(blocks, repeat(False)), [(b"", True)]):
        begun = len(decoder.getstate()[0])  # bytes of a character that the last block cut in two
        try:
            yield decoder.decode(block, is_end)
        except UnicodeDecodeError as error:
            raise not_utf8(where, path, position - begun + error.start, error.reason) from None
        position += len(block)


def not_utf8(where: str, path: str | os.PathLike[str], offset: int, reason: str) -> TokenizerError:
    """The error for a file that is not UTF-8."""
    return TokenizerError(
        f"{where} must be UTF-8 text, {path} is not at byte offset {offset} ({reason}); convert the file to UTF-8"
    )


def unreadable(where: str, path: str | os.PathLike[str], error: OSError) -> TokenizerError:
    """The error for a file that the system will not give."""
    return TokenizerError(f"{where} must be a file to read, got {path} ({error.strerror})")


def shrunk(where: str, path: str | os.PathLike[str]) -> TokenizerError:
    """The error for a file that has become shorter since its size was asked for."""
    return TokenizerError(f"{where} must not change while it is read, {path} has become shorter")
