"""Token files: no fault leaves anything half-written, and every fault is named with its mend."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cs336_basics.data.errors import DataError
from cs336_basics.data.sidecar import to_json
from cs336_basics.data.token_file import TokenFileInfo, open_tokens, read_info, sidecar_path, write_tokens

HASH = "demo-tokenizer"


def write(path: Path, *chunks: Any, vocab_size: int = 1000) -> TokenFileInfo:
    return write_tokens(path, chunks, vocab_size=vocab_size, tokenizer_hash=HASH)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


# Nothing half-written


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt, SystemExit, MemoryError, DataError])
@pytest.mark.parametrize("before", [None, [7, 8, 9]])
@pytest.mark.parametrize("good_chunks", [0, 1, 5])
def test_whatever_the_chunks_raise_leaves_the_folder_as_it_was(
    tmp_path: Path, fault: type[BaseException], before: list[int] | None, good_chunks: int
) -> None:
    path = tmp_path / "a.bin"
    if before:
        write(path, before)
    state = contents(tmp_path)

    def chunks() -> Iterator[list[int]]:
        for _ in range(good_chunks):
            yield [1, 2, 3]
        raise fault("midway")

    with pytest.raises(fault, match="midway"):
        write_tokens(path, chunks(), vocab_size=10, tokenizer_hash=HASH)
    assert contents(tmp_path) == state


STEPS = ["fsync 1", "fsync 2", "unlink 1", "replace 1", "replace 2"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_fault_at_any_step_never_mixes_old_and_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, fault: BaseException
) -> None:
    path = tmp_path / "a.bin"
    write(path, [1, 2, 3])
    state = contents(tmp_path)
    name, number = step.split()
    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing(getattr(os, name), int(number), fault))
        with pytest.raises(type(fault)):
            write(path, [4, 5, 6])  # the same size, so that only the sidecar tells them apart
    if step in STEPS[:3]:
        assert contents(tmp_path) == state
    else:  # between the renames: the ids stand alone, and are refused
        assert list(contents(tmp_path)) == ["a.bin"]
        with pytest.raises(DataError, match=r"a\.bin\.json is missing"):
            open_tokens(path, verify=False)
    write(path, [4, 5, 6])
    assert open_tokens(path).tolist() == [4, 5, 6]


def failing(real: Callable[..., Any], number: int, fault: BaseException) -> Callable[..., Any]:
    """`real`, but its call `number` raises `fault`."""
    calls = iter(range(1, 100))

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == number:
            raise fault
        return real(*args, **kwargs)

    return wrapper


WRITE_FOR_EVER = """
import itertools, sys
from cs336_basics.data.token_file import write_tokens
def chunks():
    for n in itertools.count():
        if n == 100:
            print("writing", flush=True)
        yield [n % 10] * 100_000
