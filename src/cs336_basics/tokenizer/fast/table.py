"""A hash table from pre-tokens to counts, in machine code: open addressing, exact keys.

A slot is 24 bytes: two words of key and the count. A pre-token of 15 bytes or less is its own key, its length in the
highest byte; a longer one lies in a row of bytes beside the table, and its key is its hash and its place there. A
slot never used is zero. All numbers are 64 bits wide.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import int64, uint64

from cs336_basics.tokenizer.counts import PADDING_BYTES, PretokenCounts
from cs336_basics.tokenizer.fast.machine import (
    compiled,
    entry,
    inlined,
    load_i64,
    load_u8,
    load_u64,
    store_i64,
    store_u64,
)
from cs336_basics.tokenizer.fast.scan import next_end, same_bytes
from cs336_basics.tokenizer.fast.specials import find_special

_LEAST_BITS: Final = 12
_LEAST_LONG_BYTES: Final = 1 << 16
_SLOT_BYTES: Final = 24
_SHORT_BYTES: Final = 16  # and more: not short
_PLACE: Final = (1 << 56) - 1

# Where the numbers of a table lie, in bytes from the beginning of its state.
_SLOTS: Final = 0
_BITS: Final = 8
_N_PRETOKENS: Final = 16
_LONGS: Final = 24
_LONGS_END: Final = 32
_LONGS_ROOM: Final = 40
_KEY_BYTES: Final = 48

_LONG_KEY: Final = np.uint64(0xFF << 56)  # and from there on: a place, with 0xFF for the length
_ALL: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
_ZERO: Final = np.uint64(0)
_ONE: Final = np.uint64(1)
_MIX_1: Final = np.uint64(0x9E3779B97F4A7C15)  # odd, with bits all over: from the golden ratio
_MIX_2: Final = np.uint64(0xD6E8FEB86659FD93)
_MIX_3: Final = np.uint64(0xA0761D6478BD642F)


class CountTable:
    """Counts pre-tokens. Not for two threads at once; give each its own, and add one to the other at the end."""

    def __init__(self) -> None:
        self._slots = np.zeros(3 << _LEAST_BITS, np.uint64)
        self._longs = np.empty(_LEAST_LONG_BYTES, np.uint8)
        self._state = np.zeros(7, np.int64)
        self._state[_BITS // 8] = _LEAST_BITS
        self._point()

    def count(self, text: npt.NDArray[np.uint8], end: int, specials: npt.NDArray[np.uint8], *, hold: int) -> int:
        """Count the pre-tokens of `text[:end]` between special tokens, and return where what was counted ends.

        `hold` is 0 if the text ends there. If more may follow, it is the length of the longest special token, or 1,
        and what may still change is not counted, as in `Pretokenizer.stream`.
        """
        at = 0
        while True:
            at, room = _count_text(text.ctypes.data, at, end, specials.ctypes.data, hold, self._state.ctypes.data)
            if room == 0:
                return at
            self._grow(room)

    def add(self, counts: PretokenCounts) -> None:
        """Add counts to the counts."""
        # They come in the order of their slots in some table: into a smaller one they would all crowd at its beginning.
        while self._state[_N_PRETOKENS // 8] + len(counts.counts) > len(self._slots) // 6:
            self._grow(1)
        text, offsets, ns = (array.ctypes.data for array in counts)
        at = 0
        while at < len(counts.counts):
            at, room = _add_counts(text, offsets, ns, at, len(counts.counts), self._state.ctypes.data)
            if room:
                self._grow(room)

    def counts(self) -> PretokenCounts:
        """The counts as arrays."""
        n_pretokens = int(self._state[_N_PRETOKENS // 8])
        counts = PretokenCounts(
            np.zeros(self._state[_KEY_BYTES // 8] + PADDING_BYTES, np.uint8),
            np.zeros(n_pretokens + 1, np.int64),
            np.empty(n_pretokens, np.int64),
        )
        _copy_counts(self._state.ctypes.data, *(array.ctypes.data for array in counts))
        return counts

    def _grow(self, room: int) -> None:
        """Make room for more pre-tokens (1), or for a long one of so many bytes."""
        if room == 1:
            slots = self._slots
            self._slots = np.zeros(2 * len(slots), np.uint64)
            self._state[_BITS // 8] += 1
            self._point()
            _move_slots(slots.ctypes.data, len(slots) // 3, self._state.ctypes.data)
        else:
            longs = self._longs
            self._longs = np.empty(2 * len(longs) + room, np.uint8)
            self._longs[: len(longs)] = longs
            self._point()

    def _point(self) -> None:
        self._state[_SLOTS // 8] = self._slots.ctypes.data
        self._state[_LONGS // 8] = self._longs.ctypes.data
        self._state[_LONGS_ROOM // 8] = len(self._longs)


@entry
def _count_text(address: int, at: int, end: int, specials: int, hold: int, state: int) -> tuple[int, int]:
    """Count from `at` on, and return where what was counted ends, and the room needed to go on (0: none)."""
    # A special token that begins before `sure` is here to its end, and so is any longer one.
    sure = end - hold + 1
    while at < sure < end and load_u8(address + sure) & 0xC0 == 0x80:
        sure -= 1
    while at < end:
        limit, after = find_special(address, at, end, specials)
        whole = limit < sure
        if not whole:
            limit = sure
        stop = at
        while at < limit:
            next_stop = next_end(address, stop, limit) if stop < limit else limit
            # If more may follow, the last two may still change.
            if next_stop == limit and not whole:
                return at, 0
            if stop > at:
                room = _add(state, address + at, stop - at, int64(1))  # a bare 1 is a type of its own
                if room:
                    return at, room
            at, stop = stop, next_stop
        if not whole:
            return at, 0
        at = after
    return at, 0


@entry
def _add_counts(text: int, offsets: int, counts: int, at: int, end: int, state: int) -> tuple[int, int]:
    """Add counts from number `at` on, and return how far that went, and the room needed to go on (0: none)."""
    while at < end:
        start, stop = load_i64(offsets + 8 * at), load_i64(offsets + 8 * at + 8)
        room = _add(state, text + start, stop - start, load_i64(counts + 8 * at))
        if room:
            return at, room
        at += 1
    return at, 0


@inlined
def _add(state: int, address: int, n_bytes: int, n: int) -> int:
    """Count a pre-token `n` times more, and return 0, or the room needed first, as `CountTable._grow` takes it."""
    low, high = _ZERO, _LONG_KEY
    if n_bytes < _SHORT_BYTES:
        n_low = n_bytes if n_bytes < 8 else 8
        low = load_u64(address) & _ALL >> uint64(64 - 8 * n_low)
        high = load_u64(address + 8) & (_ONE << uint64(8 * (n_bytes - n_low))) - _ONE | uint64(n_bytes) << uint64(56)
        slot = load_i64(state + _SLOTS) + _SLOT_BYTES * _index(low, high, load_i64(state + _BITS))
        if load_u64(slot) == low and load_u64(slot + 8) == high:
            store_i64(slot + 16, load_i64(slot + 16) + n)
            return 0
    return _add_slowly(state, address, n_bytes, n, low, high)


@compiled
def _add_slowly(state: int, address: int, n_bytes: int, n: int, low: np.uint64, high: np.uint64) -> int:
    """The same wherever its slot is, and for a long pre-token, whose key is not known yet: `high` is `_LONG_KEY`."""
    if high == _LONG_KEY:
        low = uint64(n_bytes)
        for place in range(0, n_bytes - 8, 8):
            low = (low ^ load_u64(address + place)) * _MIX_1
            low ^= low >> uint64(32)
        low = (low ^ load_u64(address + n_bytes - 8)) * _MIX_1
    slots, longs, bits = load_i64(state + _SLOTS), load_i64(state + _LONGS), load_i64(state + _BITS)
    index = _index(low, high, bits)
    while True:
        slot = slots + _SLOT_BYTES * index
        key = load_u64(slot + 8)
        if key == 0:
            break
        if load_u64(slot) == low:
            found = key == high
            if high == _LONG_KEY and key >= _LONG_KEY:
                long = longs + (int64(key) & _PLACE)
                found = load_i64(long) == n_bytes and same_bytes(long + 8, address, n_bytes)
            if found:
                store_i64(slot + 16, load_i64(slot + 16) + n)
                return 0
        index = index + 1 & (1 << bits) - 1
    n_pretokens, longs_end = load_i64(state + _N_PRETOKENS), load_i64(state + _LONGS_END)
    if 2 * n_pretokens >= 1 << bits:
        return 1
    if high == _LONG_KEY:
        room = 16 + n_bytes  # its length, itself, and what is copied too much
        if longs_end + room > load_i64(state + _LONGS_ROOM):
            return room
        high |= uint64(longs_end)
        store_i64(longs + longs_end, n_bytes)
        longs_end += 8
        for place in range(0, n_bytes, 8):
            store_u64(longs + longs_end + place, load_u64(address + place))
        store_i64(state + _LONGS_END, longs_end + n_bytes)
    store_u64(slot, low)
    store_u64(slot + 8, high)
    store_i64(slot + 16, n)
    store_i64(state + _N_PRETOKENS, n_pretokens + 1)
    store_i64(state + _KEY_BYTES, load_i64(state + _KEY_BYTES) + n_bytes)
    return 0


@inlined
def _index(low: np.uint64, high: np.uint64, bits: int) -> int:
    """Where the search for a key begins."""
    mixed = low * _MIX_1 ^ high * _MIX_2
    index: int = int64((mixed ^ mixed >> uint64(29)) * _MIX_3 >> uint64(64 - bits))
    return index


@entry
def _move_slots(slots: int, n_slots: int, state: int) -> None:
    """Put the slots of a table into its new and empty ones."""
    new_slots, bits = load_i64(state + _SLOTS), load_i64(state + _BITS)
    for slot in range(slots, slots + _SLOT_BYTES * n_slots, _SLOT_BYTES):
        low, high = load_u64(slot), load_u64(slot + 8)
        if high != 0:
            index = _index(low, _LONG_KEY if high >= _LONG_KEY else high, bits)
            while load_u64(new_slots + _SLOT_BYTES * index + 8) != 0:
                index = index + 1 & (1 << bits) - 1
            store_u64(new_slots + _SLOT_BYTES * index, low)
            store_u64(new_slots + _SLOT_BYTES * index + 8, high)
            store_i64(new_slots + _SLOT_BYTES * index + 16, load_i64(slot + 16))


@entry
def _copy_counts(state: int, text: int, offsets: int, counts: int) -> None:
    """Write all pre-tokens into arrays; the text has room for `PADDING_BYTES` more."""
    slots, longs = load_i64(state + _SLOTS), load_i64(state + _LONGS)
    at = n = 0
    for slot in range(slots, slots + (_SLOT_BYTES << load_i64(state + _BITS)), _SLOT_BYTES):
        key = load_u64(slot + 8)
        if key == 0:
            continue
        pretoken, n_bytes = slot, int64(key >> uint64(56))
        if key >= _LONG_KEY:
            pretoken = longs + (int64(key) & _PLACE) + 8
            n_bytes = load_i64(pretoken - 8)
        for place in range(0, n_bytes, 8):
            store_u64(text + at + place, load_u64(pretoken + place))
        at += n_bytes
        store_i64(counts + 8 * n, load_i64(slot + 16))
        n += 1
        store_i64(offsets + 8 * n, at)
