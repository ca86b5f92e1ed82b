"""Learning merges from counted pre-tokens, the fast twin of `merge_counts` in `tokenizer/bpe.py`."""

from collections.abc import Mapping
from itertools import accumulate
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from cs336_basics.tokenizer.checks import check_whole
from cs336_basics.tokenizer.errors import TokenizerError
from cs336_basics.tokenizer.fast import merge
from cs336_basics.tokenizer.fast.heap import PAIR, PARTS, PREFIX, SIZE, SLOT, TEXT, TOKEN
from cs336_basics.tokenizer.text import Advance

_Array: TypeAlias = npt.NDArray[Any]

_MERGES_A_TIME: Final = 256
_MOST_BYTES: Final = (1 << 31) - 1  # of all words: a joint is the low half of an entry, a place in the lists a u32
_MOST_COUNT: Final = 1 << 62  # so that no sum of counts overflows


def merge_counts(
    counts: Mapping[bytes, int], n_merges: int, *, advance: Advance | None = None
) -> list[tuple[bytes, bytes]]:
    """Learn up to `n_merges` merges from pre-tokens and how often each occurs, as the readable `merge_counts` does.

    Raises: TokenizerError if n_merges is negative, or a count below 1, or all is too much for `learn`.

    >>> merge_counts({b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3}, 3)
    [(b's', b't'), (b'e', b'st'), (b'o', b'w')]
    """
    total = sum(counts.values())
    if total >= _MOST_COUNT:
        raise TokenizerError(f"merge_counts: counts must sum to less than 2**62, got {total}")
    blob = np.frombuffer(b"".join(counts), np.uint8)
    offsets = np.fromiter(accumulate(map(len, counts), initial=0), np.int64, len(counts) + 1)
    return learn(blob, offsets, np.fromiter(counts.values(), np.int64, len(counts)), n_merges, advance=advance)


def learn(
    blob: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    n_merges: int,
    *,
    advance: Advance | None = None,
) -> list[tuple[bytes, bytes]]:
    """Learn up to `n_merges` merges from words, laid end to end, and how often each occurs.

    Word i is blob[offsets[i]:offsets[i + 1]] and occurs counts[i] times; the order of words does not matter. Time is
    n log n in the bytes of the blob, memory about 20 bytes for each.

    Shapes: blob (n_bytes,), offsets (n_words + 1,), counts (n_words,).
    Raises: TokenizerError if n_merges is negative, a count below 1, the blob 2 GiB or more, or pairs too many to count.
    """
    check_whole(n_merges, where="merge_counts: n_merges", least=0)
    if len(counts) and counts.min() < 1:
        raise TokenizerError(f"merge_counts: counts must be 1 or more, got {counts.min()}")
    if max(len(blob), len(counts)) > _MOST_BYTES:
        raise TokenizerError(f"merge_counts: counts must hold less than 2 GiB of bytes and 2**31 words, got {len(blob)}")
    if np.dot(counts.astype(np.float64), np.diff(offsets)) >= _MOST_COUNT:
        raise TokenizerError("merge_counts: counts must stand for less than 2**62 bytes of text")
    n_tokens = 256 + min(n_merges, len(blob))
    memory = _Memory(np.ascontiguousarray(blob, np.uint8), offsets, counts, n_tokens)
    n_done = 0
    while n_done < n_tokens - 256:
        needed = merge.run(memory.address, min(256 + n_done + _MERGES_A_TIME, n_tokens))
        n_new = memory.get(merge.N_TOKENS) - 256 - n_done
        n_done += n_new
        if advance and n_new:
            advance(n_new)
        if needed:
            memory.make_room(needed)
        elif n_new < _MERGES_A_TIME:
            break
    return memory.merges()


class _Memory:
    """The arrays that compiled code works on; it finds them by their addresses in the state."""

    def __init__(self, blob: _Array, offsets: _Array, counts: _Array, n_tokens: int) -> None:
        self._arrays: dict[int, _Array] = {}
        self._state = np.zeros(merge.STATE // 8, np.int64)
        self.address = self._state.ctypes.data
        self._hold(merge.BLOB, blob)
        self._hold(merge.OFFSETS, np.ascontiguousarray(offsets, np.int64))
        self._hold(merge.COUNTS, np.ascontiguousarray(counts, np.int64))
        self._set(merge.N_WORDS, len(counts))
        self._bytes = np.arange(256, dtype=np.uint8)
        tokens = np.zeros((n_tokens, TOKEN // 8), np.int64)
        tokens[:256, TEXT // 8] = self._bytes.ctypes.data + np.arange(256)
        tokens[:256, SIZE // 8] = 1
        tokens[:256, PREFIX // 8] = np.arange(256) << 48
        self._hold(merge.TOKENS, tokens)
        self._set(merge.N_TOKENS, 256)
        self._hold(merge.JOINTS, np.zeros(len(blob) + 1, np.uint32))
        # Of what is only reserved, the system gives the part that is used.
        self._hold(merge.LISTS, np.empty(2 * len(blob), np.int64))
        self._hold(merge.CHAINS, np.zeros(merge.N_CHAINS, np.uint32))
        self._hold(merge.PAIRS, np.zeros((merge.FIRST_PAIR + (1 << 16), PAIR), np.uint8))
        longest = merge.begin(self.address)
        self._hold(merge.ROWS, np.empty((longest + 1, merge.ROW), np.uint8))
        self.make_room(self.get(merge.N_PAIRS))

    def get(self, field: int) -> int:
        """A number of the state."""
        return int(self._state[field // 8])

    def make_room(self, n_pairs: int) -> None:
        """Make room for `n_pairs` pairs, and as many again, so that this is rarely called."""
        used, slots = self._arrays[merge.PAIRS], self._arrays.get(merge.HEAP, np.empty((0, SLOT), np.uint8))
        self._hold(merge.PAIRS, np.empty((2 * n_pairs, PAIR), np.uint8))
        self._arrays[merge.PAIRS][: len(used)] = used
        self._hold(merge.HEAP, np.empty((2 * n_pairs + 1, SLOT), np.uint8))
        self._arrays[merge.HEAP][: len(slots)] = slots
        self._set(merge.PAIRS_FIT, 2 * n_pairs)

    def merges(self) -> list[tuple[bytes, bytes]]:
        """The merges so far, in order."""
        keys = self._arrays[merge.TOKENS][256 : self.get(merge.N_TOKENS), PARTS // 8]
        vocab = [bytes([byte]) for byte in range(256)]
        merges: list[tuple[bytes, bytes]] = []
        for left, right in zip((keys >> 32).tolist(), (keys & 0xFFFFFFFF).tolist(), strict=True):
            merges.append((vocab[left], vocab[right]))
            vocab.append(vocab[left] + vocab[right])
        return merges

    def _hold(self, field: int, array: _Array) -> None:
        self._arrays[field] = array
        self._set(field, array.ctypes.data)

    def _set(self, field: int, value: int) -> None:
        self._state[field // 8] = value
