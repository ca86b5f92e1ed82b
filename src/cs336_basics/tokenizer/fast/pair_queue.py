"""The pair to merge next: the most frequent first, ties to the lexicographically greatest pair of byte strings.

Pairs wait in chains by the size of their count: a chain for each count below 64, and 32 to each doubling from there on.
Only what may come up soon is sorted: the highest chain goes into a heap, and whatever is made later with a count as
high. Counts only fall, so none in a chain or in the heap is too low, and one that is too high goes back when it comes
up, as in the readable trainer.
"""

from typing import Final

from numba import int64

from cs336_basics.tokenizer.fast.layout import (
    BOUND,
    CHAINS,
    COUNT,
    FIRST,
    HEAP,
    KEY,
    LEVEL,
    LINK,
    N_HEAP,
    PAIR,
    PAIRS,
    PREFIX,
    SIZE,
    SLOT,
    TEXT,
    TOKEN,
    TOKENS,
    WHICH,
)
from cs336_basics.tokenizer.fast.machine import compiled, load_i64, load_u8, load_u32, pasted, store_i64, store_u32

_PREFIX_BYTES: Final = 7  # as many as leave the number positive
_LOW: Final = 0xFFFFFFFF


@compiled
def enqueue(state: int, pair: int) -> None:
    """Put a pair that still occurs into the heap, or into its chain."""
    record = load_i64(state + PAIRS) + PAIR * pair
    count = load_i64(record + COUNT)
    chain = 0
    while count > 63:
        count >>= 1
        chain += 32
    chain += count
    if chain >= load_i64(state + LEVEL):
        _push(state, pair)
    elif chain:
        first = load_i64(state + CHAINS) + 4 * chain
        store_u32(record + LINK, load_u32(first))
        store_u32(first, pair)


@pasted
def next_pair(state: int) -> int:
    """The pair to merge next, still in the heap; 0 if no pair occurs any more."""
    pairs, top = load_i64(state + PAIRS), load_i64(state + HEAP) + SLOT
    while load_i64(state + N_HEAP) or _open_chain(state):
        if load_i64(state + N_HEAP):
            pair: int = load_i64(top + WHICH)
            if load_i64(pairs + PAIR * pair + COUNT) == load_i64(top + BOUND):
                return pair
            drop(state)
            enqueue(state, pair)
    return 0


@compiled
def drop(state: int) -> None:
    """Take the top from the heap."""
    heap, n = load_i64(state + HEAP), load_i64(state + N_HEAP)
    store_i64(state + N_HEAP, n - 1)
    _copy(heap, heap + SLOT * n)
    i, child = 1, 2
    while child < n:
        if child + 1 < n and _precedes(state, heap + SLOT * (child + 1), heap + SLOT * child):
            child += 1
        if not _precedes(state, heap + SLOT * child, heap):
            break
        _copy(heap + SLOT * i, heap + SLOT * child)
        i, child = child, 2 * child
    _copy(heap + SLOT * i, heap)


@compiled
def prefix(text: int, size: int) -> int:
    """The first bytes as one number. Where two texts have different ones, these are in the order of the texts."""
    number = 0
    for i in range(_PREFIX_BYTES):
        number <<= 8
        if i < size:
            number |= load_u8(text + i)
    return number


@pasted
def _open_chain(state: int) -> bool:
    """Let the heap stand for the highest chain, and queue its pairs anew; False if all chains are empty."""
    pairs, chains = load_i64(state + PAIRS), load_i64(state + CHAINS)
    level = load_i64(state + LEVEL) - 1
    while level > 0 and not load_u32(chains + 4 * level):
        level -= 1
    if level <= 0:
        return False
    store_i64(state + LEVEL, level)
    pair = int64(load_u32(chains + 4 * level))
    store_u32(chains + 4 * level, 0)
    while pair:
        following = int64(load_u32(pairs + PAIR * pair + LINK))
        enqueue(state, pair)  # into the heap, or where its count has fallen to
        pair = following
    return True


@compiled
def _push(state: int, pair: int) -> None:
    """Put a pair into the heap."""
    heap, record = load_i64(state + HEAP), load_i64(state + PAIRS) + PAIR * pair
    i = load_i64(state + N_HEAP) + 1
    store_i64(state + N_HEAP, i)
    left = load_i64(record + KEY) >> 32
    store_i64(heap + BOUND, load_i64(record + COUNT))
    store_i64(heap + FIRST, load_i64(load_i64(state + TOKENS) + TOKEN * left + PREFIX))
    store_i64(heap + WHICH, pair)
    while i > 1 and _precedes(state, heap, heap + SLOT * (i >> 1)):
        _copy(heap + SLOT * i, heap + SLOT * (i >> 1))
        i >>= 1
    _copy(heap + SLOT * i, heap)


@compiled
def _copy(slot: int, source: int) -> None:
    store_i64(slot + BOUND, load_i64(source + BOUND))
    store_i64(slot + FIRST, load_i64(source + FIRST))
    store_i64(slot + WHICH, load_i64(source + WHICH))


@compiled
def _precedes(state: int, slot: int, other: int) -> bool:
    """Whether the pair in `slot` comes before the one in `other`; all bytes are read only where the rest is tied."""
    a: int = load_i64(slot + BOUND)
    b: int = load_i64(other + BOUND)
    if a == b:
        a, b = load_i64(slot + FIRST), load_i64(other + FIRST)
    if a != b:
        return a > b
    pairs, tokens = load_i64(state + PAIRS), load_i64(state + TOKENS)
    a, b = load_i64(pairs + PAIR * load_i64(slot + WHICH) + KEY), load_i64(pairs + PAIR * load_i64(other + WHICH) + KEY)
    a, b = (a & _LOW, b & _LOW) if a >> 32 == b >> 32 else (a >> 32, b >> 32)
    text, other_text = load_i64(tokens + TOKEN * a + TEXT), load_i64(tokens + TOKEN * b + TEXT)
    a, b = load_i64(tokens + TOKEN * a + SIZE), load_i64(tokens + TOKEN * b + SIZE)
    alike, shorter = 0, min(a, b)
    while alike + 8 <= shorter and load_i64(text + alike) == load_i64(other_text + alike):
        alike += 8
    for i in range(alike, shorter):
        if load_u8(text + i) != load_u8(other_text + i):
            return bool(load_u8(text + i) > load_u8(other_text + i))
    return a > b  # one that the other begins with is the lesser
