"""The merge loop of BPE training over the joints of words.

A joint is the place between two neighbouring tokens of a word, named by the byte where the right one begins. It holds
the pair that meets there, 0 at the ends of words. So the pairs beside a merge stand at the joints one token to the left
and to the right of it, and one array of 4 bytes a place says all about the words.

A pair lists its joints from left to right, each with the weight of its word. Every joint of a pair comes about in the
one merge that made the younger of its tokens, so its list is written once, at its full length, and never added to. A
joint that holds another pair by now is passed over. Counts are kept exact in the records of pairs.

The pairs wait in chains by the size of their count: one chain for each count below 64, and above it 32 to every power
of 2. Only those in the heap are sorted: the pairs of the highest chain, and any made since whose count belongs there.
Counts only fall, so one that is too high in the heap goes back with its true count when it comes up.
"""

from typing import Final

from numba import int64

from cs336_basics.tokenizer.fast.heap import (
    BOUND,
    COUNT,
    HEIR,
    KEY,
    LEFT,
    LENGTH,
    LINK,
    PAIR,
    PARTS,
    PREFIX,
    RIGHT,
    SIZE,
    SLOT,
    START,
    TEXT,
    TOKEN,
    WHICH,
    drop,
    prefix,
    push,
)
from cs336_basics.tokenizer.fast.machine import compiled, load_i64, load_u8, load_u32, store_i64, store_u32

# The state: int64 numbers, 8 bytes apart; addresses first.
BLOB: Final = 0  # the bytes of all words
OFFSETS: Final = 8  # i64: where each word begins in them, and the end
COUNTS: Final = 16  # i64: how often each word occurs
JOINTS: Final = 24  # u32 for each byte and the end: pair
LISTS: Final = 32  # i64: weight << 32 | joint
PAIRS: Final = 40  # records, from FIRST_PAIR on
TOKENS: Final = 48  # records: the 256 bytes, then one for each merge
HEAP: Final = 56  # slots
CHAINS: Final = 64  # u32: the first pair of each chain
ROWS: Final = 72  # ROW bytes for each joint of the merge at hand
N_WORDS: Final = 80
N_TOKENS: Final = 88
N_PAIRS: Final = 96
N_LISTED: Final = 104  # how far LISTS is in use
N_HEAP: Final = 112
LEVEL: Final = 120  # the lowest chain that the heap stands for
PAIRS_FIT: Final = 128  # how many records PAIRS has room for
STATE: Final = 136

ROW: Final = 16  # i64: weight << 32 | joint; u32: the pair to the left, then its heir; u32: the same to the right
_LEFT: Final = 8
_RIGHT: Final = 12

N_CHAINS: Final = 2048
FIRST_PAIR: Final = 2  # then one for every two bytes
_TWIN: Final = 1  # stands for the pair of the merged token with itself, while that has no record
_MASK: Final = 0xFFFFFFFF
_BLOCK: Final = 256


@compiled
def begin(state: int) -> int:
    """List the joints of all words and chain the pairs of bytes; return the length of the longest list."""
    blob, offsets, counts = load_i64(state + BLOB), load_i64(state + OFFSETS), load_i64(state + COUNTS)
    joints, lists, pairs = load_i64(state + JOINTS), load_i64(state + LISTS), load_i64(state + PAIRS)
    for word in range(load_i64(state + N_WORDS)):
        weight = load_i64(counts + 8 * word)
        for at in range(load_i64(offsets + 8 * word) + 1, load_i64(offsets + 8 * word + 8)):
            pair = FIRST_PAIR + 256 * load_u8(blob + at - 1) + load_u8(blob + at)
            record = pairs + PAIR * pair
            store_i64(record + COUNT, load_i64(record + COUNT) + weight)
            store_u32(record + LENGTH, load_u32(record + LENGTH) + 1)
            store_u32(joints + 4 * at, pair)
    longest = n_listed = 0
    for both in range(1 << 16):
        record = pairs + PAIR * (FIRST_PAIR + both)
        store_i64(record + KEY, (both >> 8) << 32 | both & 255)
        store_u32(record + START, n_listed)
        store_u32(record + LINK, n_listed)
        n_listed += load_u32(record + LENGTH)
        longest = max(longest, int64(load_u32(record + LENGTH)))
    for word in range(load_i64(state + N_WORDS)):
        weight = load_i64(counts + 8 * word)
        if weight >> 31:
            weight = ~word  # the count does not fit: _weight looks it up
        for at in range(load_i64(offsets + 8 * word) + 1, load_i64(offsets + 8 * word + 8)):
            record = pairs + PAIR * load_u32(joints + 4 * at)
            store_i64(lists + 8 * load_u32(record + LINK), weight << 32 | at)
            store_u32(record + LINK, load_u32(record + LINK) + 1)
    store_i64(state + N_LISTED, n_listed)
    store_i64(state + N_PAIRS, FIRST_PAIR + (1 << 16))
    store_i64(state + LEVEL, N_CHAINS)
    for pair in range(FIRST_PAIR, FIRST_PAIR + (1 << 16)):
        _enqueue(state, pair)
    return longest


