"""Learning merges from counted pre-tokens: the fast twin of `merge_counts` in `tokenizer/bpe.py`."""

from collections.abc import Mapping
from itertools import accumulate
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from cs336_basics.tokenizer.checks import check_whole
from cs336_basics.tokenizer.counts import PretokenCounts
from cs336_basics.tokenizer.errors import TokenizerError
from cs336_basics.tokenizer.fast import joints, layout
from cs336_basics.tokenizer.text import Advance

_Array: TypeAlias = npt.NDArray[Any]

_MERGES_A_TIME: Final = 256  # between two reports of progress, which also let Ctrl-C through
_MOST: Final = 1 << 31  # bytes or words: twice as many places in lists are numbered in 32 bits
_MOST_COUNTED: Final = 1 << 62  # bytes of text that words may stand for, so that no sum of counts overflows


def merge_counts(
    counts: Mapping[bytes, int], n_merges: int, *, advance: Advance | None = None
) -> list[tuple[bytes, bytes]]:
    """Learn up to `n_merges` merges from pre-tokens and how often each occurs, as the readable twin does.

    Raises: TokenizerError if n_merges is negative, a count is below 1, or there is more than `learn` takes.

    >>> merge_counts({b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3}, 3)
    [(b's', b't'), (b'e', b'st'), (b'o', b'w')]
    """
    check_whole(n_merges, where="merge_counts: n_merges", least=0)
    _check_counts(min(counts.values(), default=1), max(counts.values(), default=1))
    offsets = np.fromiter(accumulate(map(len, counts), initial=0), np.int64, len(counts) + 1)
    numbers = np.fromiter(counts.values(), np.int64, len(counts))
    return learn(np.frombuffer(b"".join(counts), np.uint8), offsets, numbers, n_merges, advance=advance)


def learn(
    blob: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    n_merges: int,
    *,
    advance: Advance | None = None,
) -> list[tuple[bytes, bytes]]:
    """Learn up to `n_merges` merges from words laid end to end and how often each occurs, in any order.

    Word i is blob[offsets[i]:offsets[i + 1]] and occurs counts[i] times. Time is n log n in the bytes of the blob, and
    follows the vocabulary in bytes where that is larger. Memory is 12 to 20 bytes for each byte of the blob, and up to
    60 for each pair of tokens that ever meets. `advance` is told of merges, some hundreds at a time.

    Shapes: blob (n_bytes,), offsets (n_words + 1,), counts (n_words,).
    Raises: TokenizerError if n_merges is negative, a count is below 1, offsets do not fit, the blob has 2 GiB or more,
        or the words stand for 2**62 bytes of text or more.
    """
    check_whole(n_merges, where="merge_counts: n_merges", least=0)
    _check_counts(int(counts.min(initial=1)), int(counts.max(initial=1)))
    sizes = np.diff(offsets)
    if len(offsets) != len(counts) + 1 or offsets[0] or offsets[-1] != len(blob) or sizes.min(initial=0) < 0:
        raise TokenizerError(f"learn: offsets must be {len(counts) + 1} numbers that rise from 0 to {len(blob)}")
    if max(len(blob), len(counts)) >= _MOST:
        raise TokenizerError(f"merge_counts: counts must hold less than 2 GiB of distinct pre-tokens, got {len(blob)}")
    if (counts * sizes.astype(np.float64)).sum() >= _MOST_COUNTED:
        raise TokenizerError("merge_counts: counts must stand for less than 2**62 bytes of text")
    n_tokens = 256 + min(n_merges, len(blob))
    memory = _Memory(blob, offsets, counts, n_tokens)
    n_done = 256
    while n_done < n_tokens:
        until = min(n_done + _MERGES_A_TIME, n_tokens)
        needed = joints.run(memory.address, until)
        n_new, n_done = memory[layout.N_TOKENS] - n_done, memory[layout.N_TOKENS]
        if advance and n_new:
            advance(n_new)
        if needed:
            memory.make_room(needed)
        elif n_done < until:
            break  # out of pairs
    return memory.merges()


