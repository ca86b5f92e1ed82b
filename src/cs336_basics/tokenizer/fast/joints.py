"""The merge loop of BPE training, over the joints of words.

A joint is the place between two neighbouring tokens of a word, named by the byte where the right one begins. It holds
the pair that meets there; the ends of a word hold none. So the pairs beside a merge are those one token to the left and
one to the right of its joint, and one array of 4 bytes a place is all there is to know of the words.

A pair lists its joints from left to right, each with the weight of its word. They all come about in one merge, that of
the younger of its tokens, so the list is written once and never grows. A joint in it that holds another pair by now is
passed over; one inside a token keeps the pair that was merged there, which nothing asks for again. The counts of pairs
are exact at any time.
"""

from typing import Final

from numba import int64

from cs336_basics.tokenizer.fast.layout import (
    AFTER,
    BEFORE,
    BLOB,
    COUNT,
    COUNTS,
    ENTRY,
    FIRST_PAIR,
    HEIR,
    JOINTS,
    KEY,
    LENGTH,
    LEVEL,
    LINK,
    LISTS,
    N_BYTE_PAIRS,
    N_CHAINS,
    N_LISTED,
    N_PAIRS,
    N_TOKENS,
    N_WORDS,
    OFFSETS,
    PAIR,
    PAIRS,
    PAIRS_FIT,
    PARTS,
    PREFIX,
    ROW,
    ROWS,
    SIZE,
    START,
    TEXT,
    TOKEN,
    TOKENS,
    TWIN_PAIR,
)
from cs336_basics.tokenizer.fast.machine import (
    compiled,
    entry,
    load_i64,
    load_u8,
    load_u32,
    pasted,
    store_i64,
    store_u32,
)
from cs336_basics.tokenizer.fast.pair_queue import drop, enqueue, next_pair, prefix

_BLOCK: Final = 256
_LOW: Final = 0xFFFFFFFF


@entry
def begin(state: int) -> int:
    """List the joints of all words and queue the pairs of bytes; return the length of the longest list."""
    blob, offsets, counts = load_i64(state + BLOB), load_i64(state + OFFSETS), load_i64(state + COUNTS)
    joints, lists, pairs = load_i64(state + JOINTS), load_i64(state + LISTS), load_i64(state + PAIRS)
    for word in range(load_i64(state + N_WORDS)):
        weight = load_i64(counts + 8 * word)
        for at in range(load_i64(offsets + 8 * word) + 1, load_i64(offsets + 8 * word + 8)):
            pair = FIRST_PAIR + 256 * load_u8(blob + at - 1) + load_u8(blob + at)
            store_u32(joints + 4 * at, pair)
            record = pairs + PAIR * pair
            store_i64(record + COUNT, load_i64(record + COUNT) + weight)
            store_u32(record + LENGTH, load_u32(record + LENGTH) + 1)
    longest = n_listed = 0
    for both in range(N_BYTE_PAIRS):
        record = pairs + PAIR * (FIRST_PAIR + both)
        store_i64(record + KEY, (both >> 8) << 32 | both & 255)
        store_u32(record + START, n_listed)
        store_u32(record + LINK, n_listed)
        n_listed += load_u32(record + LENGTH)
        longest = max(longest, int64(load_u32(record + LENGTH)))
    for word in range(load_i64(state + N_WORDS)):
        weight = load_i64(counts + 8 * word)
        if weight >> 31:
            weight = ~word  # the count does not fit here: _weight looks it up
        for at in range(load_i64(offsets + 8 * word) + 1, load_i64(offsets + 8 * word + 8)):
            record = pairs + PAIR * load_u32(joints + 4 * at)
            store_i64(lists + 8 * load_u32(record + LINK), weight << 32 | at)
            store_u32(record + LINK, load_u32(record + LINK) + 1)
    store_i64(state + N_LISTED, n_listed)
    store_i64(state + N_PAIRS, FIRST_PAIR + N_BYTE_PAIRS)
    store_i64(state + LEVEL, N_CHAINS)
    for pair in range(FIRST_PAIR, FIRST_PAIR + N_BYTE_PAIRS):
        enqueue(state, pair)
    return longest


@entry
def run(state: int, n_tokens: int) -> int:
    """Merge until there are `n_tokens` or pairs run out, and return 0.

    Where PAIRS and HEAP may become too small, return for how many pairs they must have room; then call again.
    """
    while load_i64(state + N_TOKENS) < n_tokens:
        pair = next_pair(state)
        if not pair:
            break
        n_joints = int64(load_u32(load_i64(state + PAIRS) + PAIR * pair + LENGTH))
        # On either side of the merged token may stand any token, itself too.
        needed: int = load_i64(state + N_PAIRS) + 2 * min(n_joints, load_i64(state + N_TOKENS) + 1)
        if needed > load_i64(state + PAIRS_FIT):
            return needed
        drop(state)
        _merge(state, pair)
    return 0