@compiled
def run(state: int, n_tokens: int) -> int:
    """Merge until there are `n_tokens` or pairs run out, and return 0; or stop, and return for how many pairs to make
    room."""
    while load_i64(state + N_TOKENS) < n_tokens:
        pair = _next_pair(state)
        if not pair:
            break
        # On each side of the merged token stands one of the tokens, itself included, or none.
        n_joints = int64(load_u32(load_i64(state + PAIRS) + PAIR * pair + LENGTH))
        n_pairs = load_i64(state + N_PAIRS) + 2 * min(n_joints, load_i64(state + N_TOKENS) + 1)
        if n_pairs > load_i64(state + PAIRS_FIT):
            return n_pairs
        _drop_top(state)
        _merge(state, pair)
    return 0


@compiled
def _next_pair(state: int) -> int:
    """The pair at the top of the heap once the top is true; 0 if there is none."""
    pairs, top = load_i64(state + PAIRS), load_i64(state + HEAP) + SLOT
    while load_i64(state + N_HEAP) or _open_chain(state):
        if load_i64(state + N_HEAP):
            pair = load_i64(top + WHICH)
            if load_i64(pairs + PAIR * pair + COUNT) == load_i64(top + BOUND):
                return pair
            _drop_top(state)
            _enqueue(state, pair)
    return 0


@compiled
def _drop_top(state: int) -> None:
    n = load_i64(state + N_HEAP)
    drop(load_i64(state + HEAP), n, load_i64(state + PAIRS), load_i64(state + TOKENS))
    store_i64(state + N_HEAP, n - 1)


@compiled
def _open_chain(state: int) -> bool:
    """Queue the pairs of the highest chain anew, now that the heap stands for it; False if all chains are empty."""
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
        _enqueue(state, pair)
        pair = following
    return True


@compiled
def _enqueue(state: int, pair: int) -> None:
    """Put a pair that still occurs into the heap, or into the chain of its count."""
    pairs, chains = load_i64(state + PAIRS), load_i64(state + CHAINS)
    count = load_i64(pairs + PAIR * pair + COUNT)
    chain = 0
    while count > 63:
        count >>= 1
        chain += 32
    chain += count
    if chain >= load_i64(state + LEVEL):
        push(load_i64(state + HEAP), load_i64(state + N_HEAP), pair, pairs, load_i64(state + TOKENS))
        store_i64(state + N_HEAP, load_i64(state + N_HEAP) + 1)
    elif chain:
        store_u32(pairs + PAIR * pair + LINK, load_u32(chains + 4 * chain))
        store_u32(chains + 4 * chain, pair)


@compiled
def _merge(state: int, pair: int) -> None:
    """Merge a pair everywhere, from left to right, into a new token."""
    pairs, tokens, rows = load_i64(state + PAIRS), load_i64(state + TOKENS), load_i64(state + ROWS)
    record = pairs + PAIR * pair
    merged = load_i64(state + N_TOKENS)
    left, right = load_u32(record + LEFT), load_u32(record + RIGHT)
    left_size, right_size = load_i64(tokens + TOKEN * left + SIZE), load_i64(tokens + TOKEN * right + SIZE)
    store_i64(pairs + PAIR * _TWIN + KEY, merged << 32)
    n_rows = _take(state, pair, left_size, right_size)
    # The bytes of the token are where it stands last.
    token = tokens + TOKEN * merged
    text = load_i64(state + BLOB) + (load_i64(rows + ROW * (n_rows - 1)) & _MASK) - left_size
    store_i64(token + PARTS, load_i64(record + KEY))
    store_i64(token + TEXT, text)
    store_i64(token + SIZE, left_size + right_size)
    store_i64(token + PREFIX, prefix(text, left_size + right_size))
    store_i64(state + N_TOKENS, merged + 1)
    free = int64(load_u32(record + START))
    end = free + load_u32(record + LENGTH)
    free = _settle(state, n_rows, _LEFT, -left_size, merged, free, end)
    _settle(state, n_rows, _RIGHT, right_size, merged, free, end)


