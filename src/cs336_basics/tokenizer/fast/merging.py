"""Applying merges to one pre-token, in machine code: `merge.merge_ids` is the specification.

The rules lie in a hash table from a pair of ids to the value of its rule, rank and merged id in one int64 of which the
rank is the upper half, so that the lowest value is the rule to apply. All addresses and numbers are int64.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import int32, int64, uint64

from cs336_basics.tokenizer.fast.blocks import leading_zeros, trailing_zeros
from cs336_basics.tokenizer.fast.machine import compiled, load_i32, load_i64, store_i32, store_i64

NO_RULE: Final = (1 << 63) - 1
_MIXER: Final = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, odd: Knuth's multiplicative hashing
_ONE: Final = np.uint64(1)
_ALL: Final = np.uint64(0xFFFFFFFFFFFFFFFF)
_HALF: Final = 32
_LOWER_HALF: Final = (1 << _HALF) - 1

_NONE: Final = -1  # no place, no rank
_ASLEEP: Final = -2  # instead of the first place: the rank is not in the heap

# What merge_long knows of a place, each an int32 so many bytes from its beginning.
PLACE: Final = 24
_TOKEN, _FOLLOWING, _PRECEDING, _ITS_RANK, _NEXT, _LAST_ONE = range(0, PLACE, 4)

# And of a rank: the first and the last place that wait, and the merged id.
_RANK_INTS: Final = 3
_RANK: Final = 4 * _RANK_INTS
_HEAD, _LAST, _MERGED = range(0, _RANK, 4)


class Rules:
    """Merge rules (left, right, merged) in order of rank, as tables for `merge_short` and `merge_long`.

    `rules` and `table` may be shared; `ranks` is what `merge_long` works on, so each thread needs its own.
    """

    def __init__(self, rules: Sequence[tuple[int, int, int]]) -> None:
        self.n_rules = len(rules)
        n_bits = (4 * self.n_rules + 1).bit_length()
        self.shift = 64 - n_bits
        self.rules = np.array([(left << _HALF | right, merged) for left, right, merged in rules], np.int64)
        self.table = np.full(1 << n_bits, _NONE, np.int32)
        _fill(self.rules.ctypes.data, self.table.ctypes.data, self.shift, self.n_rules)
        made_at = {merged: rank for rank, (_, _, merged) in enumerate(rules)}
        self.in_order = all(
            made_at.get(part, _NONE) < rank for rank, (left, right, _) in enumerate(rules) for part in (left, right)
        )

    def new_ranks(self) -> npt.NDArray[np.int32]:
        """What `merge_long` works on: head, end and merged id of every rank, and room for the heap."""
        lists = np.full((self.n_rules, _RANK_INTS), _ASLEEP, np.int32)
        lists[:, _MERGED // 4] = self.rules.reshape(-1, 2)[:, 1]
        return np.concatenate([lists.ravel(), np.empty(self.n_rules, np.int32)])


@compiled
def _fill(rules: int, table: int, shift: int, n_rules: int) -> None:
    """Put the rules, two int64 each, into the table."""
    last = (int64(1) << (int64(64) - shift)) - 1
    for rank in range(n_rules):
        index = int64(uint64(load_i64(rules + 16 * rank)) * _MIXER >> uint64(shift))
        while load_i32(table + 4 * index) != _NONE:
            index = (index + 1) & last
        store_i32(table + 4 * index, int32(rank))


@compiled
def rule_of(rules: int, table: int, shift: int, left: int, right: int) -> int:
    """The value of the rule for a pair, `NO_RULE` if it has none."""
    key = left << _HALF | right
    index = int64(uint64(key) * _MIXER >> uint64(shift))
    while True:
        rank = int64(load_i32(table + 4 * index))
        if rank == _NONE:
            return NO_RULE
        if load_i64(rules + 16 * rank) == key:
            return rank << _HALF | load_i64(rules + 16 * rank + 8)
        index = (index + 1) & ((int64(1) << (int64(64) - shift)) - 1)


@compiled
def merge_short(rules: int, table: int, shift: int, ids: int, values: int, n_ids: int) -> int:
    """Merge up to 64 int32 `ids` in place and return how many are left; for rules in order.

    It looks at every id for every rule applied. `values` has room for an int64 for each id.
    """
    for place in range(n_ids - 1):
        left, right = int64(load_i32(ids + 4 * place)), int64(load_i32(ids + 4 * place + 4))
        store_i64(values + 8 * place, rule_of(rules, table, shift, left, right))
    store_i64(values + 8 * n_ids - 8, NO_RULE)
    left_over = _ALL >> uint64(64 - n_ids)  # bit i for the id at place i
    while True:
        best = int64(NO_RULE)
        here = int64(0)
        for place in range(n_ids - 1):
            value = load_i64(values + 8 * place)
            here = place if value < best else here
            best = min(value, best)
        if best == NO_RULE:
            break
        merged = best & _LOWER_HALF
        store_i32(ids + 4 * here, int32(merged))
        later = left_over >> uint64(here) >> _ONE
        gone = here + 1 + trailing_zeros(later)
        left_over ^= _ONE << uint64(gone)
        store_i64(values + 8 * gone, NO_RULE)
        later &= later - _ONE
        value = int64(NO_RULE)
        if later:
            right = int64(load_i32(ids + 4 * (here + 1 + trailing_zeros(later))))
            value = rule_of(rules, table, shift, merged, right)
        store_i64(values + 8 * here, value)
        earlier = left_over & ((_ONE << uint64(here)) - _ONE)
        if earlier:
            before = 63 - leading_zeros(earlier)
            left = int64(load_i32(ids + 4 * before))
            store_i64(values + 8 * before, rule_of(rules, table, shift, left, merged))
    n_left = int64(0)
    while left_over:
        store_i32(ids + 4 * n_left, load_i32(ids + 4 * trailing_zeros(left_over)))
        left_over &= left_over - _ONE
        n_left += 1
    return n_left


@compiled
def merge_long(rules: int, table: int, shift: int, ranks: int, n_rules: int, ids: int, places: int, n_ids: int) -> int:
    """Merge the int32 `ids` in place and return how many are left, in time n log r for r rules.

    Every place whose pair has a rule waits in the list of its rank, and the ranks with places wait in a heap. `ranks`
    is that of `Rules`, and is left as it was; `places` has room for `PLACE` bytes for each id.
    """
    for place in range(n_ids):
        here = places + PLACE * place
        store_i32(here + _TOKEN, load_i32(ids + 4 * place))
        store_i32(here + _FOLLOWING, int32(place + 1 if place + 1 < n_ids else _NONE))
        store_i32(here + _PRECEDING, int32(place - 1))
    heap = ranks + _RANK * n_rules
    n_heap = int64(0)
    for place in range(n_ids):
        n_heap = _enlist(rules, table, shift, places, ranks, place, heap, n_heap)
    while n_heap:
        rank = int64(load_i32(heap))
        n_heap = _pop(heap, n_heap)
        while True:
            place = int64(load_i32(ranks + _RANK * rank + _HEAD))
            if place == _NONE:
                break
            here = places + PLACE * place
            gone, before = int64(load_i32(here + _FOLLOWING)), int64(load_i32(here + _PRECEDING))
            after = int64(load_i32(places + PLACE * gone + _FOLLOWING))
            _unlist(places, ranks, place)
            _unlist(places, ranks, gone)
            store_i32(here + _TOKEN, load_i32(ranks + _RANK * rank + _MERGED))
            store_i32(here + _FOLLOWING, int32(after))
            if after != _NONE:
                store_i32(places + PLACE * after + _PRECEDING, int32(place))
            if before != _NONE:
                _unlist(places, ranks, before)
                n_heap = _enlist(rules, table, shift, places, ranks, before, heap, n_heap)
            n_heap = _enlist(rules, table, shift, places, ranks, place, heap, n_heap)
        store_i32(ranks + _RANK * rank + _HEAD, int32(_ASLEEP))
    place = n_left = int64(0)
    while place != _NONE:
        store_i32(ids + 4 * n_left, load_i32(places + PLACE * place + _TOKEN))
        place = int64(load_i32(places + PLACE * place + _FOLLOWING))
        n_left += 1
    return n_left


@compiled
def _enlist(rules: int, table: int, shift: int, places: int, ranks: int, place: int, heap: int, n_heap: int) -> int:
    """Put a place at the end of the list of its rank, if its pair has a rule; return the number of ranks in the heap."""
    here = places + PLACE * place
    following = int64(load_i32(here + _FOLLOWING))
    value = int64(NO_RULE)
    if following != _NONE:
        left, right = int64(load_i32(here + _TOKEN)), int64(load_i32(places + PLACE * following + _TOKEN))
        value = rule_of(rules, table, shift, left, right)
    if value == NO_RULE:
        store_i32(here + _ITS_RANK, int32(_NONE))
        return n_heap
    rank = value >> _HALF
    waiting = ranks + _RANK * rank
    head, last = int64(load_i32(waiting + _HEAD)), int64(load_i32(waiting + _LAST))
    if head == _ASLEEP:
        n_heap = _push(heap, n_heap, rank)
    if head < 0:
        last = int64(_NONE)
        store_i32(waiting + _HEAD, int32(place))
    else:
        store_i32(places + PLACE * last + _NEXT, int32(place))
    store_i32(waiting + _LAST, int32(place))
    store_i32(here + _ITS_RANK, int32(rank))
    store_i32(here + _LAST_ONE, int32(last))
    store_i32(here + _NEXT, int32(_NONE))
    return n_heap


@compiled
def _unlist(places: int, ranks: int, place: int) -> None:
    """Take a place out of the list of its rank, if it is in one."""
    here = places + PLACE * place
    rank = int64(load_i32(here + _ITS_RANK))
    if rank != _NONE:
        before, after = load_i32(here + _LAST_ONE), load_i32(here + _NEXT)
        if before == _NONE:
            store_i32(ranks + _RANK * rank + _HEAD, after)
        else:
            store_i32(places + PLACE * int64(before) + _NEXT, after)
        if after == _NONE:
            store_i32(ranks + _RANK * rank + _LAST, before)
        else:
            store_i32(places + PLACE * int64(after) + _LAST_ONE, before)


@compiled
def _push(heap: int, n_heap: int, rank: int) -> int:
    """Put a rank into the heap, the lowest one first; return the number in it."""
    place = n_heap
    while place:
        parent = (place - 1) >> 1
        above = load_i32(heap + 4 * parent)
        if int64(above) <= rank:
            break
        store_i32(heap + 4 * place, above)
        place = parent
    store_i32(heap + 4 * place, int32(rank))
    return n_heap + 1


@compiled
def _pop(heap: int, n_heap: int) -> int:
    """Take the lowest rank out of the heap; return the number left."""
    n_heap -= 1
    moved = load_i32(heap + 4 * n_heap)
    place = int64(0)
    child = int64(1)
    while child < n_heap:
        if child + 1 < n_heap and load_i32(heap + 4 * child + 4) < load_i32(heap + 4 * child):
            child += 1
        below = load_i32(heap + 4 * child)
        if moved <= below:
            break
        store_i32(heap + 4 * place, below)
        place = child
        child = 2 * place + 1
    store_i32(heap + 4 * place, moved)
    return n_heap
