"""Ids of a text without special tokens, in machine code: cut, look up, merge what was not seen before."""

from typing import Final

import numpy as np
from numba import int64, uint64

from cs336_basics.tokenizer.fast.bits import prefetch, trailing_zeros
from cs336_basics.tokenizer.fast.blocks import BLOCK, block_starts
from cs336_basics.tokenizer.fast.caches import (
    ADDRESS,
    AT,
    BYTE_IDS,
    ENTRY,
    FOUND_BYTES,
    HIGH,
    ID_BITS,
    ID_BYTES,
    LENGTH,
    LOW,
    RULES,
    RULES_SHIFT,
    RULES_TABLE,
    SCRATCH,
    SET,
    SHORT,
    SHORT_MERGES,
    SHORT_SET,
    SHORT_SHIFT,
    SHORTEST_LONG,
    START,
    STOPPED_AT,
    keep,
    write_kept,
)
from cs336_basics.tokenizer.fast.machine import (
    entry,
    load_i64,
    load_u8,
    load_u64,
    pasted,
    store_i64,
    store_u8,
    store_u64,
)
from cs336_basics.tokenizer.fast.merging import SHORT as SHORT_MERGE
from cs336_basics.tokenizer.fast.merging import merge_short
from cs336_basics.tokenizer.fast.scan import next_end

SLACK: Final = 16
"""Bytes behind the last id that may be written."""

_MARGIN: Final = BLOCK + 16  # what is read from a place on; nearer to its end, the text is copied
_BATCH: Final = 64  # pre-tokens found before they are looked up, and a block's more

# Where the scratch of a call holds what.
_PAD: Final = 0
_IDS: Final = _PAD + 2 * _MARGIN + 8
_FOUND: Final = _IDS + 8 * SHORT_MERGE
SCRATCH_BYTES: Final = _FOUND + FOUND_BYTES * (_BATCH + BLOCK)

_ONE: Final = np.uint64(1)
_ALL: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
_MIX_1: Final = np.uint64(0x9E3779B97F4A7C15)  # odd, with bits all over
_MIX_2: Final = np.uint64(0xC2B2AE3D27D4EB4F)
_EIGHT_BLANKS: Final = np.uint64(0x2020202020202020)


@entry
def encode_span(state: int, address: int, start: int, end: int, out: int) -> int:
    """Write the ids of the bytes from `start` to `end` of the text at `address` to `out`; return where they end.

    The bytes must be valid UTF-8 and a pre-token begin at `start`. `out` has room for an id for each byte, and `SLACK`.
    It stops before a pre-token that only `merge_long` may merge; the state says where (`AT`).
    """
    short, shift = load_i64(state + SHORT), uint64(load_i64(state + SHORT_SHIFT))
    scratch = load_i64(state + SCRATCH)
    found = scratch + _FOUND
    at = start
    copied = False
    while at < end:
        free = found
        while at < end and free < found + FOUND_BYTES * _BATCH:
            if at + _MARGIN > end and not copied:
                address = _copy_end(address + at, end - at, scratch + _PAD) - at
                copied = True
            block = at
            starts = block_starts(address + at, end - at)
            if starts == 0:
                at = next_end(address, at, end)
                if at - block < BLOCK:
                    starts = _ONE << uint64(at - block)
                    at = block
                else:
                    store_i64(free + START, block)
                    store_i64(free + ADDRESS, address + block)
                    store_i64(free + LENGTH, at - block)
                    free += FOUND_BYTES
            while starts:
                here = address + at
                n_bytes = block + trailing_zeros(starts) - at
                starts &= starts - _ONE
                at += n_bytes
                store_i64(free + START, at - n_bytes)
                store_i64(free + ADDRESS, here)
                store_i64(free + LENGTH, n_bytes)
                if n_bytes < SHORTEST_LONG:
                    n_low = min(n_bytes, int64(8))
                    low = load_u64(here) & _ALL >> uint64(64 - 8 * n_low)
                    high = load_u64(here + 8) & (_ONE << uint64(8 * (n_bytes - n_low))) - _ONE
                    high |= uint64(n_bytes) << uint64(56)
                    entries = short + SHORT_SET * int64((low * _MIX_1 ^ high * _MIX_2) >> shift)
                    prefetch(entries)
                    store_u64(free + LOW, low)
                    store_u64(free + HIGH, high)
                    store_i64(free + SET, entries)
                free += FOUND_BYTES
        for one in range(found, free, FOUND_BYTES):
            if load_i64(one + LENGTH) < SHORTEST_LONG:
                low, high, entry = load_u64(one + LOW), load_u64(one + HIGH), load_i64(one + SET)
                differs = load_u64(entry) ^ low | load_u64(entry + 8) ^ high
                second_differs = load_u64(entry + ENTRY) ^ low | load_u64(entry + ENTRY + 8) ^ high
                if differs == 0 or second_differs == 0:
                    entry += ENTRY if differs else 0
                    last_ids = load_u64(entry + 24)
                    store_u64(out, load_u64(entry + 16))
                    store_u64(out + 8, last_ids)
                    out += int64(last_ids >> ID_BITS)
                    continue
            stop = write_kept(state, one, out)
            if stop == 0:
                if load_i64(one + LENGTH) > load_i64(state + SHORT_MERGES):
                    store_i64(state + AT, load_i64(one + START))
                    store_i64(state + STOPPED_AT, one)
                    return out
                stop = merge_short(
                    load_i64(state + RULES),
                    load_i64(state + RULES_TABLE),
                    load_i64(state + RULES_SHIFT),
                    load_i64(state + BYTE_IDS),
                    scratch + _IDS,
                    load_i64(one + ADDRESS),
                    load_i64(one + LENGTH),
                    load_i64(state + ID_BYTES),
                    out,
                )
                keep(state, one, out, stop - out)
            out = stop
    store_i64(state + AT, end)
    return out


@pasted
def _copy_end(address: int, n_bytes: int, pad: int) -> int:
    """Copy the last bytes of a text to where blanks follow them, and return that address."""
    place = int64(0)
    while place < n_bytes:
        store_u8(pad + place, load_u8(address + place))
        place += 1
    for blank in range(place, place + _MARGIN, 8):
        store_u64(pad + blank, _EIGHT_BLANKS)
    return pad
