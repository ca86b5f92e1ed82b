"""Finding special tokens in machine code, the longest that begins at a place, by halves: not one by one."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import int64

from cs336_basics.tokenizer.fast.bits import trailing_zeros
from cs336_basics.tokenizer.fast.machine import compiled, load_i64, load_u8, load_u64

_FEW_FIRSTS: Final = 4  # with more it is faster to look at each byte
_NONE: Final = np.uint64(0)
_EIGHT_ONES: Final = np.uint64(0x0101010101010101)
_EIGHT_HIGH_BITS: Final = np.uint64(0x8080808080808080)

_ROW: Final = 24  # bytes: how far behind the rows a token lies, its length, the row of the longest that it begins with
_LENGTH: Final = 8
_PREFIX: Final = 16


def special_table(special_tokens: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Special tokens as `find_special` takes them by address.

    For each byte the place in the table of the tokens that begin with it, or 0; how many different bytes that are,
    and each of them eight times over; then those tokens: their number, a row for each, and the bytes of them all. They
    stand in order of their bytes. All numbers are 8 bytes.
    """
    tokens = sorted(token.encode() for token in special_tokens)
    firsts = sorted({token[0] for token in tokens})
    places = dict.fromkeys(range(256), 0)
    parts = [_number(len(firsts)), *(bytes([first] * 8) for first in firsts)]
    for first in firsts:
        places[first] = 8 * 256 + sum(map(len, parts))
        parts.append(_group([token for token in tokens if token[0] == first]))
    return np.frombuffer(b"".join([*map(_number, places.values()), *parts]), np.uint8)


def _group(tokens: Sequence[bytes]) -> bytes:
    rows: list[bytes] = []
    begun: list[int] = []  # the rows of what the last token begins with, itself too
    offset = 0
    for row, token in enumerate(tokens):
        while begun and not token.startswith(tokens[begun[-1]]):
            begun.pop()
        rows += map(_number, (offset, len(token), begun[-1] if begun else -1))
        begun.append(row)
        offset += len(token)
    return b"".join([_number(len(tokens)), *rows, *tokens])


def _number(value: int) -> bytes:
    return value.to_bytes(8, "little", signed=True)


@compiled
def find_special(address: int, at: int, end: int, table: int) -> tuple[int, int]:
    """The next special token from `at` to `end`, the longest if several begin there: where it begins and ends.

    `table` is the address of a `special_table`. Returns `(end, end)` if there is none.
    """
    firsts = table + 8 * 256 + 8
    n_firsts = load_i64(firsts - 8)
    while at < end:
        if n_firsts <= _FEW_FIRSTS and at + 8 <= end:
            eight = load_u64(address + at)
            found = _NONE
            for n in range(n_firsts):
                zeros = eight ^ load_u64(firsts + 8 * n)  # where a byte is the first of a special token
                found |= (zeros - _EIGHT_ONES) & ~zeros & _EIGHT_HIGH_BITS
            if not found:
                at += 8
                continue
            at += trailing_zeros(found) >> 3
        place = load_i64(table + 8 * int64(load_u8(address + at)))
        if place:
            n_bytes = _longest(address + at, end - at, table + place)
            if n_bytes:
                return at, at + n_bytes
        at += 1
    return end, end


@compiled
def _longest(address: int, n_left: int, group: int) -> int:
    """The length of the longest token of a group that the text of `n_left` bytes at `address` begins with; 0 if none.

    Of the tokens that do not come after the text, the last either is it or begins with it, and with no more of the text
    than the two share.
    """
    n_tokens = load_i64(group)
    rows = group + 8
    tokens = rows + _ROW * n_tokens
    while True:
        low, high = int64(0), n_tokens  # the last that does not come after the text is before `high`, not before `low`
        while low < high:
            middle = (low + high) >> 1
            row = rows + _ROW * middle
            if _comes_after(tokens + load_i64(row), load_i64(row + _LENGTH), address, n_left):
                high = middle
            else:
                low = middle + 1
        if low == 0:
            return 0
        row = rows + _ROW * (low - 1)
        n_bytes: int = load_i64(row + _LENGTH)
        n_shared = _shared(tokens + load_i64(row), address, min(n_bytes, n_left))
        if n_shared == n_bytes:
            return n_bytes
        prefix = load_i64(row + _PREFIX)
        if prefix < 0:
            return 0
        n_prefix: int = load_i64(rows + _ROW * prefix + _LENGTH)
        if n_prefix <= n_shared:
            return n_prefix
        n_left = n_shared  # many begin with one another: not one by one


@compiled
def _shared(one: int, other: int, n_bytes: int) -> int:
    """How many of their first `n_bytes` two pieces of memory share."""
    place: int = int64(0)
    while place < n_bytes and load_u8(one + place) == load_u8(other + place):
        place += 1
    return place


@compiled
def _comes_after(token: int, n_bytes: int, text: int, n_left: int) -> bool:
    """Whether a token comes after a text in the order of bytes."""
    for place in range(min(n_bytes, n_left)):
        one, other = load_u8(token + place), load_u8(text + place)
        if one != other:
            return bool(one > other)
    return n_bytes > n_left
