"""Where the merge loop keeps what: numbers of its state and fields of its records, as offsets in bytes."""

from typing import Final

# The state, of 8-byte numbers: first the addresses of arrays.
BLOB: Final = 0  # u8: the bytes of all words
OFFSETS: Final = 8  # i64: where each word begins in them, and where the last one ends
COUNTS: Final = 16  # i64: how often each word occurs
JOINTS: Final = 24  # u32 for each byte of the blob and its end: pair, or 0
LISTS: Final = 32  # i64: the entries of all pairs, weight << 32 | joint
PAIRS: Final = 40  # records
TOKENS: Final = 48  # records: the 256 bytes, then one for each merge
HEAP: Final = 56  # slots, counted from 1; slot 0 is for one on its way
CHAINS: Final = 64  # u32: the first pair of each chain, or 0
ROWS: Final = 72  # rows, one for each joint of the merge at hand
N_WORDS: Final = 80
N_TOKENS: Final = 88
N_PAIRS: Final = 96
N_LISTED: Final = 104  # how much of LISTS is in use
N_HEAP: Final = 112
LEVEL: Final = 120  # the heap holds every pair whose chain is this one or a higher one
PAIRS_FIT: Final = 128  # how many records PAIRS has room for
STATE: Final = 136

# A pair of tokens. Counts are what it has now, weighted by the words it stands in.
PAIR: Final = 32
KEY: Final = 0  # i64: left token << 32 | right token
COUNT: Final = 8  # i64
START: Final = 16  # u32: where its list begins
LENGTH: Final = 20  # u32: of its list
LINK: Final = 24  # u32: the next pair in its chain, or 0; while its list is written, where the next entry goes
HEIR: Final = 28  # u32: the last pair that it turned into beside a merge

TWIN_PAIR: Final = 1  # what stands between two tokens just merged, until their pair has a record; 0 is no pair
FIRST_PAIR: Final = 2  # from here on one for every two bytes, then the pairs that merges make
N_BYTE_PAIRS: Final = 1 << 16

# A token.
TOKEN: Final = 32
PARTS: Final = 0  # i64: the key of the pair it was merged from
TEXT: Final = 8  # i64, address: its bytes
SIZE: Final = 16  # i64, bytes
PREFIX: Final = 24  # i64: its first 7 bytes as one number, zeros behind a shorter one

# A pair in the heap.
SLOT: Final = 24
BOUND: Final = 0  # i64: its count when it went in
FIRST: Final = 8  # i64: the prefix of its left token
WHICH: Final = 16  # i64, pair

# A joint that is merged.
ROW: Final = 16
ENTRY: Final = 0  # i64: weight << 32 | joint
BEFORE: Final = 8  # u32: the pair one token to the left, then the one that takes its place; 0 if there is none
AFTER: Final = 12  # u32: the same to the right

N_CHAINS: Final = 2048
