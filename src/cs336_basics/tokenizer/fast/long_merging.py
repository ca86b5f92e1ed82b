"""Applying merges to a pre-token of any length, by rules in any order, in machine code: `merge.merge_ids`.

Every place whose pair has a rule waits in the list of its rank, in order from left to right, and the ranks with places
wait in a heap. All addresses and numbers are int64, numbers in memory int32.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import int32, int64

from cs336_basics.tokenizer.fast.machine import compiled, entry, load_i32, load_i64, pasted, store_i32
from cs336_basics.tokenizer.fast.merging import Rules, rank_of

_NONE: Final = -1  # no place, no rank
_ASLEEP: Final = -2  # instead of the first place: the rank is not in the heap

# What is known of a place, each so many bytes from its beginning: its id, the places on either side that are not
# merged away, the rank of its pair, and the places before and after it in the list of that rank.
_PLACE: Final = 24
_TOKEN, _PRECEDING, _FOLLOWING, _ITS_RANK, _EARLIER, _LATER = range(0, _PLACE, 4)

# And of a rank: the first and the last place in its list.
_RANK: Final = 8
_FIRST, _LAST = range(0, _RANK, 4)


def new_ranks(rules: Rules) -> npt.NDArray[np.int32]:
    """What `merge_long` works on beside the pre-token: the lists of all ranks, and room for the heap."""
    return np.full(rules.n_rules * (_RANK // 4 + 1), _ASLEEP, np.int32)


def new_places(n_ids: int) -> npt.NDArray[np.int32]:
    """And for a pre-token of so many ids."""
    return np.empty((n_ids, _PLACE // 4), np.int32)


@entry
def merge_long(rules: int, table: int, shift: int, ranks: int, n_rules: int, places: int, ids: int, n_ids: int) -> int:
    """Merge ids in place and return how many are left, in time n log r for r rules that apply.

    `ranks` is left as it was.
    """
    for place in range(n_ids):
        here = places + _PLACE * place
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
            place = int64(load_i32(ranks + _RANK * rank + _FIRST))
            if place == _NONE:
                break
            here = places + _PLACE * place
            gone, before = int64(load_i32(here + _FOLLOWING)), int64(load_i32(here + _PRECEDING))
            after = int64(load_i32(places + _PLACE * gone + _FOLLOWING))
            _unlist(places, ranks, place)
            _unlist(places, ranks, gone)
            store_i32(here + _TOKEN, int32(load_i64(rules + 16 * rank + 8)))
            store_i32(here + _FOLLOWING, int32(after))
            if after != _NONE:
                store_i32(places + _PLACE * after + _PRECEDING, int32(place))
            if before != _NONE:
                _unlist(places, ranks, before)
                n_heap = _enlist(rules, table, shift, places, ranks, before, heap, n_heap)
            n_heap = _enlist(rules, table, shift, places, ranks, place, heap, n_heap)
        store_i32(ranks + _RANK * rank + _FIRST, int32(_ASLEEP))
    n_left: int = int64(0)
    place = int64(0)
    while place != _NONE:
        store_i32(ids + 4 * n_left, load_i32(places + _PLACE * place + _TOKEN))
        place = int64(load_i32(places + _PLACE * place + _FOLLOWING))
        n_left += 1
    return n_left


@compiled
def _enlist(rules: int, table: int, shift: int, places: int, ranks: int, place: int, heap: int, n_heap: int) -> int:
    """Put a place into the list of its rank, if its pair has a rule; return how many ranks are in the heap."""
    here = places + _PLACE * place
    following = int64(load_i32(here + _FOLLOWING))
    rank = int64(_NONE)
    if following != _NONE:
        left, right = int64(load_i32(here + _TOKEN)), int64(load_i32(places + _PLACE * following + _TOKEN))
        rank = rank_of(rules, table, shift, left, right)
    store_i32(here + _ITS_RANK, int32(rank))
    if rank == _NONE:
        return n_heap
    waiting = ranks + _RANK * rank
    head, last = int64(load_i32(waiting + _FIRST)), int64(load_i32(waiting + _LAST))
    if head == _ASLEEP:
        n_heap = _push(heap, n_heap, rank)
    if head < 0:
        last = int64(_NONE)
        store_i32(waiting + _FIRST, int32(place))
    else:
        store_i32(places + _PLACE * last + _LATER, int32(place))
    store_i32(waiting + _LAST, int32(place))
    store_i32(here + _EARLIER, int32(last))
    store_i32(here + _LATER, int32(_NONE))
    return n_heap


@compiled
def _unlist(places: int, ranks: int, place: int) -> None:
    """Take a place out of the list of its rank, if it is in one."""
    here = places + _PLACE * place
    rank = int64(load_i32(here + _ITS_RANK))
    if rank != _NONE:
        before, after = load_i32(here + _EARLIER), load_i32(here + _LATER)
        if before == _NONE:
            store_i32(ranks + _RANK * rank + _FIRST, after)
        else:
            store_i32(places + _PLACE * int64(before) + _LATER, after)
        if after == _NONE:
            store_i32(ranks + _RANK * rank + _LAST, before)
        else:
            store_i32(places + _PLACE * int64(after) + _EARLIER, before)


@pasted
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


@pasted
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
