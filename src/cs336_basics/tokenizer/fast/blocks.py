"""Where pre-tokens begin among 64 bytes, found for all of them at once: one bit for each byte.

GPT-2's pattern looks no further than two characters, so a few shifts of bit masks decide most of it. A mask has bit i
for byte i, and a character beyond ASCII sets the bits of all its bytes. `scan.next_end` says the same, one pre-token
at a time; what the masks leave open is asked of it.
"""

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import int64, types, uint64
from numba.extending import intrinsic

from cs336_basics.tokenizer.fast.bits import trailing_zeros
from cs336_basics.tokenizer.fast.classes import LETTER, NUMBER, SPACE
from cs336_basics.tokenizer.fast.machine import compiled
from cs336_basics.tokenizer.fast.scan import character

BLOCK: Final = 64
"""Bytes in a block."""
READ: Final = BLOCK + 3
"""Bytes that must be readable from the beginning of a block: its last character may go on behind it."""

_ONE: Final = np.uint64(1)
_TWO: Final = np.uint64(2)


def _bytes_within(first: int, last: int, *, either_case: bool = False) -> Any:
    """A function of an address: the mask of the bytes from `first` to `last` in the block there."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        block = ir.VectorType(ir.IntType(8), BLOCK)

        def everywhere(byte: int) -> Any:
            return ir.Constant(block, [byte] * BLOCK)

        values = builder.load(builder.inttoptr(args[0], block.as_pointer()), align=1)
        if either_case:
            values = builder.or_(values, everywhere(ord("a") - ord("A")))
        above = builder.sub(values, everywhere(first))  # below `first` it wraps round to a large number
        return builder.bitcast(builder.icmp_unsigned("<=", above, everywhere(last - first)), ir.IntType(BLOCK))

    return intrinsic(lambda _typing, _address: (types.uint64(types.int64), generate))


_ascii_letters: Final = _bytes_within(ord("a"), ord("z"), either_case=True)
_ascii_numbers: Final = _bytes_within(ord("0"), ord("9"))
_line_ends: Final = _bytes_within(ord("\t"), ord("\r"))
_blanks: Final = _bytes_within(ord(" "), ord(" "))
_apostrophes: Final = _bytes_within(ord("'"), ord("'"))
_d, _e, _l, _m, _r, _s, _t, _v = (_bytes_within(byte, byte) for byte in b"delmrstv")
_leads: Final = _bytes_within(0xC0, 0xFF)


@compiled
def block_starts(address: int, n_left: int) -> np.uint64:
    """The mask of the pre-tokens that begin in the block at `address`, if one begins with the block (bit 0 is 0).

    The last two bytes are left to the next block, and so is what follows white space beyond ASCII: a mask of 0
    says nothing. The text ends after `n_left` bytes; if that is in the block, blanks must follow it, and its end counts
    as a beginning. `READ` bytes must be readable.
    """
    blanks = _blanks(address)
    spaces = blanks | _line_ends(address)
    letters = _ascii_letters(address)
    numbers = _ascii_numbers(address)
    n_known = int64(BLOCK)
    leads = _leads(address)
    while leads:
        place = trailing_zeros(leads)
        leads &= leads - _ONE
        kind, width = character(address + place)
        its_bytes = ((_ONE << uint64(width)) - _ONE) << uint64(place)
        if kind == LETTER:
            letters |= its_bytes
        elif kind == NUMBER:
            numbers |= its_bytes
        elif kind == SPACE:
            n_known = place
            break
    others = ~(letters | numbers | spaces)
    goes_on = letters & letters << _ONE | numbers & numbers << _ONE | others & others << _ONE
    starts: np.uint64 = ~(spaces | goes_on | blanks << _ONE)
    # A run of space begins one, and its last character another: that goes to what follows, or stands alone.
    starts |= spaces & ~(spaces << _ONE) | spaces & ~(spaces >> _ONE)
    apostrophes = _apostrophes(address) & letters >> _ONE & (starts | _ONE)
    if apostrophes:
        second, third = apostrophes << _ONE, apostrophes << _TWO
        of_two = second & (_d(address) | _m(address) | _s(address) | _t(address))
        ll = (second & _l(address)) << _ONE & _l(address)
        of_three = third & (ll | (second & (_r(address) | _v(address))) << _ONE & _e(address))
        starts &= ~(of_two | of_three >> _ONE)
        starts |= of_two << _ONE | of_three << _ONE
    if n_left < BLOCK - 2:
        starts = starts & (_ONE << uint64(n_left)) - _ONE | _ONE << uint64(n_left)
    # Whether one begins at a byte depends on the next byte, and before a contraction on one more.
    n_sure = max(n_known - 2, int64(1))
    starts &= (_ONE << uint64(n_sure)) - _ONE & ~_ONE
    return starts
