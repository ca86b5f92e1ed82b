"""Token files: ids as little-endian integers, and a JSON sidecar that says what they are.

`corpus.bin` holds nothing but the ids, uint16 where every id of the vocabulary fits and uint32 elsewhere, so
any tool can map it. `corpus.bin.json` beside it holds the fields of `TokenFileInfo`, and a sha256 of those
fields themselves.
"""

import hashlib
import mmap
import os
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

import numpy as np

from cs336_basics.contracts import describe
from cs336_basics.data.errors import DataError
from cs336_basics.data.sidecar import DTYPES, REWRITE, TokenFileInfo, check_vocabulary, read_info, sidecar_path, to_json
from cs336_basics.files import whole_files

__all__ = [
    "IdArray",
    "TokenArray",
    "TokenFileInfo",
    "in_chunks",
    "open_tokens",
    "read_info",
    "sidecar_path",
    "write_tokens",
]

IdArray: TypeAlias = np.ndarray[Any, np.dtype[np.integer[Any]]]
TokenArray: TypeAlias = np.memmap[Any, np.dtype[np.unsignedinteger[Any]]]

_BLOCK: Final = 1 << 20  # ids, or bytes, in memory at a time


def write_tokens(
    path: str | os.PathLike[str],
    chunks: Iterable[IdArray | Sequence[int]],
    *,
    vocab_size: int,
    tokenizer_hash: str,
) -> TokenFileInfo:
    """Write chunks of ids, one after another, as a token file and its sidecar; memory stays constant.

    For single ids, such as a tokenizer's `encode_iterable` gives, pass `in_chunks(ids)`. Both files take
    their places at the end, the sidecar last; whatever is raised before that, by `chunks` too, leaves older
    files as they were and nothing else. A crash between the renames leaves a file without a sidecar, which
    `open_tokens` refuses.

    Units: count in tokens.
    Raises: DataError on an id outside 0 to vocab_size - 1 (naming it and its position), on a chunk that
        is not one row of integers, on no ids at all, and on a path whose folder is missing.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     info = write_tokens(f"{folder}/a.bin", [[3, 1], [4]], vocab_size=5, tokenizer_hash="demo")
    ...     ids = open_tokens(f"{folder}/a.bin").tolist()
    >>> info.dtype, info.count, ids
    ('uint16', 3, [3, 1, 4])
    """
    data, sidecar = Path(path), sidecar_path(path)
    _check_target(data, vocab_size, tokenizer_hash)
    dtype = "uint16" if vocab_size <= 1 << 16 else "uint32"
    with whole_files(data, sidecar) as (ids, description):
        count, digest = _stream(ids, chunks, vocab_size, DTYPES[dtype])
        if count == 0:
            raise DataError(f"write_tokens: chunks must hold at least one id for {data}, got none; is the text empty?")
        info = TokenFileInfo(
            dtype=dtype, count=count, vocab_size=vocab_size, tokenizer_hash=tokenizer_hash, sha256=digest
        )
        description.write(to_json(info))
    return info


def _check_target(data: Path, vocab_size: int, tokenizer_hash: str) -> None:
    try:
        check_vocabulary(vocab_size, tokenizer_hash)
    except DataError as error:
        raise DataError(f"write_tokens: {error}") from None
    if not data.parent.is_dir():
        raise DataError(f"write_tokens: path must lie in a folder that exists, got {data}; create {data.parent}")
    for file in (data, sidecar_path(data)):
        if file.is_dir():
            raise DataError(f"write_tokens: path must name a file, got {data}, but {file} is a folder; choose another")


def _stream(
    file: BinaryIO, chunks: Iterable[IdArray | Sequence[int]], vocab_size: int, dtype: np.dtype[Any]
) -> tuple[int, str]:
    """Write every chunk and return how many ids there were and the sha256 of their bytes."""
    digest = hashlib.sha256()
    count = 0
    for chunk in chunks:
        if not _is_row(chunk):
            raise DataError(
                f"write_tokens: chunks must hold 1-d arrays or sequences of ids, got {describe(chunk)} after {count} "
                "ids; for single ids pass in_chunks(ids), for one array [array]"
            )
        # Cut, so that a chunk as large as the corpus (a memory map) is never copied whole.
        for start in range(0, len(chunk), _BLOCK):
            ids = _checked(chunk[start : start + _BLOCK], vocab_size, count).astype(dtype)
            file.write(ids.data)
            digest.update(ids.data)
            count += ids.size
    return count, digest.hexdigest()


