"""What an encoder keeps in memory: pre-tokens seen before and their ids, in machine code.

Every function takes the address of a state, `N_WORDS` int64 words that say where everything is, and that of a found
pre-token, `FOUND_BYTES` that `encode_span` fills in. Pre-tokens of up to 15 bytes whose ids take up to 14 lie in sets
of four entries of 32 bytes: the pre-token and its length, its ids and their length. The others lie in an arena, which
is emptied when it is full, and their hashes in sets of two. A new one takes the place of the oldest of its set. So
memory is bounded, and a text made to collide costs no more than one never seen.
"""

from typing import Final

import numpy as np
from numba import int64, uint64

from cs336_basics.tokenizer.fast.machine import compiled, entry, load_i64, load_u64, store_i64, store_u64

N_WORDS: Final = 16
(
    RULES,
    RULES_TABLE,
    RULES_SHIFT,
    SHORT_MERGES,  # up to how many bytes merge_short may merge
    BYTE_IDS,  # int32 for each byte
    ID_BYTES,  # 2 or 4
    SHORT,
    SHORT_SHIFT,  # 64 less the logarithm of the number of sets
    LONG,
    LONG_SHIFT,
    ARENA,
    ARENA_END,
    ARENA_FREE,
    SCRATCH,
    AT,  # where in the text encode_span stopped
    STOPPED_AT,  # and the address of the found pre-token there
) = range(0, 8 * N_WORDS, 8)

FOUND_BYTES: Final = 56
START, ADDRESS, LENGTH, LOW, HIGH, SET, HASH = range(0, FOUND_BYTES, 8)

ENTRY: Final = 32
SHORT_SET: Final = 4 * ENTRY
LONG_SET: Final = 32
SHORTEST_LONG: Final = 16
"""Bytes of the shortest pre-token that has no key of the first kind, of which `LOW` and `HIGH` are the halves."""
LONGEST: Final = 256
"""Bytes of the longest pre-token that is kept; a longer one hardly ever comes back."""
ID_BITS: Final = np.uint64(48)
"""Bits of ids in the last word of an entry; above them is how many bytes of ids there are."""

_SHORT_ID_BYTES: Final = 14
_MIX_1: Final = np.uint64(0x9E3779B97F4A7C15)  # odd, with bits all over
_MIX_2: Final = np.uint64(0xC2B2AE3D27D4EB4F)
_ONE: Final = np.uint64(1)


@compiled
def write_kept(state: int, found: int, out: int) -> int:
    """Write the ids of a pre-token that is not in the first two entries of its set; return where they end, or 0."""
    n_bytes = load_i64(found + LENGTH)
    if n_bytes < SHORTEST_LONG:
        low, high, entries = load_u64(found + LOW), load_u64(found + HIGH), load_i64(found + SET)
        # The last two lie in another line of memory: if the second is free, there is no need to bring that in.
        for entry in range(entries + 2 * ENTRY, entries + SHORT_SET if load_u64(entries + ENTRY + 8) else 0, ENTRY):
            if load_u64(entry) == low and load_u64(entry + 8) == high:
                first, last = load_u64(entry + 16), load_u64(entry + 24)
                for word in range(0, ENTRY, 8):  # it changes places with the second one
                    store_u64(entry + word, load_u64(entries + ENTRY + word))
                store_u64(entries + ENTRY, low)
                store_u64(entries + ENTRY + 8, high)
                store_u64(entries + ENTRY + 16, first)
                store_u64(entries + ENTRY + 24, last)
                store_u64(out, first)
                store_u64(out + 8, last)
                out += int64(last >> ID_BITS)
                return out
    if n_bytes * load_i64(state + ID_BYTES) <= _SHORT_ID_BYTES or n_bytes > LONGEST:
        return 0
    address = load_i64(found + ADDRESS)
    mixed = uint64(n_bytes)
    for start in range(0, n_bytes, 8):
        mixed = (mixed ^ _word(found, address, start, n_bytes)) * _MIX_1
        mixed ^= mixed >> uint64(32)
    mixed = mixed * _MIX_2 | _ONE  # 0 is an empty place
    store_u64(found + HASH, mixed)
    hashes = load_i64(state + LONG) + LONG_SET * int64(mixed >> uint64(load_i64(state + LONG_SHIFT)))
    for place in range(hashes, hashes + LONG_SET, 16):
        if load_u64(place) == mixed:
            record = load_i64(place + 8)
            sizes = load_i64(record)
            same = sizes >> 32 == n_bytes
            for start in range(0, n_bytes, 8):
                record += 8
                same = same and load_u64(record) == _word(found, address, start, n_bytes)
            if same:
                stop: int = out + (sizes & 0xFFFFFFFF)
                for ids in range(out, stop, 8):
                    record += 8
                    store_u64(ids, load_u64(record))
                return stop
    return 0


@entry
def keep(state: int, found: int, ids: int, n_id_bytes: int) -> None:
    """Put in a pre-token that `write_kept` has not found, and its ids; 16 bytes of ids and whole words are readable."""
    n_bytes = load_i64(found + LENGTH)
    if n_bytes < SHORTEST_LONG and n_id_bytes <= _SHORT_ID_BYTES:
        entry = load_i64(found + SET)
        n_moved = SHORT_SET - ENTRY if load_u64(entry + ENTRY + 8) else ENTRY
        for word in range(entry + n_moved - 8, entry - 8, -8):
            store_u64(word + ENTRY, load_u64(word))
        store_u64(entry, load_u64(found + LOW))
        store_u64(entry + 8, load_u64(found + HIGH))
        store_u64(entry + 16, load_u64(ids))
        store_u64(entry + 24, load_u64(ids + 8) & (_ONE << ID_BITS) - _ONE | uint64(n_id_bytes) << ID_BITS)
        return
    if n_bytes > LONGEST:
        return
    table, shift = load_i64(state + LONG), load_i64(state + LONG_SHIFT)
    record = load_i64(state + ARENA_FREE)
    n_record_bytes = 8 + (n_bytes + 7 & -8) + (n_id_bytes + 7 & -8)
    if record + n_record_bytes > load_i64(state + ARENA_END):
        for word in range(table, table + (int64(LONG_SET) << (64 - shift)), 8):
            store_i64(word, 0)
        record = load_i64(state + ARENA)
    store_i64(state + ARENA_FREE, record + n_record_bytes)
    place = table + LONG_SET * int64(load_u64(found + HASH) >> uint64(shift))
    store_u64(place + 16, load_u64(place))
    store_u64(place + 24, load_u64(place + 8))
    store_u64(place, load_u64(found + HASH))
    store_i64(place + 8, record)
    store_i64(record, n_bytes << 32 | n_id_bytes)
    for start in range(0, n_bytes, 8):
        record += 8
        store_u64(record, _word(found, load_i64(found + ADDRESS), start, n_bytes))
    for start in range(0, n_id_bytes, 8):
        record += 8
        store_u64(record, load_u64(ids + start))


@compiled
def _word(found: int, address: int, start: int, n_bytes: int) -> np.uint64:
    """Eight bytes of a pre-token from `start` on, or its last eight, or all of it if it has no eight."""
    word: np.uint64 = load_u64(address + min(start, n_bytes - 8)) if n_bytes >= 8 else load_u64(found + LOW)
    return word
