"""Where a text may be cut so that its parts can be encoded one by one: at special tokens, and where words end."""

from typing import Final

from numba import int64

from cs336_basics.tokenizer.fast.classes import SPACE
from cs336_basics.tokenizer.fast.machine import entry, load_u8, store_i64
from cs336_basics.tokenizer.fast.scan import character
from cs336_basics.tokenizer.fast.specials import find_special

_APOSTROPHE: Final = ord("'")


@entry
def last_cut(address: int, start: int, end: int) -> int:
    """The last place before `end` where a pre-token ends whatever follows it, and whatever precedes it; else `start`.

    It lies between two characters of different classes of which the first is neither white space, for that may go to
    what follows, nor an apostrophe, for that may begin a contraction. The character at the place must be whole.
    """
    next_kind = int64(-1)
    cut = place = end
    while place > start:
        place -= 1
        first = load_u8(address + place)
        if first & 0xC0 == 0x80:
            continue
        kind, _ = character(address + place)
        if next_kind not in (-1, kind) and kind != SPACE and first != _APOSTROPHE:
            return cut
        cut = place
        next_kind = kind
    return start


@entry
def special_places(address: int, start: int, end: int, table: int, places: int, n_places: int) -> int:
    """Store where the special tokens from `start` to `end` begin and end, `n_places` of them at most.

    Returns how many there are.
    """
    n_found: int = int64(0)
    while n_found < n_places:
        begin, start = find_special(address, start, end, table)
        if begin == end:
            break
        store_i64(places + 16 * n_found, begin)
        store_i64(places + 16 * n_found + 8, start)
        n_found += 1
    return n_found
