"""The pair to merge next: the most frequent first, ties to the lexicographically greatest pair of byte strings.

Everything lies at addresses, in records of fixed size; the offsets of their fields are named here.
A heap is binary and counts from 1; slot 0 holds the record on its way up or down.
"""

from typing import Final

from cs336_basics.tokenizer.fast.machine import compiled, load_i64, load_u8, load_u32, store_i64

# A pair of tokens, 32 bytes.
PAIR: Final = 32
LEFT: Final = 4  # u32, token: the high half of KEY
RIGHT: Final = 0  # u32, token: the low half of KEY
KEY: Final = 0  # i64: left << 32 | right
COUNT: Final = 8  # i64: how often it occurs now
START: Final = 16  # u32: where its list of joints begins
LENGTH: Final = 20  # u32: of that list
LINK: Final = 24  # u32: the next pair of its chain; while its list is written, where the next joint goes
HEIR: Final = 28  # u32: the last pair that a merge turned it into

# A token, 32 bytes.
TOKEN: Final = 32
PARTS: Final = 0  # i64: the key of the pair it was merged from
TEXT: Final = 8  # i64, address of its bytes
SIZE: Final = 16  # i64, bytes
PREFIX: Final = 24  # i64: its first 7 bytes, the first one highest, padded by zeros

# A pair in the heap, 24 bytes.
SLOT: Final = 24
BOUND: Final = 0  # i64: its count when it went in, never below its count now
FIRST: Final = 8  # i64: the prefix of its left token
WHICH: Final = 16  # i64, pair

_PREFIX_BYTES: Final = 7


@compiled
def push(heap: int, n: int, pair: int, pairs: int, tokens: int) -> None:
    """Put a pair, with the count it has now, into a heap of `n`."""
    store_i64(heap + BOUND, load_i64(pairs + PAIR * pair + COUNT))
    store_i64(heap + FIRST, load_i64(tokens + TOKEN * load_u32(pairs + PAIR * pair + LEFT) + PREFIX))
    store_i64(heap + WHICH, pair)
    i = n + 1
    while i > 1 and _precedes(heap, heap + SLOT * (i >> 1), pairs, tokens):
        _copy(heap + SLOT * i, heap + SLOT * (i >> 1))
        i >>= 1
    _copy(heap + SLOT * i, heap)


@compiled
def drop(heap: int, n: int, pairs: int, tokens: int) -> None:
    """Take the top, slot 1, from a heap of `n`."""
    _copy(heap, heap + SLOT * n)
    i = 1
    while 2 * i < n:
        child = 2 * i
        if child + 1 < n and _precedes(heap + SLOT * (child + 1), heap + SLOT * child, pairs, tokens):
            child += 1
        if not _precedes(heap + SLOT * child, heap, pairs, tokens):
            break
        _copy(heap + SLOT * i, heap + SLOT * child)
        i = child
    _copy(heap + SLOT * i, heap)


@compiled
def prefix(text: int, size: int) -> int:
    """The first 7 bytes as one number: texts are ordered as these are, except where they are equal."""
    found = 0
    for i in range(_PREFIX_BYTES):
        found <<= 8
        if i < size:
            found |= load_u8(text + i)
    return found


@compiled
def _precedes(slot: int, other: int, pairs: int, tokens: int) -> bool:
    """Whether the pair in `slot` comes before that in `other`; bytes are read only where counts are tied."""
    if load_i64(slot + BOUND) != load_i64(other + BOUND):
        return load_i64(slot + BOUND) > load_i64(other + BOUND)
    if load_i64(slot + FIRST) != load_i64(other + FIRST):
        return load_i64(slot + FIRST) > load_i64(other + FIRST)
    a, b = pairs + PAIR * load_i64(slot + WHICH), pairs + PAIR * load_i64(other + WHICH)
    side = LEFT if load_u32(a + LEFT) != load_u32(b + LEFT) else RIGHT
    return _greater(tokens + TOKEN * load_u32(a + side), tokens + TOKEN * load_u32(b + side))


@compiled
def _greater(token: int, other: int) -> bool:
    """Whether the bytes of one token are lexicographically greater than those of another."""
    a, b = load_i64(token + TEXT), load_i64(other + TEXT)
    a_size, b_size = load_i64(token + SIZE), load_i64(other + SIZE)
    for i in range(min(a_size, b_size)):
        if load_u8(a + i) != load_u8(b + i):
            return load_u8(a + i) > load_u8(b + i)
    return a_size > b_size


@compiled
def _copy(slot: int, source: int) -> None:
    store_i64(slot + BOUND, load_i64(source + BOUND))
    store_i64(slot + FIRST, load_i64(source + FIRST))
    store_i64(slot + WHICH, load_i64(source + WHICH))
