"""Ids of a text without special tokens, in machine code: cut, look up, merge what was not seen before.

Every function takes the address of a `state`: int64 words that say where the tables and caches are (`workspace` fills
them in). Two caches hold results of merging, so that no result depends on them. The short one has sets of two entries
of 32 bytes: a pre-token of up to 15 bytes, its length in the last one, and up to 14 bytes of ids, with how many in the
last two. The long one, for whatever does not fit there, has sets of two (hash, record) and the records in an arena,
which is emptied when it is full.
"""

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import int32, int64, uint16, uint32, uint64, types
from numba.extending import intrinsic

from cs336_basics.tokenizer.fast.blocks import BLOCK, block_starts, trailing_zeros
from cs336_basics.tokenizer.fast.machine import (
    compiled,
    inlined,
    load_i32,
    load_i64,
    load_u8,
    load_u64,
    store_i32,
    store_i64,
    store_u8,
    store_u16,
    store_u32,
    store_u64,
)
from cs336_basics.tokenizer.fast.merging import PLACE, merge_long, merge_short
from cs336_basics.tokenizer.fast.scan import next_end

N_WORDS: Final = 18
"""int64 words of a state, and what each is, as offsets in bytes."""
(
    RULES,
    RULES_TABLE,
    RULES_SHIFT,
    RANKS,
    N_RULES,
    SHORT_MERGES,  # up to how many ids merge_short may merge
    BYTE_IDS,  # int32 for each byte
    ID_BYTES,  # 2 or 4
    SHORT,
    SHORT_SHIFT,
    LONG,
    LONG_SHIFT,
    ARENA,
    ARENA_END,
    ARENA_FREE,
    SCRATCH,  # scratch_bytes(LONGEST)
    LONGEST,  # the longest pre-token, in bytes, that there is room to merge
    AT,  # where in the text encode_span stopped
) = range(0, 8 * N_WORDS, 8)

SHORT_SET: Final = 128
LONG_SET: Final = 32
_ENTRY: Final = 32
SLACK: Final = 16
"""Bytes beyond the last id that may be written."""

_SHORTEST_LONG: Final = 16
_SHORT_ID_BYTES: Final = 14
_LONGEST_CACHED: Final = 256  # longer pre-tokens hardly ever come back
_LONGEST_SHORT_MERGE: Final = 64
_MARGIN: Final = BLOCK + SLACK  # what is read from a place on; nearer to its end, the text is copied
_PAD: Final = 2 * _MARGIN + 8  # bytes at the beginning of the scratch, for the end of the text
_INT32: Final = 4
_BATCH: Final = 64
_FOUND: Final = 40

_ONE: Final = np.uint64(1)
_ALL: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
_EIGHT_BLANKS: Final = np.uint64(0x2020202020202020)
_MIXER: Final = np.uint64(0x9E3779B97F4A7C15)
_OTHER_MIXER: Final = np.uint64(0xC2B2AE3D27D4EB4F)


@compiled
def encode_span(state: int, address: int, start: int, end: int, out: int) -> int:
    """Write the ids of the bytes from `start` to `end` of the text at `address` to `out`; return where they end.

    The bytes must be valid UTF-8 and a pre-token begin at `start`. `out` has room for an id for each byte, and `SLACK`.
    Before a pre-token of more than `LONGEST` bytes it stops; `AT` says where.
    """
    short, shift = load_i64(state + SHORT), uint64(load_i64(state + SHORT_SHIFT))
    found = load_i64(state + SCRATCH) + _PAD
    at = start
    copied = False
    too_long = False
    while at < end and not too_long:
        stop_finding = found + _FOUND * _BATCH
        free = found
        while at < end and free < stop_finding:
            if at + _MARGIN > end and not copied:
                address = _copy_rest(address + at, end - at, load_i64(state + SCRATCH)) - at
                copied = True
            starts = block_starts(address + at)
            if end - at < BLOCK - 2:
                last = _ONE << uint64(end - at)
                starts = starts & (last - _ONE) | last
            block = at
            if starts == 0:
                n_bytes = next_end(address, at, end) - at
                if n_bytes > load_i64(state + LONGEST):
                    too_long = True
                    break
                if n_bytes >= BLOCK:
                    store_i64(free, address + at)
                    store_i64(free + 8, n_bytes)
                    at += n_bytes
                    free += _FOUND
                    continue
                starts = _ONE << uint64(n_bytes)
            while starts:
                stop = block + trailing_zeros(starts)
                starts &= starts - _ONE
                n_bytes = stop - at
                here = address + at
                store_i64(free, here)
                store_i64(free + 8, n_bytes)
                if n_bytes < _SHORTEST_LONG:
                    low, high = _key(here, n_bytes)
                    entries = short + SHORT_SET * _short_index(low, high, shift)
                    prefetch(entries)
                    store_u64(free + 16, low)
                    store_u64(free + 24, high)
                    store_i64(free + 32, entries)
                free += _FOUND
                at = stop
        for place in range(found, free, _FOUND):
            n_bytes = load_i64(place + 8)
            if n_bytes < _SHORTEST_LONG:
                low, high = load_u64(place + 16), load_u64(place + 24)
                entries = load_i64(place + 32)
                differs_first = load_u64(entries) ^ low | load_u64(entries + 8) ^ high
                differs = load_u64(entries + 32) ^ low | load_u64(entries + 40) ^ high
                if differs_first == 0 or differs == 0:
                    entry = entries + (int64(0) if differs_first == 0 else int64(32))
                    ids = load_u64(entry + 24)
                    store_u64(out, load_u64(entry + 16))
                    store_u64(out + 8, ids)
                    out += int64(ids >> uint64(48))
                    continue
            out = _encode_other(state, load_i64(place), n_bytes, out)
    store_i64(state + AT, at)
    return out


