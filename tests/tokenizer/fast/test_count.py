"""The fast count is the readable count: for any text, special tokens, blocks, shards and workers, and its refusals."""

import multiprocessing
import pickle
import random
import re
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cs336_basics.tokenizer import TokenizerError
from cs336_basics.tokenizer import count as readable
from cs336_basics.tokenizer import shards as shards_room
from cs336_basics.tokenizer.fast import count as fast
from cs336_basics.tokenizer.fast.count import count_file, count_shard, count_shards, total_counts
from cs336_basics.tokenizer.pretokenize import Pretokenizer
from cs336_basics.tokenizer.shards import Shard, find_shards

END = "<|endoftext|>"

Refused = Callable[..., None]

# Parts of special tokens often enough that some come whole, and pre-tokens around 8 and 16 bytes.
hostile_text = st.lists(
    st.sampled_from(
        [
            *"'lsdmtrve  \n\t\u00a0\u3000aaé漢1²!<|>\u0301👍\0",
            "<|a|>",
            "<|a|><|a|>",
            "<|a",
            "aa",
            "\n\n",
            "'ll",
            "x" * 7,
        ]
    ),
    max_size=60,
).map("".join)
hostile_specials = st.lists(
    st.sampled_from(["<|", "<|a|>", "<|a|><|a|>", "|>", "a", "aa", "aaa", " ", "\n\n", " '", "'l", "'ll", "漢", "👍"]),
    unique=True,
    max_size=5,
)


def counts_of(text: str, specials: Sequence[str]) -> Counter[bytes]:
    return Counter(token.encode() for token in Pretokenizer(specials).split(text) if token not in specials)


