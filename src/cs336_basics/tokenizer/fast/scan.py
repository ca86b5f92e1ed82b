"""Passing over UTF-8 bytes: where a pre-token ends, and where the bytes are no more text.

`pretokenize.GPT2_PATTERN`, written by hand. Addresses and places are int64, places count bytes. Where one byte is
like the next, eight are read at a time as one integer, whose lowest bits must be the first byte: little-endian
machines only, which are all that numba supports.
"""

from typing import Final

import numpy as np
from numba import int64

from cs336_basics.tokenizer.fast.bits import trailing_zeros
from cs336_basics.tokenizer.fast.classes import LETTER, SPACE, classes_address
from cs336_basics.tokenizer.fast.machine import compiled, entry, inlined, load_u8, load_u64

_APOSTROPHE: Final = ord("'")
_BLANK: Final = ord(" ")
_D, _E, _L, _M, _R, _S, _T, _V = b"delmrstv"

_EIGHT_HIGH_BITS: Final = np.uint64(0x8080808080808080)
_EIGHT_CASE_BITS: Final = np.uint64(0x2020202020202020)
_PAST_Z: Final = np.uint64((0x80 - ord("z") - 1) * 0x0101010101010101)
_FROM_A: Final = np.uint64((0x80 - ord("a")) * 0x0101010101010101)


@entry
def next_end(address: int, at: int, end: int) -> int:
    """Where the pre-token that begins at `at` ends, if the text ends at `end`.

    The bytes up to `end` must be valid UTF-8, `at < end` the place where a pre-token begins. Reads nothing
    beyond `end`. Takes time in proportion to the pre-token (and one character more).
    """
    first = load_u8(address + at)
    if first == _APOSTROPHE:
        stop = at + _contraction_bytes(address + at, end - at)
        if stop > at:
            return stop
    stop = at
    if first == _BLANK and at + 1 < end:
        stop += 1
    last = stop
    kind, width = character(address + stop)
    if kind == LETTER:
        while stop + 8 <= end:
            others = _not_ascii_letters(load_u64(address + stop))
            if others:
                stop += trailing_zeros(others) >> 3
                break
            stop += 8
    else:
        stop += width
    while stop < end:
        next_kind, width = character(address + stop)
        if next_kind != kind:
            # The last of several spaces goes to what follows.
            return last if kind == SPACE and last > at else stop
        last = stop
        stop += width
    return stop


@inlined
def _contraction_bytes(address: int, n_bytes: int) -> int:
    """The length of the contraction that begins with the apostrophe at `address`, 0 if there is none."""
    if n_bytes >= 2:
        second = load_u8(address + 1)
        if second in (_S, _T, _D, _M):
            return 2
        if n_bytes >= 3:
            third = load_u8(address + 2)
            if (third == _E and second in (_V, _R)) or (third == _L and second == _L):
                return 3
    return 0


@inlined
def character(address: int) -> tuple[int, int]:
    """The class and the length in bytes of the character at `address`."""
    first = int64(load_u8(address))
    if first < 0x80:
        return int64(load_u8(classes_address() + first)), 1
    code_point = int64(load_u8(address + 1)) & 0x3F
    if first < 0xE0:
        return int64(load_u8(classes_address() + ((first & 0x1F) << 6 | code_point))), 2
    code_point = code_point << 6 | int64(load_u8(address + 2)) & 0x3F
    if first < 0xF0:
        return int64(load_u8(classes_address() + ((first & 0xF) << 12 | code_point))), 3
    code_point = code_point << 6 | int64(load_u8(address + 3)) & 0x3F
    return int64(load_u8(classes_address() + ((first & 7) << 18 | code_point))), 4


@inlined
def _not_ascii_letters(eight: np.uint64) -> np.uint64:
    """The high bit of each of eight bytes that is no ASCII letter."""
    lower = (eight | _EIGHT_CASE_BITS) & ~_EIGHT_HIGH_BITS
    return ~((lower + _FROM_A) & ~(lower + _PAST_Z)) & _EIGHT_HIGH_BITS | eight & _EIGHT_HIGH_BITS


@entry
def valid_end(address: int, at: int, end: int) -> int:
    """Where the bytes from `at` to `end` stop being UTF-8: at `end`, or where a character is wrong or cut off.

    Source: Unicode 15, table 3-7: no surrogates, nothing beyond U+10FFFF, no character longer than it need be.
    """
    while at < end:
        if at + 8 <= end and not load_u64(address + at) & _EIGHT_HIGH_BITS:
            at += 8
            continue
        first = int64(load_u8(address + at))
        if first < 0x80:
            at += 1
            continue
        width = 2 + (first >= 0xE0) + (first >= 0xF0)
        if at + width > end:
            return at
        two = first << 8 | int64(load_u8(address + at + 1))
        if two < 0xC280 or 0xE000 <= two < 0xE0A0 or 0xEDA0 <= two < 0xEE00 or 0xF000 <= two < 0xF090 or two >= 0xF490:
            return at
        for place in range(at + 1, at + width):
            if load_u8(address + place) & 0xC0 != 0x80:
                return at
        at += width
    return end


@compiled
def same_bytes(one: int, other: int, n_bytes: int) -> bool:
    """Whether two pieces of memory hold the same."""
    place = 0
    while place + 8 <= n_bytes:
        if load_u64(one + place) != load_u64(other + place):
            return False
        place += 8
    while place < n_bytes:
        if load_u8(one + place) != load_u8(other + place):
            return False
        place += 1
    return True
