"""Applying merges to one pre-token."""

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise

_NONE = -1  # no token: merged away, or beyond an end


def merge_ids(
    ids: Sequence[int], ranks: Mapping[tuple[int, int], int], rules: Sequence[tuple[int, int, int]]
) -> list[int]:
    """Merge neighbours until no rule applies: the rule of the lowest rank first, everywhere, from left to right.

    `rules[rank]` is (left, right, merged) and `ranks[left, right]` its place in the list. Places wait in one
    bucket for each rank, and a place whose neighbours have changed meanwhile is passed over, so the time is
    n log n whatever the text: no word is scanned again for each merge.

    >>> merge_ids([1, 1, 1, 2], {(1, 1): 0, (1, 2): 1}, [(1, 1, 3), (1, 2, 4)])
    [3, 4]
    """
    buckets: dict[int, list[int]] = {}
    for place, pair in enumerate(pairwise(ids)):
        if (rank := ranks.get(pair)) is not None:
            buckets.setdefault(rank, []).append(place)
    token = [*ids, _NONE]  # token[-1], before the first, and token[n], after the last, are this one
    following = list(range(1, len(token)))
    preceding = list(range(-1, len(ids)))
    waiting = list(buckets)
    heapify(waiting)
    while waiting:
        rank = heappop(waiting)
        left, right, merged = rules[rank]
        # In order from left to right: all copies of a token come about in one such pass, so their pairs do too.
        for place in buckets.pop(rank):
            if token[place] != left or token[following[place]] != right:
                continue
            gone, before = following[place], preceding[place]
            after = following[gone]
            token[place], token[gone] = merged, _NONE
            following[place], preceding[after] = after, place
            for where, pair in ((before, (token[before], merged)), (place, (merged, token[after]))):
                if (new_rank := ranks.get(pair)) is not None:
                    if new_rank not in buckets:
                        buckets[new_rank] = []
                        heappush(waiting, new_rank)
                    buckets[new_rank].append(where)
    return [kept for kept in token if kept != _NONE]
