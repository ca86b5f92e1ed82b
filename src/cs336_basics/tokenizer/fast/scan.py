r"""GPT-2's pattern over UTF-8 bytes, written by hand: where each pre-token ends.

`pretokenize.GPT2_PATTERN` is the specification. Addresses and places are int64, places count bytes. Runs of ASCII
letters are passed eight bytes at a time, which reads an integer as bytes and so asks for a little-endian machine.
"""

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import int64, types
from numba.extending import intrinsic

from cs336_basics.tokenizer.fast.classes import LETTER, SPACE, classes_address
from cs336_basics.tokenizer.fast.machine import compiled, inlined, load_u8, load_u64

_APOSTROPHE: Final = ord("'")
_BLANK: Final = ord(" ")
_D, _E, _L, _M, _R, _S, _T, _V = b"delmrstv"

_EIGHT_HIGH_BITS: Final = np.uint64(0x8080808080808080)
_EIGHT_CASE_BITS: Final = np.uint64(0x2020202020202020)
_PAST_Z: Final = np.uint64((0x80 - ord("z") - 1) * 0x0101010101010101)
_FROM_A: Final = np.uint64((0x80 - ord("a")) * 0x0101010101010101)


@compiled
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
    kind, width = _character(address + stop)
    if kind == SPACE:
        return _blank_end(address, at, end)
    if kind == LETTER:
        while stop + 8 <= end:
            others = _not_ascii_letters(load_u64(address + stop))
            if others:
                stop += _trailing_zeros(others) >> 3
                break
            stop += 8
    else:
        stop += width
    while stop < end:
        next_kind, width = _character(address + stop)
        if next_kind != kind:
            break
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


@compiled
def _blank_end(address: int, at: int, end: int) -> int:
    """Where the run of space ends, or one character before, which goes to what follows if it is not alone."""
    stop = last = at
    while stop < end:
        kind, width = _character(address + stop)
        if kind != SPACE:
            return last if last > at else stop
        last = stop
        stop += width
    return stop


@inlined
def _character(address: int) -> tuple[int, int]:
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


@intrinsic
def _trailing_zeros(_typing: Any, _word: Any) -> Any:
    """How many of the lowest bits of a uint64 other than 0 are 0, as int64."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))  # 1: never asked of 0

    return types.int64(types.uint64), generate