def _is_row(chunk: object) -> bool:
    if isinstance(chunk, np.ndarray):
        return chunk.ndim == 1
    return isinstance(chunk, Sequence) and not isinstance(chunk, (str, bytes))


def _checked(block: IdArray | Sequence[int], vocab_size: int, position: int) -> IdArray:
    try:
        ids = np.asarray(block)
        if ids.ndim == 1 and ids.dtype.kind in "iu" and ids.min() >= 0 and ids.max() < vocab_size:
            return ids
    except ValueError:  # rows of unequal lengths: the search below finds the first
        ids = np.empty(0, np.uint32)
    for index, value in enumerate(block):
        plain = value.item() if isinstance(value, np.generic) else value
        if type(plain) is not int or not 0 <= plain < vocab_size:
            raise DataError(
                f"write_tokens: ids must be integers of 0 to {vocab_size - 1}, got {reprlib.repr(plain)} at position "
                f"{position + index}; does vocab_size belong to the tokenizer that made them?"
            )
    return ids.astype(np.uint32)  # right ids in an array of objects


def in_chunks(ids: Iterable[int], *, size: int = 1 << 16) -> Iterator[list[int]]:
    """Gather single ids into lists of `size`, lazily; the last list may be shorter.

    Raises: DataError if size < 1.

    >>> list(in_chunks(range(5), size=2))
    [[0, 1], [2, 3], [4]]
    """
    if size < 1:
        raise DataError(f"in_chunks: size must be 1 or more, got {size}")
    source = iter(ids)
    while chunk := list(islice(source, size)):
        yield chunk


def open_tokens(path: str | os.PathLike[str], *, verify: bool = True) -> TokenArray:
    """Map a token file into memory, read-only: a page is read from disk when an id on it is asked for.

    `verify` streams through the file once to compare its sha256 and its largest id with the sidecar;
    without it only the sidecar and the size are checked, and opening takes no time whatever the size.
    The system is told that reads will be random: on a file not yet in its cache, a batch then reads the
    pages of its windows and no more, at the price of slow reading from end to end.

    Raises: DataError naming the file, the field and the mend, whatever is wrong with either file.
    """
    data = Path(path)
    try:
        file = data.open("rb")
    except FileNotFoundError:
        raise DataError(f"open_tokens: {data} is missing; {REWRITE}") from None
    except OSError as error:
        raise DataError(f"open_tokens: {data} cannot be read ({error.strerror}); {REWRITE}") from None
    with file:
        info = read_info(data)
        dtype = DTYPES[info.dtype]
        size, expected = os.fstat(file.fileno()).st_size, info.count * dtype.itemsize
        if size != expected:
            raise DataError(
                f"open_tokens: {data} must be {expected} bytes for count {info.count} of dtype {info.dtype}, "
                f"got {size}; it was cut short or changed: {REWRITE}"
            )
        if verify:
            _verify(file, data, info)
        tokens = np.memmap(file, dtype=dtype, mode="r", shape=(info.count,))
    memory: object = tokens.base
    if isinstance(memory, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
        # Else the system reads megabytes around every window of a batch, and soon the whole file.
        memory.madvise(mmap.MADV_RANDOM)
    return tokens


def _verify(file: BinaryIO, data: Path, info: TokenFileInfo) -> None:
    digest, largest = hashlib.sha256(), 0
    while block := file.read(_BLOCK):
        digest.update(block)
        largest = max(largest, int(np.frombuffer(block, DTYPES[info.dtype]).max()))
    if digest.hexdigest() != info.sha256:
        raise DataError(
            f"open_tokens: sha256 of {data} must be {info.sha256}, got {digest.hexdigest()}; it was changed: {REWRITE}"
        )
    if largest >= info.vocab_size:
        raise DataError(
            f"open_tokens: ids in {data} must be below vocab_size {info.vocab_size}, got {largest}; {REWRITE}"
        )