@pasted
def _merge(state: int, pair: int) -> None:
    """Merge a pair everywhere, from left to right, into a new token."""
    pairs, tokens = load_i64(state + PAIRS), load_i64(state + TOKENS)
    key = load_i64(pairs + PAIR * pair + KEY)
    merged = load_i64(state + N_TOKENS)
    left_size = load_i64(tokens + TOKEN * (key >> 32) + SIZE)
    right_size = load_i64(tokens + TOKEN * (key & _LOW) + SIZE)
    n_rows = _take(state, pair, left_size, right_size)
    token, size = tokens + TOKEN * merged, left_size + right_size
    text = load_i64(state + BLOB) + (load_i64(load_i64(state + ROWS) + ENTRY) & _LOW) - left_size
    store_i64(token + PARTS, key)
    store_i64(token + TEXT, text)
    store_i64(token + SIZE, size)
    store_i64(token + PREFIX, prefix(text, size))
    store_i64(state + N_TOKENS, merged + 1)
    store_i64(pairs + PAIR * TWIN_PAIR + KEY, merged << 32)
    start = int64(load_u32(pairs + PAIR * pair + START))
    end = start + load_u32(pairs + PAIR * pair + LENGTH)
    start = _settle(state, n_rows, -left_size, merged, start, end)
    _settle(state, n_rows, right_size, merged, start, end)


@pasted
def _take(state: int, pair: int, left_size: int, right_size: int) -> int:
    """Write a row for each joint of `pair` that is merged, and return how many."""
    joints, pairs = load_i64(state + JOINTS), load_i64(state + PAIRS)
    rows: int = load_i64(state + ROWS)
    record = pairs + PAIR * pair
    key = load_i64(record + KEY)
    start = load_i64(state + LISTS) + 8 * load_u32(record + START)
    end = start + 8 * load_u32(record + LENGTH)
    done = rows  # where the rows of all joints so far end
    last_end = -1  # where the last merged token ends
    for block in range(start, end, 8 * _BLOCK):
        # First gather what still holds the pair, without a branch: so the processor reads many joints at once from
        # memory, where each branch would wait for its own.
        gathered = done
        for listed in range(block, min(block + 8 * _BLOCK, end), 8):
            store_i64(gathered + ENTRY, load_i64(listed))
            gathered += ROW * int64(load_u32(joints + 4 * (load_i64(listed) & _LOW)) == pair)
        for row in range(done, gathered, ROW):
            listed = load_i64(row + ENTRY)
            joint = listed & _LOW
            if key >> 32 == key & _LOW and joint == last_end:
                continue  # in a run of one token: its left one went into the last merge
            before = int64(load_u32(joints + 4 * (joint - left_size)))
            if before and joint - left_size == last_end:
                # Two merged tokens side by side: their pair is made on the left side of this one only.
                store_u32(done - ROW + AFTER, 0)
                _add(pairs + PAIR * before + COUNT, -_weight(state, listed))
                before = TWIN_PAIR
            store_i64(done + ENTRY, listed)
            store_u32(done + BEFORE, before)
            store_u32(done + AFTER, load_u32(joints + 4 * (joint + right_size)))
            last_end = joint + right_size
            done += ROW
    return (done - rows) // ROW


@compiled
def _settle(state: int, n_rows: int, shift: int, merged: int, start: int, end: int) -> int:
    """Put new pairs in place of those on one side of the merged tokens, list their joints, and queue them.

    The joints lie `shift` bytes from those of the rows. The new lists take the room of the merged pair's, LISTS[start:
    end], where they fit, and go behind all others where not. Returns up to where that room is then in use.
    """
    joints, lists, pairs = load_i64(state + JOINTS), load_i64(state + LISTS), load_i64(state + PAIRS)
    side = BEFORE if shift < 0 else AFTER
    rows = load_i64(state + ROWS)
    first = n_pairs = load_i64(state + N_PAIRS)
    for row in range(rows, rows + ROW * n_rows, ROW):
        if load_u32(row + side):
            old = pairs + PAIR * load_u32(row + side)
            if load_u32(old + HEIR) < first:
                store_u32(old + HEIR, n_pairs)
                new, key = pairs + PAIR * n_pairs, load_i64(old + KEY)
                store_i64(new + KEY, (key >> 32) << 32 | merged if shift < 0 else merged << 32 | key & _LOW)
                store_i64(new + COUNT, 0)
                store_u32(new + LENGTH, 0)
                store_u32(new + HEIR, 0)
                n_pairs += 1
            new = pairs + PAIR * load_u32(old + HEIR)
            weight = _weight(state, load_i64(row + ENTRY))
            _add(old + COUNT, -weight)
            _add(new + COUNT, weight)
            store_u32(new + LENGTH, load_u32(new + LENGTH) + 1)
            store_u32(row + side, load_u32(old + HEIR))
    n_listed = load_i64(state + N_LISTED)
    for new in range(pairs + PAIR * first, pairs + PAIR * n_pairs, PAIR):
        place, length = n_listed, load_u32(new + LENGTH)
        if start + length <= end:
            place = start
            start += length
        else:
            n_listed += length
        store_u32(new + START, place)
        store_u32(new + LINK, place)
    for row in range(rows, rows + ROW * n_rows, ROW):
        if load_u32(row + side):
            new = pairs + PAIR * load_u32(row + side)
            entry = load_i64(row + ENTRY) + shift
            store_u32(joints + 4 * (entry & _LOW), load_u32(row + side))
            store_i64(lists + 8 * load_u32(new + LINK), entry)
            store_u32(new + LINK, load_u32(new + LINK) + 1)
    store_i64(state + N_LISTED, n_listed)
    store_i64(state + N_PAIRS, n_pairs)
    for pair in range(first, n_pairs):
        enqueue(state, pair)
    return start


@compiled
def _weight(state: int, entry: int) -> int:
    """How often the word occurs in which the joint of an entry lies."""
    weight = entry >> 32
    return weight if weight >= 0 else load_i64(load_i64(state + COUNTS) + 8 * ~weight)


@compiled
def _add(address: int, number: int) -> None:
    store_i64(address, load_i64(address) + number)