def learn_counts(counts: PretokenCounts, n_merges: int, *, advance: Advance | None = None) -> list[tuple[bytes, bytes]]:
    """`learn` from what `fast.count.count_file` gives."""
    blob = counts.text[: counts.offsets[-1]]
    return learn(blob, counts.offsets, counts.counts, n_merges, advance=advance)


def _check_counts(least: int, most: int) -> None:
    if least < 1:
        raise TokenizerError(f"merge_counts: counts must be 1 or more, got {least}")
    if most >= _MOST_COUNTED:
        raise TokenizerError(f"merge_counts: counts must be less than 2**62, got {most}")


class _Memory:
    """The arrays that compiled code works on. It finds them by their addresses in the state."""

    def __init__(self, blob: _Array, offsets: _Array, counts: _Array, n_tokens: int) -> None:
        self._state = np.zeros(layout.STATE // 8, np.int64)
        self._arrays: dict[int, _Array] = {}
        self.address: int = self._state.ctypes.data
        self._hold(layout.BLOB, np.ascontiguousarray(blob, np.uint8))
        self._hold(layout.OFFSETS, np.ascontiguousarray(offsets, np.int64))
        self._hold(layout.COUNTS, np.ascontiguousarray(counts, np.int64))
        self._hold(layout.JOINTS, np.zeros(len(blob) + 1, np.uint32))
        # Reserved for the worst case, here and in `make_room`: the system hands out what is used of it.
        self._hold(layout.LISTS, np.empty(2 * len(blob), np.int64))
        self._hold(layout.CHAINS, np.zeros(layout.N_CHAINS, np.uint32))
        self._hold(layout.PAIRS, np.zeros((layout.FIRST_PAIR + layout.N_BYTE_PAIRS, layout.PAIR), np.uint8))
        self._hold(layout.HEAP, np.empty((0, layout.SLOT), np.uint8))
        self._bytes = np.arange(256, dtype=np.uint8)
        tokens = np.zeros((n_tokens, layout.TOKEN // 8), np.int64)
        tokens[:256, layout.TEXT // 8] = self._bytes.ctypes.data + np.arange(256)
        tokens[:256, layout.SIZE // 8] = 1
        tokens[:256, layout.PREFIX // 8] = np.arange(256) << 48
        self._hold(layout.TOKENS, tokens)
        self[layout.N_TOKENS] = 256
        self[layout.N_WORDS] = len(counts)
        longest = joints.begin(self.address)
        self._hold(layout.ROWS, np.empty((longest + 1, layout.ROW), np.uint8))
        self.make_room(self[layout.N_PAIRS])

    def __getitem__(self, field: int) -> int:
        return int(self._state[field // 8])

    def __setitem__(self, field: int, value: int) -> None:
        self._state[field // 8] = value

    def make_room(self, n_pairs: int) -> None:
        """Make room for `n_pairs` pairs and as many again."""
        self[layout.PAIRS_FIT] = 2 * n_pairs
        for field, n in ((layout.PAIRS, 2 * n_pairs), (layout.HEAP, 2 * n_pairs + 1)):
            old = self._arrays[field]
            new = np.empty((n, old.shape[1]), np.uint8)
            new[: len(old)] = old
            self._hold(field, new)

    def merges(self) -> list[tuple[bytes, bytes]]:
        """The merges so far, in order."""
        keys = self._arrays[layout.TOKENS][256 : self[layout.N_TOKENS], layout.PARTS // 8]
        vocab = [bytes([byte]) for byte in range(256)]
        merges = []
        for key in keys.tolist():
            left, right = vocab[key >> 32], vocab[key & 0xFFFFFFFF]
            merges.append((left, right))
            vocab.append(left + right)
        return merges

    def _hold(self, field: int, array: _Array) -> None:
        self._arrays[field] = array
        self[field] = array.ctypes.data
