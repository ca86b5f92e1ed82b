"""Token files: what is written is what is read, in constant memory."""

import hashlib
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.data import token_file
from cs336_basics.data.errors import DataError
from cs336_basics.data.sidecar import to_json
from cs336_basics.data.token_file import (
    TokenFileInfo,
    in_chunks,
    open_tokens,
    read_info,
    sidecar_path,
    write_tokens,
)

HASH = "demo-tokenizer"


def write(path: Path, *chunks: Any, vocab_size: int = 1000) -> TokenFileInfo:
    return write_tokens(path, chunks, vocab_size=vocab_size, tokenizer_hash=HASH)


# What is written is what is read


@given(
    chunks=st.lists(st.lists(st.integers(0, 299), max_size=20), min_size=1).filter(any),
    kinds=st.lists(st.sampled_from(["list", "tuple", "uint16", "int32", "int64", ">u2", "object"]), min_size=1),
    vocab_size=st.sampled_from([300, 1 << 16, (1 << 16) + 1, 1 << 32]),
)
@settings(deadline=None, max_examples=50)
def test_the_file_is_the_ids_one_after_another(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[list[int]], kinds: list[str], vocab_size: int
) -> None:
    path = tmp_path_factory.mktemp("tokens") / "a.bin"
    given_chunks = [as_kind(chunk, kinds[i % len(kinds)]) for i, chunk in enumerate(chunks)]
    info = write(path, *given_chunks, vocab_size=vocab_size)
    ids = list(chain.from_iterable(chunks))
    width = 2 if vocab_size <= 1 << 16 else 4
    raw = b"".join(value.to_bytes(width, "little") for value in ids)
    assert path.read_bytes() == raw
    assert info == TokenFileInfo(
        dtype=f"uint{8 * width}",
        count=len(ids),
        vocab_size=vocab_size,
        tokenizer_hash=HASH,
        sha256=hashlib.sha256(raw).hexdigest(),
    )
    assert read_info(path) == info
    for verify in (True, False):
        opened = open_tokens(path, verify=verify)
        assert opened.tolist() == ids
        assert opened.dtype == np.dtype(f"<u{width}")


def as_kind(ids: list[int], kind: str) -> np.ndarray | Sequence[int]:
    if kind == "list":
        return ids
    return tuple(ids) if kind == "tuple" else np.array(ids, dtype=kind)


def test_the_largest_id_of_each_width(tmp_path: Path) -> None:
    write(tmp_path / "a.bin", [65535], vocab_size=1 << 16)
    write(tmp_path / "b.bin", [4294967295], vocab_size=1 << 32)
    assert open_tokens(tmp_path / "a.bin").tolist() == [65535]
    assert open_tokens(tmp_path / "b.bin").tolist() == [4294967295]


@pytest.mark.parametrize("block", [1, 3, 4, 100])
def test_large_chunks_are_cut_and_small_ones_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(token_file, "_BLOCK", 4 * block)
    ids = np.arange(97)
    write(tmp_path / "a.bin", ids[:50], [], ids[50:51], ids[51:])
    assert open_tokens(tmp_path / "a.bin").tolist() == ids.tolist()
    with pytest.raises(DataError, match="got -7 at position 60;"):
        write(tmp_path / "b.bin", ids[:50], [*range(10), -7])


@given(st.lists(st.integers()), st.integers(1, 12))
def test_in_chunks_loses_nothing(ids: list[int], size: int) -> None:
    chunks = list(in_chunks(iter(ids), size=size))
    assert list(chain.from_iterable(chunks)) == ids
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert all(chunks)


def test_in_chunks_is_lazy() -> None:
    source = iter(range(100))
    assert next(in_chunks(source, size=3)) == [0, 1, 2]
    assert next(source) == 3
    with pytest.raises(DataError, match="in_chunks: size must be 1 or more, got 0"):
        next(in_chunks([1], size=0))


def test_a_token_file_can_be_written_from_itself(tmp_path: Path) -> None:
    write(tmp_path / "a.bin", [1, 2, 3])
    old = open_tokens(tmp_path / "a.bin")
    write(tmp_path / "a.bin", old, old)
    assert open_tokens(tmp_path / "a.bin").tolist() == [1, 2, 3, 1, 2, 3]
    assert old.tolist() == [1, 2, 3]


def test_an_opened_file_cannot_be_written_to(tmp_path: Path) -> None:
    write(tmp_path / "a.bin", [1, 2, 3])
    with pytest.raises(ValueError, match="read-only"):
        open_tokens(tmp_path / "a.bin")[0] = 5


# Memory


def test_writing_takes_constant_memory(tmp_path: Path) -> None:
    chunk = np.arange(1 << 16)
    whole = np.memmap(tmp_path / "zeros", np.int64, mode="w+", shape=(1 << 24,))  # 128 MB, one chunk
    tracemalloc.start()
    write_tokens(tmp_path / "a.bin", (chunk for _ in range(256)), vocab_size=1 << 16, tokenizer_hash=HASH)
    write(tmp_path / "b.bin", whole)
    write_tokens(tmp_path / "c.bin", in_chunks(i % 500 for i in range(1 << 20)), vocab_size=500, tokenizer_hash=HASH)
    open_tokens(tmp_path / "b.bin")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16e6


OPEN_SPARSE = """
import re, sys
from pathlib import Path
from cs336_basics.data.token_file import open_tokens
ids = open_tokens(sys.argv[1], verify=sys.argv[2] == "verify")
assert ids[-1] == 0
assert "torch" not in sys.modules
print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize(("how", "n_bytes"), [("trust", 1 << 30), ("verify", 1 << 28)])
def test_opening_a_huge_file_takes_no_memory(tmp_path: Path, how: str, n_bytes: int) -> None:
    path = tmp_path / "sparse.bin"
    path.touch()
    os.truncate(path, n_bytes)  # a hole: zeros that take no room on the disk
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest() if how == "verify" else "0" * 64
    info = TokenFileInfo(dtype="uint16", count=n_bytes // 2, vocab_size=9, tokenizer_hash=HASH, sha256=sha256)
    sidecar_path(path).write_bytes(to_json(info))
    run = subprocess.run([sys.executable, "-c", OPEN_SPARSE, path, how], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 150_000  # kB; Python with numpy alone takes about 40,000


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the advice is read from /proc")
def test_the_system_is_told_not_to_read_ahead(tmp_path: Path) -> None:
    write(tmp_path / "a.bin", range(500))
    ids = open_tokens(tmp_path / "a.bin")
    _, _, mapping = Path("/proc/self/smaps").read_text().partition(str(tmp_path / "a.bin"))
    flags = next(line for line in mapping.splitlines() if line.startswith("VmFlags:"))
    assert "rr" in flags.split()  # random reads
    assert ids[499] == 499


@given(st.data())
@settings(deadline=None, max_examples=50)
def test_a_single_wrong_bit_is_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("tokens") / "a.bin"
    write(path, range(500))
    raw = bytearray(path.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(raw)
    with pytest.raises(DataError, match="sha256"):
        open_tokens(path)


def test_the_room_imports_without_torch() -> None:
    code = (
        "import sys, cs336_basics.data, cs336_basics.data.token_file, cs336_basics.data.sampler;"
        "assert not {'torch', 'cs336_basics.train', 'cs336_basics.cli'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
