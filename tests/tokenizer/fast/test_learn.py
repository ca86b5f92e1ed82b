"""Fast learning of merges: the readable twin, the naive definition, ties, order, large counts, words without end."""

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cs336_basics.tokenizer import bpe
from cs336_basics.tokenizer.fast.learn import _Memory, learn, merge_counts
from cs336_basics.tokenizer.pretokenize import Pretokenizer
from tests.tokenizer.test_bpe import naive_merges

Refused = Callable[..., None]
Flat = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int64]]

END = "<|endoftext|>"

# Few letters: long runs, many ties, pairs that overlap. 0 and 255 stand at the ends of the order.
words = st.lists(st.sampled_from([b"a", b"b", b"ab", b"aaaa", b"\x00", b"\xff"]), max_size=9).map(b"".join)
tied_counts = st.dictionaries(words, st.integers(1, 3), max_size=12)
# Counts around what fits half an entry, and far beyond.
large_counts = st.dictionaries(words, st.integers(1, 3) | st.integers((1 << 31) - 2, 1 << 40), max_size=12)


def flat(counts: Mapping[bytes, int]) -> Flat:
    sizes = np.array([0, *map(len, counts)], np.int64)
    return np.frombuffer(b"".join(counts), np.uint8), np.cumsum(sizes), np.array([*counts.values()], np.int64)


@given(tied_counts, st.integers(0, 40))
@example({b"aaaaa": 1}, 9)
@example({b"abab": 1, b"ab": 2}, 9)
@example({b"xabab": 1, b"ababy": 1}, 9)
@example({b"ab": 1, b"\xff": 1, b"ba": 1}, 9)  # "ba" begins where no word goes on
@settings(deadline=None, max_examples=300)
def test_merges_are_the_definition(counts: dict[bytes, int], n_merges: int) -> None:
    assert merge_counts(counts, n_merges) == naive_merges(counts, n_merges)


@given(large_counts, st.integers(0, 40))
@example({b"ab": 1 << 31, b"ac": (1 << 31) - 1, b"ad": (1 << 31) + 1}, 9)
@settings(deadline=None, max_examples=200)
def test_large_counts_are_exact(counts: dict[bytes, int], n_merges: int) -> None:
    assert merge_counts(counts, n_merges) == bpe.merge_counts(counts, n_merges)


@given(tied_counts, st.integers(0, 20), st.integers(0, 20), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_fewer_merges_are_a_prefix_in_any_order_of_words(
    counts: dict[bytes, int], n: int, k: int, rng: random.Random
) -> None:
    shuffled = list(counts.items())
    rng.shuffle(shuffled)
    assert learn(*flat(dict(shuffled)), n) == merge_counts(counts, n + k)[:n]


@given(st.dictionaries(st.binary(min_size=1, max_size=12), st.integers(1, 99), max_size=60))
@settings(deadline=None, max_examples=60)
def test_any_bytes_until_pairs_run_out(counts: dict[bytes, int]) -> None:
    merges = merge_counts(counts, 10_000)
    assert merges == bpe.merge_counts(counts, 10_000)
    assert {left + right for left, right in merges} >= {word for word in counts if len(word) > 1}


def test_ties_beyond_the_first_bytes() -> None:
    """Tokens that begin alike, and differ at byte 8, at byte 21 or by length; one that another begins with is less."""
    alike = bytes(range(97, 117))
    words = [b"aaaaaaaa", b"aaaaaaa", b"aaaaaaaab", b"aaaaaaa\x00", b"aaaaaaa\xff", alike, alike + b"b", alike + b"c"]
    counts = {left + right: 1 for left in words for right in [*words, b"a", b"\x00", b"\xff"]}
    assert merge_counts(counts, 500) == naive_merges(counts, 500)
    counts = {alike + b"b": 5, alike + b"c": 5, alike + b"bz": 1, alike + b"cy": 1}
    assert merge_counts(counts, 500) == naive_merges(counts, 500)


@pytest.mark.parametrize("counts", [{}, {b"a": 9}, {b"": 1}, {b"": 1, b"a": 2, b"\xff": 1 << 61}])
def test_without_pairs_there_are_no_merges(counts: dict[bytes, int]) -> None:
    assert merge_counts(counts, 10) == []
    assert merge_counts({**counts, b"xy": 2}, 10) == [(b"x", b"y")]
    assert merge_counts({**counts, b"xy": 2}, 0) == []


def test_merges_of_prose_equal_the_readable_ones(prose: str) -> None:
    counts = Counter(pretoken.encode() for pretoken in Pretokenizer().split(prose))
    assert merge_counts(counts, 6000) == bpe.merge_counts(counts, 6000)
    shorter = Counter(pretoken.encode() for pretoken in Pretokenizer().split(prose[:20_000]))
    assert merge_counts(shorter, 150) == naive_merges(shorter, 150)


@pytest.mark.parametrize("name", ["technical", "multilingual"])
def test_merges_of_real_text_equal_the_readable_ones(name: str, shared_data: Path) -> None:
    text = (shared_data / f"{name}.txt").read_bytes()[1_000_000:2_000_000].decode(errors="ignore")
    counts = Counter(pretoken.encode() for pretoken in Pretokenizer([END]).split(text))
    assert merge_counts(counts, 3000) == bpe.merge_counts(counts, 3000)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["technical", "multilingual"])