@compiled
def _take(state: int, pair: int, left_size: int, right_size: int) -> int:
    """Write a row for each joint of `pair` that is merged, and return how many: the joint, and the pairs beside it."""
    joints, pairs, rows = load_i64(state + JOINTS), load_i64(state + PAIRS), load_i64(state + ROWS)
    record = pairs + PAIR * pair
    start = load_i64(state + LISTS) + 8 * load_u32(record + START)
    end = start + 8 * load_u32(record + LENGTH)
    alike = load_u32(record + LEFT) == load_u32(record + RIGHT)
    last = -right_size - 1  # the joint merged before, at first too far away for all that follows
    to = rows
    for block in range(start, end, 8 * _BLOCK):
        # First all joints of a block that still hold the pair, without branches: so the memory they lie in is read
        # side by side, where a branch would wait for each.
        gathered = to
        for entry in range(block, min(block + 8 * _BLOCK, end), 8):
            store_i64(gathered, load_i64(entry))
            gathered += ROW * int64(load_u32(joints + 4 * (load_i64(entry) & _MASK)) == pair)
        for row in range(to, gathered, ROW):
            joint = load_i64(row) & _MASK
            if alike and joint == last + right_size:
                continue  # its left token went into the merge before
            store_i64(to, load_i64(row))
            before = int64(load_u32(joints + 4 * (joint - left_size)))
            if before and joint - left_size == last + right_size:
                # Two merged tokens side by side: their joint is a left one only.
                store_u32(to - ROW + _RIGHT, 0)
                weight = _weight(state, load_i64(row))
                store_i64(pairs + PAIR * before + COUNT, load_i64(pairs + PAIR * before + COUNT) - weight)
                before = _TWIN
            store_u32(to + _LEFT, before)
            store_u32(to + _RIGHT, load_u32(joints + 4 * (joint + right_size)))
            store_u32(joints + 4 * joint, 0)
            last = joint
            to += ROW
    return (to - rows) // ROW


@compiled
def _settle(state: int, n_rows: int, side: int, shift: int, merged: int, free: int, end: int) -> int:
    """Replace the pairs on one side of the merged tokens by new ones, list their joints, and queue them.

    The new lists go to LISTS[free:end], which the merged pair no longer needs, as long as they fit there, and
    otherwise behind all others. Returns how far that room is then in use.
    """
    joints, lists, pairs = load_i64(state + JOINTS), load_i64(state + LISTS), load_i64(state + PAIRS)
    rows = load_i64(state + ROWS)
    first = n_pairs = load_i64(state + N_PAIRS)
    for row in range(rows, rows + ROW * n_rows, ROW):
        if load_u32(row + side):
            old = pairs + PAIR * load_u32(row + side)
            if load_u32(old + HEIR) < first:
                store_u32(old + HEIR, n_pairs)
                new = pairs + PAIR * n_pairs
                key = load_i64(old + KEY)
                store_i64(new + KEY, (key >> 32) << 32 | merged if side == _LEFT else merged << 32 | key & _MASK)
                store_i64(new + COUNT, 0)
                store_u32(new + LENGTH, 0)
                store_u32(new + HEIR, 0)
                n_pairs += 1
            new = pairs + PAIR * load_u32(old + HEIR)
            weight = _weight(state, load_i64(row))
            store_i64(old + COUNT, load_i64(old + COUNT) - weight)
            store_i64(new + COUNT, load_i64(new + COUNT) + weight)
            store_u32(new + LENGTH, load_u32(new + LENGTH) + 1)
            store_u32(row + side, load_u32(old + HEIR))
    n_listed = load_i64(state + N_LISTED)
    for new in range(pairs + PAIR * first, pairs + PAIR * n_pairs, PAIR):
        length = load_u32(new + LENGTH)
        start = free if free + length <= end else n_listed
        if free + length <= end:
            free += length
        else:
            n_listed += length
        store_u32(new + START, start)
        store_u32(new + LINK, start)
    for row in range(rows, rows + ROW * n_rows, ROW):
        if load_u32(row + side):
            new = pairs + PAIR * load_u32(row + side)
            entry = load_i64(row) + shift
            store_i64(lists + 8 * load_u32(new + LINK), entry)
            store_u32(new + LINK, load_u32(new + LINK) + 1)
            store_u32(joints + 4 * (entry & _MASK), load_u32(row + side))
    store_i64(state + N_LISTED, n_listed)
    store_i64(state + N_PAIRS, n_pairs)
    for pair in range(first, n_pairs):
        _enqueue(state, pair)
    return free


@compiled
def _weight(state: int, entry: int) -> int:
    """How often the word occurs that an entry of a list stands in."""
    weight = entry >> 32
    return weight if weight >= 0 else load_i64(load_i64(state + COUNTS) + 8 * ~weight)