@intrinsic
def prefetch(_typing: Any, _address: Any) -> Any:
    """Begin to bring the cache line at an address in."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        word = ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch", [byte], ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        )
        builder.call(function, [builder.inttoptr(args[0], byte), word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@inlined
def _key(address: int, n_bytes: int) -> tuple[np.uint64, np.uint64]:
    """The bytes of a pre-token of up to 15 and their number, as 16 bytes."""
    n_low = min(n_bytes, int64(8))
    low = load_u64(address) & _ALL >> uint64(64 - 8 * n_low)
    mask = _ALL >> uint64(128 - 8 * n_bytes & 63) if n_bytes > 8 else uint64(0)
    return low, load_u64(address + 8) & mask | uint64(n_bytes) << uint64(56)


@inlined
def _short_index(low: np.uint64, high: np.uint64, shift: np.uint64) -> int:
    return int64((low * _MIXER ^ high * _OTHER_MIXER) >> shift)


@compiled
def _copy_rest(address: int, n_bytes: int, pad: int) -> int:
    """Copy the last bytes of a text to where blanks follow them, and return that address."""
    place = int64(0)
    while place + 8 <= n_bytes:
        store_u64(pad + place, load_u64(address + place))
        place += 8
    while place < n_bytes:
        store_u8(pad + place, load_u8(address + place))
        place += 1
    for blank in range(place, n_bytes + _MARGIN, 8):
        store_u64(pad + blank, _EIGHT_BLANKS)
    return pad


@compiled
def _encode_other(state: int, address: int, n_bytes: int, out: int) -> int:
    """Write the ids of a pre-token that is not in the short cache, and put it into one of the two."""
    id_bytes = load_i64(state + ID_BYTES)
    if n_bytes > _LONGEST_CACHED:
        return _merge(state, address, n_bytes, out)
    if n_bytes < _SHORTEST_LONG:
        low, high = _key(address, n_bytes)
        entries = load_i64(state + SHORT) + SHORT_SET * _short_index(low, high, uint64(load_i64(state + SHORT_SHIFT)))
        for entry in range(entries + 64, entries + SHORT_SET, _ENTRY):
            if load_u64(entry) == low and load_u64(entry + 8) == high:
                for word in range(0, _ENTRY, 8):
                    moved = load_u64(entries + _ENTRY + word)
                    store_u64(entries + _ENTRY + word, load_u64(entry + word))
                    store_u64(entry + word, moved)
                ids = load_u64(entries + _ENTRY + 24)
                store_u64(out, load_u64(entries + _ENTRY + 16))
                store_u64(out + 8, ids)
                return out + int64(ids >> uint64(48))
    if n_bytes * id_bytes <= _SHORT_ID_BYTES:
        stop = _merge(state, address, n_bytes, out)
        _keep_short(state, address, n_bytes, out, stop - out)
        return stop
    tag = _hash(address, n_bytes)
    entries = load_i64(state + LONG) + LONG_SET * int64(tag >> uint64(load_i64(state + LONG_SHIFT)))
    for entry in range(entries, entries + LONG_SET, 16):
        if load_u64(entry) == tag:
            record = load_i64(entry + 8)
            if _same(address, n_bytes, record):
                return _copy_ids(record, out)
    stop = _merge(state, address, n_bytes, out)
    if n_bytes < _SHORTEST_LONG and stop - out <= _SHORT_ID_BYTES:
        _keep_short(state, address, n_bytes, out, stop - out)
    else:
        _keep_long(state, address, n_bytes, out, stop - out, tag)
    return stop


@compiled
def _keep_short(state: int, address: int, n_bytes: int, ids: int, n_id_bytes: int) -> None:
    """Put a pre-token into the short cache, in place of the older one of its set."""
    low, high = _key(address, n_bytes)
    shift = uint64(load_i64(state + SHORT_SHIFT))
    entry = load_i64(state + SHORT) + SHORT_SET * _short_index(low, high, shift)
    for word in range(entry + SHORT_SET - _ENTRY - 8, entry - 8, -8):
        store_u64(word + _ENTRY, load_u64(word))
    store_u64(entry, low)
    store_u64(entry + 8, high)
    store_u64(entry + 16, load_u64(ids))
    n_bits = uint64(48)
    store_u64(entry + 24, load_u64(ids + 8) & ((_ONE << n_bits) - _ONE) | uint64(n_id_bytes) << n_bits)


@compiled
def _keep_long(state: int, address: int, n_bytes: int, ids: int, n_id_bytes: int, tag: np.uint64) -> None:
    """Put a pre-token into the long cache, in place of the older one of its set; empty it first if it is full."""
    n_key_words, n_id_words = (n_bytes + 7) >> 3, (n_id_bytes + 7) >> 3
    record = load_i64(state + ARENA_FREE)
    after = record + 8 * (1 + n_key_words + n_id_words)
    table = load_i64(state + LONG)
    if after > load_i64(state + ARENA_END):
        n_sets = int64(1) << (64 - load_i64(state + LONG_SHIFT))
        for word in range(table, table + LONG_SET * n_sets, 8):
            store_i64(word, 0)
        after += load_i64(state + ARENA) - record
        record = load_i64(state + ARENA)
    store_i64(state + ARENA_FREE, after)
    store_i64(record, n_bytes << 32 | n_id_bytes)
    for word in range(n_key_words):
        store_u64(record + 8 + 8 * word, _word(address, n_bytes, word))
    for word in range(n_id_words):
        store_u64(record + 8 + 8 * (n_key_words + word), load_u64(ids + 8 * word))
    entry = table + LONG_SET * int64(tag >> uint64(load_i64(state + LONG_SHIFT)))
    store_u64(entry + 16, load_u64(entry))
    store_u64(entry + 24, load_u64(entry + 8))
    store_u64(entry, tag)
    store_i64(entry + 8, record)


@inlined
def _word(address: int, n_bytes: int, word: int) -> np.uint64:
    """Eight bytes of a pre-token, the last eight if fewer are left; of a pre-token of fewer, all of them."""
    if n_bytes < 8:
        return load_u64(address) & _ALL >> uint64(64 - 8 * n_bytes)
    return load_u64(address + min(8 * word, n_bytes - 8))


@compiled
def _hash(address: int, n_bytes: int) -> np.uint64:
    """A hash of a pre-token, not 0."""
    tag = uint64(n_bytes)
    for word in range((n_bytes + 7) >> 3):
        tag = (tag ^ _word(address, n_bytes, word)) * _MIXER
        tag ^= tag >> uint64(32)
    return tag * _OTHER_MIXER | _ONE


@compiled
def _same(address: int, n_bytes: int, record: int) -> bool:
    """Whether a record is that of this pre-token."""
    if load_i64(record) >> 32 != n_bytes:
        return False
    for word in range((n_bytes + 7) >> 3):
        if load_u64(record + 8 + 8 * word) != _word(address, n_bytes, word):
            return False
    return True


@compiled
def _copy_ids(record: int, out: int) -> int:
    """Write the ids of a record."""
    sizes = load_i64(record)
    ids = record + 8 + 8 * (((sizes >> 32) + 7) >> 3)
    stop = out + (sizes & 0xFFFFFFFF)
    for place in range(out, stop, 8):
        store_u64(place, load_u64(ids + place - out))
    return stop


@compiled
def _merge(state: int, address: int, n_bytes: int, out: int) -> int:
    """Write the ids of a pre-token."""
    rules, table, shift = load_i64(state + RULES), load_i64(state + RULES_TABLE), load_i64(state + RULES_SHIFT)
    byte_ids = load_i64(state + BYTE_IDS)
    ids = load_i64(state + SCRATCH) + _PAD + _FOUND * (_BATCH + BLOCK)
    work = ids + (_INT32 * n_bytes + 7 & -8)
    for place in range(n_bytes):
        store_i32(ids + _INT32 * place, load_i32(byte_ids + _INT32 * int64(load_u8(address + place))))
    if n_bytes > load_i64(state + SHORT_MERGES):
        n_ids = merge_long(rules, table, shift, load_i64(state + RANKS), load_i64(state + N_RULES), ids, work, n_bytes)
    else:
        n_ids = merge_short(rules, table, shift, ids, work, n_bytes)
    id_bytes = load_i64(state + ID_BYTES)
    for place in range(n_ids):
        index = load_i32(ids + 4 * place)
        if id_bytes == 2:
            store_u16(out + 2 * place, uint16(index))
        else:
            store_u32(out + 4 * place, uint32(index))
    return out + id_bytes * n_ids


def scratch_bytes(longest: int) -> int:
    """The size of a scratch for pre-tokens of up to `longest` bytes."""
    return _PAD + _FOUND * (_BATCH + BLOCK) + (_INT32 + PLACE) * longest + 8
