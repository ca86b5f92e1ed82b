"""The masks say what the scanner says, for every code point, every place in a block, hostile and real text."""

import itertools
import random
from pathlib import Path

import numpy as np
import pytest
from numba import njit

from cs336_basics.tokenizer.fast.bits import trailing_zeros
from cs336_basics.tokenizer.fast.blocks import BLOCK, READ, block_starts
from cs336_basics.tokenizer.fast.classes import SPACE, find_classes
from cs336_basics.tokenizer.fast.scan import next_end
from tests.tokenizer.fast.test_scan import HOSTILE, hostile_texts

_ONE = np.uint64(1)


@njit(cache=False)
def first_wrong(address: int, end: int) -> int:
    """The first pre-token that the masks cut otherwise than the scanner, from block to block; -1 if there is none."""
    at = 0
    while at < end:
        starts = block_starts(address + at, end - at)
        block = at
        if not starts:
            at = next_end(address, at, end)
        while starts:
            stop = next_end(address, at, end)
            if stop != block + trailing_zeros(starts):
                return at
            starts &= starts - _ONE
            at = stop
    return -1


@njit(cache=False)
def call_block_starts(address: int, n_left: int) -> np.uint64:
    return block_starts(address, n_left)


def check(text: str) -> None:
    encoded = np.frombuffer(text.encode() + b" " * READ, np.uint8)
    wrong = first_wrong(encoded.ctypes.data, len(encoded) - READ)
    assert wrong == -1, ascii(encoded[wrong : wrong + 70].tobytes())


def n_found(text: str) -> int:
    """How many pre-tokens the first block tells of."""
    encoded = np.frombuffer(text.encode() + b" " * READ, np.uint8)
    return int(call_block_starts(encoded.ctypes.data, len(encoded) - READ)).bit_count()


def test_every_code_point() -> None:
    code_points = [*range(0xD800), *range(0xE000, 0x110000)]
    check("".join(f"a{chr(number)} {chr(number)}\n" for number in code_points))


def test_every_short_text_at_every_place() -> None:
    for pieces in itertools.product("'lsé \n1!", repeat=4):
        text = "".join(pieces)
        for before in (0, 1, BLOCK - 6, BLOCK - 5, BLOCK - 4, BLOCK - 3, BLOCK - 2, BLOCK - 1):
            check("a!" * (before // 2) + "a" * (before % 2) + text + "a")


def test_hostile_texts() -> None:
    for text in hostile_texts(20_000, seed=3):
        check(text)
    check("".join(hostile_texts(20_000, seed=4)))


def test_contractions_and_their_neighbours() -> None:
    pieces = ["'", "s", "d", "m", "t", "l", "r", "e", "v", "ll", "x", " ", "9", "-"]
    choose = random.Random(5)
    check("".join(choose.choices(pieces, k=200_000)))


@pytest.mark.parametrize("name", ["technical.txt", "multilingual.txt", "narrative.txt"])
def test_real_text(name: str, shared_data: Path) -> None:
    check((shared_data / name).read_bytes().decode())


def test_a_block_of_words_is_found_as_a_whole() -> None:
    """An answer of 0 is always right, and would be useless."""
    assert n_found("ab cd-12 " * 20) == 62 * 4 // 9
    assert n_found("и что " * 20) >= 10
    assert n_found("a" * 100) == 0
    assert n_found("one two") == 2
    assert n_found("one two" + "e" * 54) == 1 + 1
    assert n_found("one two" + "e" * 55) == 1


def test_white_space_beyond_ascii_ends_what_is_known() -> None:
    wide = [chr(number) for number in np.flatnonzero(find_classes() == SPACE) if number > 127]
    assert len(wide) > 15
    for space in wide:
        assert n_found(f"ab cd{space} e f") == 1
        check(f"a{space}")
        check("".join(f"{left}{space}{right}" for left, right in itertools.product(HOSTILE, repeat=2)))
