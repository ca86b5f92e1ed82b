"""Counting a file: the same counts for any shards, any executor, any block size."""

import multiprocessing
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.tokenizer.count import count_file, count_shard, count_shards
from cs336_basics.tokenizer.pretokenize import Pretokenizer
from cs336_basics.tokenizer.shards import find_shards

END = "<|endoftext|>"

Refused = Callable[..., None]


def counts_of(text: str, specials: list[str]) -> Counter[bytes]:
    return Counter(token.encode() for token in Pretokenizer(specials).split(text) if token not in specials)


@given(
    text=st.text(alphabet="ab'l <|>é\n漢\u3000", max_size=60),
    specials=st.lists(st.sampled_from(["<|", "<|a|>", "|>", "aa", "aba", "a<", " ", "é "]), unique=True, max_size=4),
    n_shards=st.integers(1, 12),
)
@settings(deadline=None, max_examples=200)
def test_counts_do_not_depend_on_shards(
    text: str, specials: list[str], n_shards: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "shards.txt"
    path.write_bytes(b"x" + text.encode())
    shards = find_shards(path, n_shards, specials)
    assert len(shards) <= n_shards
    ends = [shard.end for shard in shards]
    assert [0, *ends] == [*(shard.start for shard in shards), path.stat().st_size]
    total: Counter[bytes] = Counter()
    for shard in shards:
        assert shard.start < shard.end
        total += count_shard(shard, specials)
    assert total == counts_of("x" + text, specials)


def test_shards_are_of_about_one_size(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(f"some words of a document{END}".encode() * 1000)
    shards = find_shards(path, 4, [END])
    sizes = [shard.end - shard.start for shard in shards]
    assert len(shards) == 4
    assert max(sizes) - min(sizes) < 200


def test_counts_do_not_depend_on_the_executor(prose: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(prose.encode())
    shards = find_shards(path, 5, [END])
    steps: list[int] = []
    with ThreadPoolExecutor(2) as threads:
        by_threads = count_shards(shards, [END], threads, advance=steps.append)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as processes:
        by_processes = count_shards(shards, [END], processes)
    assert len(shards) == 5
    assert by_threads == by_processes == counts_of(prose, [END])
    assert sum(steps) == path.stat().st_size


@pytest.mark.parametrize("block", [1, 2, 3, 7])
def test_blocks_may_cut_characters(block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cs336_basics.tokenizer.text._BLOCK_BYTES", block)
    text = f"Schöne 漢字 👍👍, they'll{END} see\r\n  é"
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode())
    steps: list[int] = []
    assert count_file(path, [END], advance=steps.append) == counts_of(text, [END])
    assert sum(steps) == len(text.encode())


@pytest.mark.parametrize("block", [1, 5, 1 << 20])
@pytest.mark.parametrize(
    ("content", "offset"), [(b"\xff", 0), (b"good \xe6\xbc\xa2\xe6\x28", 8), (b"caf\xc3", 3), (b"abcd\xed\xa0\x80", 4)]
)
def test_bytes_that_are_not_utf8_are_refused_with_their_offset(
    content: bytes, offset: int, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.setattr("cs336_basics.tokenizer.text._BLOCK_BYTES", block)
    path = tmp_path / "latin.txt"
    path.write_bytes(content)
    refused(lambda: count_file(path, [END]), "train_bpe: input_path", str(path), f"byte offset {offset} ", "UTF-8")


def test_the_offset_counts_from_the_beginning_of_the_file(tmp_path: Path, refused: Refused) -> None:
    path = tmp_path / "late.txt"
    path.write_bytes(f"first{END}second{END}".encode() + b"\x80")
    shards = find_shards(path, 3, [END])
    assert shards[-1].start > 0
    with ThreadPoolExecutor(1) as executor:
        refused(lambda: count_shards(shards, [END], executor), "byte offset 37 ")
