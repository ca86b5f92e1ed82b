"""Applying merges to one pre-token, in machine code: `merge.merge_ids` is the specification.

All addresses and numbers are int64, ids in memory int32.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numba import int32, int64, uint16, uint32, uint64

from cs336_basics.tokenizer.fast.bits import leading_zeros, lowest_of_16, trailing_zeros
from cs336_basics.tokenizer.fast.machine import (
    compiled,
    load_i32,
    load_i64,
    load_u8,
    store_i32,
    store_u16,
    store_u32,
)

SHORT: Final = 64
"""The most ids that `merge_short` takes."""

_NONE: Final = -1  # no rank, no place
_NO_VALUE: Final = 0xFFFFFFFF & _NONE * SHORT  # and above: no rule
_MOST_RULES: Final = 0xFFFFFFFF // SHORT
_MIXER: Final = np.uint64(0x9E3779B97F4A7C15)  # odd, with bits all over: from the golden ratio
_ONE: Final = np.uint64(1)
_ALL: Final = np.uint64(0xFFFFFFFFFFFFFFFF)


class Rules:
    """Merge rules (left, right, merged) in order of rank, as `rank_of` takes them; nothing here ever changes.

    A rule is two int64, the pair of ids in one of them and the merged id. `table` holds int32 ranks, each where the
    hash of its pair says or in the next free place; three quarters or more are free, for most pairs have no rule.
    """

    def __init__(self, rules: Sequence[tuple[int, int, int]]) -> None:
        self.n_rules = len(rules)
        self.rules = np.array([(left << 32 | right, merged) for left, right, merged in rules], np.int64)
        n_bits = (4 * self.n_rules + 1).bit_length()
        self.shift = 64 - n_bits
        self.table = np.full(1 << n_bits, _NONE, np.int32)
        ranks = np.arange(self.n_rules, dtype=np.int32)
        places = (self.rules.reshape(-1, 2)[:, 0].astype(np.uint64) * _MIXER >> np.uint64(self.shift)).astype(np.int64)
        while len(ranks):
            free = self.table[places] == _NONE
            self.table[places[free]] = ranks[free]
            waiting = self.table[places] != ranks  # another one has the place
            ranks, places = ranks[waiting], (places[waiting] + 1) % len(self.table)
        # In the order in which training finds them: the parts of a rule come about at lower ranks. Then no rule
        # makes one of a lower rank possible, which merge_short relies on.
        made_at = {merged: rank for rank, (_, _, merged) in enumerate(rules)}
        self.in_order = self.n_rules <= _MOST_RULES and all(
            max(made_at.get(left, _NONE), made_at.get(right, _NONE)) < rank
            for rank, (left, right, _) in enumerate(rules)
        )


@compiled
def rank_of(rules: int, table: int, shift: int, left: int, right: int) -> int:
    """The rank of the rule for a pair, -1 if it has none."""
    pair = left << 32 | right
    index = int64(uint64(pair) * _MIXER >> uint64(shift))
    while True:
        rank: int = int64(load_i32(table + 4 * index))
        if rank == _NONE or load_i64(rules + 16 * rank) == pair:
            return rank
        index = index + 1 & (int64(1) << (64 - shift)) - 1


@compiled
def merge_short(
    rules: int, table: int, shift: int, byte_ids: int, scratch: int, address: int, n_bytes: int, id_bytes: int, out: int
) -> int:
    """Write the ids of a pre-token of up to `SHORT` bytes, by rules in order, to `out`, and return where they end.

    The value of a place is the rank of its pair, and the place itself in the lowest bits: the lowest of all values
    tells what to merge. Ids stay where they are while they are merged. `byte_ids` has the int32 id of each byte,
    `scratch` room for two int32 for each of `SHORT` places, and an id takes 2 or 4 bytes at `out`.
    """
    ids, values = scratch, scratch + 4 * SHORT
    for value in range(values, values + 4 * SHORT, 4):
        store_u32(value, uint32(_NO_VALUE))
    right = int64(load_i32(byte_ids + 4 * int64(load_u8(address))))
    store_i32(ids, int32(right))
    for place in range(n_bytes - 1):
        left = right
        right = int64(load_i32(byte_ids + 4 * int64(load_u8(address + place + 1))))
        store_i32(ids + 4 * place + 4, int32(right))
        store_u32(values + 4 * place, uint32(rank_of(rules, table, shift, left, right) * SHORT + place))
    here = _ALL >> uint64(64 - n_bytes)  # bit i for the id at place i
    while True:
        lowest = uint32(_NO_VALUE)
        for chunk in range(values, values + 4 * n_bytes, 64):
            lowest = min(lowest, lowest_of_16(chunk))
        if lowest >= _NO_VALUE:
            break
        place = int64(lowest) & SHORT - 1
        merged = load_i64(rules + 16 * (int64(lowest) // SHORT) + 8)
        after = here & ~_ONE << uint64(place)
        gone = trailing_zeros(after)
        here ^= _ONE << uint64(gone)
        after ^= _ONE << uint64(gone)
        before = here & (_ONE << uint64(place)) - _ONE
        store_i32(ids + 4 * place, int32(merged))
        store_u32(values + 4 * gone, uint32(_NO_VALUE))
        rank = int64(_NONE)
        if after:
            rank = rank_of(rules, table, shift, merged, int64(load_i32(ids + 4 * trailing_zeros(after))))
        store_u32(values + 4 * place, uint32(rank * SHORT + place))
        if before:
            place = 63 - leading_zeros(before)
            rank = rank_of(rules, table, shift, int64(load_i32(ids + 4 * place)), merged)
            store_u32(values + 4 * place, uint32(rank * SHORT + place))
    while here:
        index = load_i32(ids + 4 * trailing_zeros(here))
        here &= here - _ONE
        if id_bytes == 2:
            store_u16(out, uint16(index))
        else:
            store_i32(out, index)
        out += id_bytes
    return out