write_tokens(sys.argv[1], chunks(), vocab_size=10, tokenizer_hash="new")
"""


def test_a_killed_writer_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write(path, [1, 2, 3])
    with subprocess.Popen([sys.executable, "-c", WRITE_FOR_EVER, path], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        writer.send_signal(signal.SIGKILL)
    assert open_tokens(path).tolist() == [1, 2, 3]
    assert read_info(path).tokenizer_hash == HASH


# Bad input to the writer

BAD_CHUNKS: list[tuple[Any, str]] = [
    ([[1, 2], [3, 1000]], r"ids must be integers of 0 to 999, got 1000 at position 3; does vocab_size belong"),
    ([[1], np.array([5, -1, 7])], "got -1 at position 2;"),
    ([np.array([5, 1000], np.uint16)], "got 1000 at position 1;"),
    ([[5, 2**70]], "got 1180591620717411303424 at position 1;"),
    ([[5, 2.5]], "got 2.5 at position 1;"),
    ([np.array([1.0, 2.0])], "got 1.0 at position 0;"),
    ([[True]], "got True at position 0;"),
    ([np.array([True])], "got True at position 0;"),
    ([[1, None]], "got None at position 1;"),
    ([["1", "2"]], "got '1' at position 0;"),
    ([[[1, 2], [3, 4]]], r"got \[1, 2\] at position 0;"),
    ([[1, [2, 3]]], r"got \[2, 3\] at position 1;"),
    ([[float("nan")]], "got nan at position 0;"),
    ([np.zeros((2, 2), np.int64)], r"1-d arrays or sequences of ids, got ndarray int64\(2, 2\) after 0 ids;"),
    ([[1, 2], np.array(3)], r"got ndarray int64\(\) after 2 ids; for single ids pass in_chunks"),
    ([1, 2, 3], r"got int 1 after 0 ids; for single ids pass in_chunks\(ids\), for one array \[array\]"),
    (np.array([1, 2]), r"got int64 int64\(\) after 0 ids; for single ids pass in_chunks"),
    ("abc", "got str 'a' after 0 ids"),
    ([b"abc"], "got bytes b'abc' after 0"),
    ([], "chunks must hold at least one id for .*a.bin, got none; is the text empty"),
    ([[], np.array([], np.int64)], "must hold at least one id"),
]


@pytest.mark.parametrize(("chunks", "message"), BAD_CHUNKS)
def test_bad_chunks_are_named_and_leave_nothing(tmp_path: Path, chunks: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"^write_tokens: .*{message}"):
        write_tokens(tmp_path / "a.bin", chunks, vocab_size=1000, tokenizer_hash=HASH)
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocab_size": 0}, "vocab_size must be an integer of 1 to 4294967296, got 0"),
        ({"vocab_size": (1 << 32) + 1}, "vocab_size must be an integer of 1 to 4294967296, got 4294967297"),
        ({"vocab_size": "10"}, "vocab_size must be an integer of 1 to 4294967296, got '10'"),
        ({"vocab_size": True}, "vocab_size must be an integer of 1 to 4294967296, got True"),
        ({"tokenizer_hash": ""}, "tokenizer_hash must be a text that is not empty, got ''"),
        ({"tokenizer_hash": None}, "tokenizer_hash must be a text that is not empty, got None"),
    ],
)
def test_bad_options_are_refused_before_any_chunk_is_asked_for(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    chunks = iter([[1, 2]])
    options = {"vocab_size": 1000, "tokenizer_hash": HASH, **options}
    with pytest.raises(DataError, match=f"^write_tokens: {message}$"):
        write_tokens(tmp_path / "a.bin", chunks, **options)
    assert next(chunks) == [1, 2]
    assert contents(tmp_path) == {}


def test_bad_paths_are_refused_before_any_chunk_is_asked_for(tmp_path: Path) -> None:
    chunks = iter([[1, 2]])
    (tmp_path / "b.bin.json").mkdir()
    for path, message in [
        (tmp_path / "none" / "a.bin", "path must lie in a folder that exists, got .*; create .*none$"),
        (tmp_path, "path must name a file, got .* is a folder; choose another$"),
        (tmp_path / "b.bin", r"path must name a file, got .* b\.bin\.json is a folder; choose another$"),
    ]:
        with pytest.raises(DataError, match=f"^write_tokens: {message.replace(' b', '.*b')}"):
            write_tokens(path, chunks, vocab_size=1000, tokenizer_hash=HASH)
    assert next(chunks) == [1, 2]


# Bad files


def no_data(path: Path) -> None:
    path.unlink()


def no_sidecar(path: Path) -> None:
    sidecar_path(path).unlink()


def nothing(path: Path) -> None:
    no_data(path)
    no_sidecar(path)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def long(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0\0")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def other_ids(path: Path) -> None:
    path.write_bytes(path.read_bytes()[::-1])


def outside(path: Path) -> None:
    # What a careless foreign writer might leave: consistent, but for the vocabulary.
    info = TokenFileInfo(
        dtype="uint16",
        count=3,
        vocab_size=3,
        tokenizer_hash=HASH,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    sidecar_path(path).write_bytes(to_json(info))


BAD_FILES: list[tuple[Callable[[Path], None], bool, str]] = [
    (no_data, False, r"open_tokens: \S+a\.bin is missing; write the file again"),
    (nothing, False, r"open_tokens: \S+a\.bin is missing; write the file again"),
    (no_sidecar, False, r"read_info: \S+a\.bin\.json is missing beside \S+a\.bin; write the file again"),
    (empty, False, r"open_tokens: \S+a\.bin must be 6 bytes for count 3 of dtype uint16, got 0; it was cut short"),
    (short, False, r"open_tokens: \S+a\.bin must be 6 bytes for count 3 of dtype uint16, got 5; it was cut short"),
    (long, False, r"open_tokens: \S+a\.bin must be 6 bytes for count 3 of dtype uint16, got 8; it was cut short"),
    (folder, False, r"open_tokens: \S+a\.bin cannot be read \(Is a directory\); write the file again"),
    (other_ids, True, r"open_tokens: sha256 of \S+a\.bin must be \w{64}, got \w{64}; it was changed: write"),
    (outside, True, r"open_tokens: ids in \S+a\.bin must be below vocab_size 3, got 3; write the file again"),
]


@pytest.mark.parametrize(("spoil", "needs_verify", "message"), BAD_FILES)
def test_bad_files_are_named(tmp_path: Path, spoil: Callable[[Path], None], needs_verify: bool, message: str) -> None:
    path = tmp_path / "a.bin"
    write(path, [1, 2, 3])
    spoil(path)
    with pytest.raises(DataError, match=f"^{message}"):
        open_tokens(path)
    if needs_verify:
        assert len(open_tokens(path, verify=False)) == 3
    else:
        with pytest.raises(DataError, match=f"^{message}"):
            open_tokens(path, verify=False)