@pytest.fixture
def in_blocks(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Read files in blocks of so many bytes."""

    def set_block(n_bytes: int) -> None:
        monkeypatch.setattr(fast, "_BLOCK_BYTES", n_bytes)
        monkeypatch.setattr("cs336_basics.tokenizer.text._BLOCK_BYTES", n_bytes)

    return set_block


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("count") / "text.txt"


@given(hostile_text, hostile_specials, st.integers(1, 40), st.integers(1, 5))
@example("ab<|a|", ["<|a|>"], 6, 1)
@settings(deadline=None, max_examples=600)
def test_counts_depend_on_nothing_but_the_text(
    path: Path, text: str, specials: list[str], block: int, n_shards: int
) -> None:
    path.write_bytes(b"x" + text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast, "_BLOCK_BYTES", block)
        steps: list[int] = []
        shards = find_shards(path, n_shards, specials)
        counts = total_counts([count_shard(shard, specials, advance=steps.append) for shard in shards])
    assert counts.counter() == counts_of("x" + text, specials)
    assert sum(steps) == path.stat().st_size


def test_every_short_text_byte_by_byte(path: Path, in_blocks: Callable[[int], None]) -> None:
    """Each byte on its own is the harshest block: nothing of what is to come is known."""
    in_blocks(1)
    for text in {"".join(random.Random(seed).choices("'lé sa\n!1", k=6)) for seed in range(1_500)}:
        path.write_bytes(text.encode())
        assert count_file(path, ["sa", "é "]).counter() == counts_of(text, ["sa", "é "])


@pytest.mark.parametrize("name", ["technical.txt", "multilingual.txt"])
def test_real_text(name: str, shared_data: Path) -> None:
    text = (shared_data / name).read_bytes().decode()
    counts = counts_of(text, [END])
    assert count_file(shared_data / name, [END]).counter() == counts
    steps: list[int] = []
    assert count_file(shared_data / name, [END], n_workers=3, advance=steps.append).counter() == counts
    assert sum(steps) == (shared_data / name).stat().st_size


def test_counts_do_not_depend_on_the_executor(prose: str, path: Path) -> None:
    path.write_bytes(prose.encode())
    shards = find_shards(path, 5, [END])
    steps: list[int] = []
    with ThreadPoolExecutor(2) as threads:
        by_threads = count_shards(shards, [END], threads, advance=steps.append)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as processes:
        by_process = count_shards(shards, [END], processes)
    assert len(shards) == 5
    assert by_threads.counter() == by_process.counter() == counts_of(prose, [END])
    assert sum(steps) == path.stat().st_size


def test_what_travels_is_little_more_than_the_text(prose: str, path: Path) -> None:
    path.write_bytes(prose.encode())
    counts = count_file(path, [END])
    travelled = pickle.dumps(counts)
    assert pickle.loads(travelled).counter() == counts_of(prose, [END])  # noqa: S301  # our own
    assert len(travelled) < sum(len(pretoken) + 17 for pretoken in counts.counter()) + 1_000


@pytest.mark.parametrize("block", [1, 2, 5, 1 << 20])
@pytest.mark.parametrize(
    "content",
    [
        *(b"\xff", b"ab\x80", b"caf\xc3", b"abcd\xed\xa0\x80", b"\xf0\x9f\x91", b"\xe6\xbc\xa2\xe6\x28", b"\xc0\x80"),
        *(b"12345678\xf4\x90\x80\x80", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf5\x80\x80\x80 many more words"),
        *(b"\xe6\xbc", b"\xc3\xa9\xc3", b"\xe6\xbc(ab", b"\xf0\x9f\x91(ab", b"\xf0\x9f", b"a\xed\xbf\xbfb"),
    ],
)
def test_bytes_that_are_not_utf8_are_refused_as_by_the_readable_twin(
    content: bytes, block: int, path: Path, in_blocks: Callable[[int], None]
) -> None:
    in_blocks(block)
    path.write_bytes(b"fine words \xe6\xbc\xa2\n" + content)
    with pytest.raises(TokenizerError) as expected:
        readable.count_file(path, [END])
    with pytest.raises(TokenizerError, match=re.escape(str(expected.value))):
        count_file(path, [END])


def test_bad_files_are_refused_as_by_the_readable_twin(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    for bad in (tmp_path / "none.txt", tmp_path, tmp_path / "empty.txt"):
        for n_workers in (1, 2):
            with pytest.raises(TokenizerError) as expected:
                readable.count_file(bad, [END], n_workers=n_workers)
            with pytest.raises(TokenizerError, match=re.escape(str(expected.value))):
                count_file(bad, [END], n_workers=n_workers)


def test_the_first_error_in_the_file_is_told_whichever_thread_is_faster(
    path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.setattr(shards_room, "LEAST_SHARD_BYTES", 1)
    document = b"some words of a document"
    path.write_bytes(END.encode().join([document, document + b"\xff" + document * 9, b"\xff", b"\xff", document]))
    for _ in range(20):
        refused(lambda: count_file(path, [END], n_workers=3), f"byte offset {2 * len(document) + len(END)} ")


def test_an_error_of_advance_is_raised(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards_room, "LEAST_SHARD_BYTES", 1)
    path.write_bytes(f"some words of a document{END}".encode() * 100)
    with pytest.raises(ZeroDivisionError):
        count_file(path, [END], n_workers=2, advance=lambda n_bytes: n_bytes // 0)


def test_a_file_that_is_mended_meanwhile_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    path.write_bytes(b"caf\xc3")
    monkeypatch.setattr(fast, "read_text", lambda *_, **__: iter(["café"]))
    refused(lambda: count_file(path, [END]), "must not change while it is read", str(path))


def test_memory_does_not_follow_the_file(prose: str, path: Path) -> None:
    peaks = []
    for n_copies in (8, 8, 80):
        path.write_bytes((prose + END).encode() * n_copies)
        tracemalloc.start()
        count_file(path, [END])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 200_000 < 5_000_000


def test_a_dead_worker_is_one_clear_error(tmp_path: Path) -> None:
    class Broken(ThreadPoolExecutor):
        def submit(self, *_: Any, **__: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_exception(BrokenProcessPool("gone"))
            return future

    with Broken() as executor, pytest.raises(TokenizerError, match=re.escape("if __name__ == '__main__':")):
        count_shards([Shard(tmp_path, 0, 1)], [], executor)


@pytest.mark.parametrize(
    "text",
    [
        "a" * 1_000_000,
        " " * 1_000_000,
        "\n" * 1_000_000 + "a",
        "<" * 1_000_000,
        "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz", k=1_000_000)),
        "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz ", k=1_000_000)),
        "".join(map(chr, random.Random(1).choices(range(0x4E00, 0x9FFF), k=333_333))),
        "a" + "\u0301" * 500_000,
    ],
    ids=["letter", "blanks", "newlines", "beginnings of specials", "letters", "words", "ideographs", "marks"],
)
@pytest.mark.parametrize("block", [1 << 10, 1 << 20])
def test_one_megabyte_of_anything_takes_no_time(
    text: str, block: int, path: Path, in_blocks: Callable[[int], None]
) -> None:
    path.write_bytes(b"warm")
    count_file(path, [END])
    path.write_bytes(text.encode())
    in_blocks(block)
    start = time.process_time()
    counts = count_file(path, [END])
    assert time.process_time() - start < 0.5
    assert counts.counter() == counts_of(text, [END])