def test_merges_of_all_real_text_equal_the_readable_ones(name: str, shared_data: Path) -> None:
    text = (shared_data / f"{name}.txt").read_text(encoding="utf-8")
    counts = Counter(pretoken.encode() for pretoken in Pretokenizer([END]).split(text))
    assert merge_counts(counts, 32_000) == bpe.merge_counts(counts, 32_000)


def test_room_for_pairs_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random bytes, where every merge makes many pairs."""
    rooms: list[int] = []
    make_room = _Memory.make_room

    def make_room_noted(memory: _Memory, n_pairs: int) -> None:
        rooms.append(n_pairs)
        make_room(memory, n_pairs)

    monkeypatch.setattr(_Memory, "make_room", make_room_noted)
    counts = {random.Random(0).randbytes(150_000): 1}
    assert merge_counts(counts, 8000) == bpe.merge_counts(counts, 8000)
    assert len(rooms) == 2


def test_progress_counts_every_merge(prose: str) -> None:
    counts = Counter(pretoken.encode() for pretoken in Pretokenizer().split(prose))
    steps: list[int] = []
    assert len(merge_counts(counts, 1000, advance=steps.append)) == sum(steps) == 1000
    assert len(steps) > 3
    steps.clear()
    assert len(merge_counts({b"low": 2}, 1000, advance=steps.append)) == sum(steps) == 2


def test_threads_do_not_disturb_each_other(prose: str) -> None:
    texts = [prose[:60_000], prose[60_000:]]
    counts = [Counter(pretoken.encode() for pretoken in Pretokenizer().split(text)) for text in texts]
    alone = [merge_counts(each, 2000) for each in counts]
    with ThreadPoolExecutor(4) as executor:
        assert list(executor.map(lambda each: merge_counts(each, 2000), counts * 4)) == alone * 4


KINDS = {
    "one letter": b"a",
    "two letters": b"ab",
    "letters": b"abcdefghijklmnopqrstuvwxyz",
    "bytes": bytes(range(256)),
}


def long_word(kind: str, n_bytes: int) -> dict[bytes, int]:
    """One word of random letters of a kind."""
    letters = (KINDS[kind] * 256)[:256]
    return {random.Random(0).randbytes(n_bytes).translate(letters): 1}


def seconds(counts: dict[bytes, int], n_merges: int) -> float:
    start = time.process_time()
    merge_counts(counts, n_merges)
    return time.process_time() - start


@pytest.mark.parametrize("kind", KINDS)
def test_a_word_without_end_does_not_stall_training(kind: str) -> None:
    """0.05 to 0.25 s each; and for few merges the readable twin agrees."""
    merge_counts({b"ab": 1}, 1)  # compiled
    assert seconds(long_word(kind, 1 << 20), 10_000) < 1
    counts = long_word(kind, 50_000)
    assert merge_counts(counts, 1000) == bpe.merge_counts(counts, 1000)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_cost_grows_as_n_log_n(kind: str) -> None:
    """Sixteen times the bytes: nineteen times the time by the formula, and allowance for smaller caches."""
    merge_counts({b"ab": 1}, 1)  # compiled
    small = min(seconds(long_word(kind, 1 << 20), 10_000) for _ in range(3))
    assert seconds(long_word(kind, 1 << 24), 10_000) < 100 * small


@pytest.mark.parametrize(
    ("counts", "n_merges", "words"),
    [
        ({b"ab": 0}, 1, ["counts", "1 or more", "0"]),
        ({b"ab": 1, b"b": -(1 << 70)}, 1, ["counts", "1 or more"]),
        ({b"ab": 1 << 70}, 1, ["counts", "2**62"]),
        ({b"ab": 1 << 61, b"bc": 1 << 61}, 1, ["counts", "2**62"]),
        ({b"ab": 1}, -1, ["n_merges", "-1"]),
        ({b"ab": 1}, 1.5, ["n_merges", "float"]),
    ],
)
def test_bad_counts(counts: dict[bytes, int], n_merges: int, words: list[str], refused: Refused) -> None:
    refused(lambda: merge_counts(counts, n_merges), "merge_counts: ", *words)


@pytest.mark.parametrize(
    ("offsets", "counts"),
    [
        ([0, 4], [1]),
        ([1, 3], [1]),
        ([0, 2], [1]),
        ([0, 2, 1, 3], [1, 1, 1]),
        ([0, 3], [1, 1]),
        ([0, 1, 3], [1]),
        ([], []),
    ],
)
def test_bad_offsets(offsets: list[int], counts: list[int], refused: Refused) -> None:
    """Compiled code reads where offsets point, so they are looked at before."""
    blob = np.frombuffer(b"abc", np.uint8)
    refused(lambda: learn(blob, np.array(offsets, np.int64), np.array(counts, np.int64), 1), "learn: ", "offsets")


def test_bad_n_merges_and_counts_of_learn(refused: Refused) -> None:
    blob, offsets = np.frombuffer(b"abc", np.uint8), np.array([0, 3])
    refused(lambda: learn(blob, offsets, np.array([1]), -1), "n_merges", "-1")
    refused(lambda: learn(blob, offsets, np.array([0]), 1), "counts", "1 or more")
