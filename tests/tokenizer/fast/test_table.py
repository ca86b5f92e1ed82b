"""The table of counts: exact keys of any length, growth, tables made of tables."""

import time
from collections import Counter

import numpy as np

from cs336_basics.tokenizer.counts import PADDING_BYTES, PretokenCounts
from cs336_basics.tokenizer.fast import table
from cs336_basics.tokenizer.fast.count import total_counts
from cs336_basics.tokenizer.fast.specials import special_table
from cs336_basics.tokenizer.fast.table import CountTable
from cs336_basics.tokenizer.pretokenize import Pretokenizer


def counted(text: str) -> PretokenCounts:
    words = CountTable()
    letters = np.frombuffer(text.encode() + bytes(PADDING_BYTES), np.uint8)
    n_counted = words.count(letters, len(letters) - PADDING_BYTES, special_table([]), hold=0)
    assert n_counted == len(text.encode())
    return words.counts()


def test_pretokens_of_all_lengths_are_told_apart() -> None:
    """Same beginnings, same ends, zeros that a key is filled with; thousands, so that the table grows."""
    words = ["a" * length for length in range(1, 3_000)]
    words += ["b" * length + "a" for length in range(40)] + ["a" * length + "b" for length in range(1, 40)]
    words += ["\0" * length for length in range(1, 40)] + ["\x01" + "\0" * length for length in range(40)]
    text = "\n".join(words * 2)
    counts = counted(text)
    expected = Counter(token.encode() for token in Pretokenizer().split(text))
    assert counts.counter() == expected
    assert total_counts([counts, counts]).counter() == expected + expected


def test_long_pretokens_of_one_hash_are_told_apart() -> None:
    """Two rows of 24 bytes, the last 8 of the other chosen so that the table's hash of both is the same."""
    mix, words = int(table._MIX_1), (0x0123456789ABCDEF, 0x1122334455667788)
    mixed = []
    for first in words:
        hashed = 24
        for word in (first, 7):
            hashed = (hashed ^ word) * mix % (1 << 64)
            hashed ^= hashed >> 32
        mixed.append(hashed)
    rows = [word.to_bytes(8, "little") + (7).to_bytes(8, "little") for word in words]
    rows = [row + hashed.to_bytes(8, "little") for row, hashed in zip(rows, mixed, strict=True)]
    text = np.frombuffer(b"".join(rows) + bytes(PADDING_BYTES), np.uint8)
    counts = total_counts([PretokenCounts(text, np.array([0, 24, 48]), np.array([1, 1]))])
    assert counts.counter() == dict.fromkeys(rows, 1)


def test_total_of_nothing_is_nothing() -> None:
    assert total_counts([]).counter() == total_counts([total_counts([])]).counter() == Counter()


def test_counts_are_64_bits_wide() -> None:
    one = counted("word")
    for _ in range(40):
        one = total_counts([one, one])
    assert one.counter() == {b"word": 1 << 40}


def test_tables_made_of_tables_take_linear_time() -> None:
    """Keys come out in the order of their slots, and all of them would crowd at the beginning of a smaller table."""
    n_words = 300_000
    words = np.char.mod("%07d", np.arange(n_words)).astype("S7").view(np.uint8)
    text = np.concatenate([words, np.zeros(PADDING_BYTES, np.uint8)])
    counts = PretokenCounts(text, 7 * np.arange(n_words + 1), np.ones(n_words, np.int64))
    counts = total_counts([counts])
    start = time.process_time()
    again = total_counts([counts, counts])
    assert time.process_time() - start < 1
    assert len(again.counts) == n_words
    assert again.counts.min() == again.counts.max() == 2
