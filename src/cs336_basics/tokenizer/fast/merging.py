"""Applying merges to one pre-token, in machine code: `merge.merge_ids` is the specification.

The rules lie in a hash table from a pair of ids to the value of its rule, rank and merged id in one int64 of which the
rank is the upper half, so that the lowest value is the rule to apply. All addresses and numbers are int64.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import int32, int64, uint64

from cs336_basics.tokenizer.fast.machine import compiled, inlined, load_i32, load_i64, store_i32, store_i64

NO_RULE: Final = (1 << 63) - 1
_MIXER: Final = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio, odd: Knuth's multiplicative hashing
_FREE: Final = -1  # no pair of ids
_HALF: Final = 32
_LOWER_HALF: Final = (1 << _HALF) - 1

_NONE: Final = -1  # no place, no rank
_ASLEEP: Final = -2  # instead of the first place: the rank is not in the heap

# What merge_long knows of a place, in int32; where each stands, in bytes.
_PLACE_INTS: Final = 6
_PLACE: Final = 4 * _PLACE_INTS
_TOKEN, _FOLLOWING, _PRECEDING, _ITS_RANK, _NEXT, _LAST_ONE = range(0, _PLACE, 4)

# And of a rank: the first and the last place that wait, and the merged id.
_RANK_INTS: Final = 3
_RANK: Final = 4 * _RANK_INTS
_HEAD, _LAST, _MERGED = range(0, _RANK, 4)


class Rules:
    """Merge rules (left, right, merged) in order of rank, as tables for `merge_short` and `merge_long`.

    `table` and `shift` may be shared; `ranks` is what `merge_long` works on, so each thread needs its own.
    """

    def __init__(self, rules: Sequence[tuple[int, int, int]]) -> None:
        self.n_rules = len(rules)
        n_bits = (2 * self.n_rules + 1).bit_length()
        self.shift = 64 - n_bits
        self.table = np.full((1 << n_bits, 2), _FREE, np.int64)
        flat = np.array(rules, np.int64).reshape(-1, 3)
        self._merged = flat[:, 2].astype(np.int32)
        _fill(self.table.ctypes.data, self.shift, flat.ctypes.data, self.n_rules)

    def new_ranks(self) -> npt.NDArray[np.int32]:
        """What `merge_long` works on: head, end and merged id of every rank, and room for the heap."""
        lists = np.full((self.n_rules, _RANK_INTS), _ASLEEP, np.int32)
        lists[:, _MERGED // 4] = self._merged
        return np.concatenate([lists.ravel(), np.empty(self.n_rules, np.int32)])


@compiled
def _fill(table: int, shift: int, rules: int, n_rules: int) -> None:
    """Put the rules, three int64 each, into the table."""
    for rank in range(n_rules):
        rule = rules + 24 * rank
        key = load_i64(rule) << _HALF | load_i64(rule + 8)
        slot = _slot(table, shift, key)
        store_i64(slot, key)
        store_i64(slot + 8, rank << _HALF | load_i64(rule + 16))


@inlined
def _slot(table: int, shift: int, key: int) -> int:
    """The address of the key, or of the free place for it: the table is never more than half full."""
    last = (int64(1) << (int64(64) - shift)) - 1
    index = int64(uint64(key) * _MIXER >> uint64(shift))
    while True:
        slot = table + 16 * index
        found = load_i64(slot)
        if found == key or found == _FREE:
            return slot
        index = (index + 1) & last


@compiled
def rule_of(table: int, shift: int, left: int, right: int) -> int:
    """The value of the rule for a pair, `NO_RULE` if it has none."""
    key = left << _HALF | right
    slot = _slot(table, shift, key)
    return load_i64(slot + 8) if load_i64(slot) == key else NO_RULE


@compiled
def merge_short(table: int, shift: int, ids: int, values: int, n_ids: int) -> int:
    """Merge the int32 `ids` in place and return how many are left; `values` has room for as many int64.

    It looks at every id for every rule applied.
    """
    for place in range(n_ids - 1):
        left, right = int64(load_i32(ids + 4 * place)), int64(load_i32(ids + 4 * place + 4))
        store_i64(values + 8 * place, rule_of(table, shift, left, right))
    while True:
        best = int64(NO_RULE)
        first = int64(0)
        for place in range(n_ids - 1):
            value = load_i64(values + 8 * place)
            if value < best:
                best = value
                first = place
        if best == NO_RULE:
            return n_ids
        n_ids = _apply_everywhere(table, shift, ids, values, n_ids, best, first)


@compiled
def _apply_everywhere(table: int, shift: int, ids: int, values: int, n_ids: int, best: int, first: int) -> int:
    """Apply the rule of value `best` from place `first` on, from left to right; return the number of ids left."""
    merged = best & _LOWER_HALF
    read = written = first
    merged_before = False
    while read < n_ids:
        value = load_i64(values + 8 * read) if read < n_ids - 1 else int64(NO_RULE)
        merges = value == best
        token = merged if merges else int64(load_i32(ids + 4 * read))
        if written > 0 and (merges or merged_before):
            left = int64(load_i32(ids + 4 * written - 4))
            store_i64(values + 8 * written - 8, rule_of(table, shift, left, token))
        store_i32(ids + 4 * written, int32(token))
        store_i64(values + 8 * written, value)  # if it merges: written anew by the next one
        merged_before = merges
        read += 2 if merges else 1
        written += 1
    return written


@compiled
def merge_long(table: int, shift: int, ranks: int, n_rules: int, ids: int, n_ids: int) -> int:
    """Merge the int32 `ids` in place and return how many are left, in time n log r for r rules.

    Every place whose pair has a rule waits in the list of its rank, and the ranks with places wait in a heap. `ranks`
    is that of `Rules`, and is left as it was.
    """
    memory = np.empty(_PLACE_INTS * n_ids, np.int32)
    places = int64(memory.ctypes.data)
    for place in range(n_ids):
        here = places + _PLACE * place
        store_i32(here + _TOKEN, load_i32(ids + 4 * place))
        store_i32(here + _FOLLOWING, int32(place + 1 if place + 1 < n_ids else _NONE))
        store_i32(here + _PRECEDING, int32(place - 1))
    heap = ranks + _RANK * n_rules
    n_heap = int64(0)
    for place in range(n_ids):
        n_heap = _enlist(table, shift, places, ranks, place, heap, n_heap)
    while n_heap:
        rank = int64(load_i32(heap))
        n_heap = _pop(heap, n_heap)
        while True:
            place = int64(load_i32(ranks + _RANK * rank + _HEAD))
            if place == _NONE:
                break
            here = places + _PLACE * place
            gone, before = int64(load_i32(here + _FOLLOWING)), int64(load_i32(here + _PRECEDING))
            after = int64(load_i32(places + _PLACE * gone + _FOLLOWING))
            _unlist(places, ranks, place)
            _unlist(places, ranks, gone)
            store_i32(here + _TOKEN, load_i32(ranks + _RANK * rank + _MERGED))
            store_i32(here + _FOLLOWING, int32(after))
            if after != _NONE:
                store_i32(places + _PLACE * after + _PRECEDING, int32(place))
            if before != _NONE:
                _unlist(places, ranks, before)
                n_heap = _enlist(table, shift, places, ranks, before, heap, n_heap)
            n_heap = _enlist(table, shift, places, ranks, place, heap, n_heap)
        store_i32(ranks + _RANK * rank + _HEAD, int32(_ASLEEP))
    place = n_left = int64(0)
    while place != _NONE:
        store_i32(ids + 4 * n_left, load_i32(places + _PLACE * place + _TOKEN))
        place = int64(load_i32(places + _PLACE * place + _FOLLOWING))
        n_left += 1
    return n_left


@compiled
def _enlist(table: int, shift: int, places: int, ranks: int, place: int, heap: int, n_heap: int) -> int:
    """Put a place at the end of the list of its rank, if its pair has a rule; return the number of ranks in the heap."""
    here = places + _PLACE * place
    following = int64(load_i32(here + _FOLLOWING))
    value = int64(NO_RULE)
    if following != _NONE:
        left, right = int64(load_i32(here + _TOKEN)), int64(load_i32(places + _PLACE * following + _TOKEN))
        value = rule_of(table, shift, left, right)
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
        store_i32(places + _PLACE * last + _NEXT, int32(place))
    store_i32(waiting + _LAST, int32(place))
    store_i32(here + _ITS_RANK, int32(rank))
    store_i32(here + _LAST_ONE, int32(last))
    store_i32(here + _NEXT, int32(_NONE))
    return n_heap


@compiled
def _unlist(places: int, ranks: int, place: int) -> None:
    """Take a place out of the list of its rank, if it is in one."""
    here = places + _PLACE * place
    rank = int64(load_i32(here + _ITS_RANK))
    if rank != _NONE:
        before, after = load_i32(here + _LAST_ONE), load_i32(here + _NEXT)
        if before == _NONE:
            store_i32(ranks + _RANK * rank + _HEAD, after)
        else:
            store_i32(places + _PLACE * int64(before) + _NEXT, after)
        if after == _NONE:
            store_i32(ranks + _RANK * rank + _LAST, before)
        else:
            store_i32(places + _PLACE * int64(after) + _LAST_ONE, before)


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
