"""What one call of an encoder works with: caches of its own, and memory for pre-tokens of any length."""

import ctypes
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cs336_basics.tokenizer.fast import caches
from cs336_basics.tokenizer.fast.long_merging import merge_long, new_places, new_ranks
from cs336_basics.tokenizer.fast.merging import SHORT as SHORT_MERGE
from cs336_basics.tokenizer.fast.merging import Rules
from cs336_basics.tokenizer.fast.scan import next_end
from cs336_basics.tokenizer.fast.spans import SCRATCH_BYTES, SLACK, encode_span

SMALL_BYTES: Final = 1 << 12
"""Bytes of the longest text for whose ids `small` has room."""

_HEADER_BYTES: Final = bytes.__basicsize__ - 1  # of a bytes object; then its bytes, and the 0 that is counted here
_LINE_BYTES: Final = 128
_ARENA_BYTES_PER_ENTRY: Final = 16
_LEAST_ARENA_BYTES: Final = 1 << 12


class Workspace:
    """Caches and memory for one call at a time, with about `n_cached` pre-tokens at most, a power of 2."""

    def __init__(self, rules: Rules, byte_ids: npt.NDArray[np.int32], dtype: Any, n_cached: int) -> None:
        self._rules = rules
        self._byte_ids = byte_ids
        self._ranks = new_ranks(rules)
        self._ids = np.empty(SMALL_BYTES, np.int32)
        self._places = new_places(SMALL_BYTES)
        tables = rules.rules.ctypes.data, rules.table.ctypes.data, rules.shift
        self._long_tables: Final = *tables, int(self._ranks.ctypes.data), rules.n_rules
        self._long_memory: Final = int(self._places.ctypes.data), int(self._ids.ctypes.data)
        n_short_sets, n_long_sets = max(n_cached // 4, 2), max(n_cached // 8, 2)
        n_arena_bytes = max(_ARENA_BYTES_PER_ENTRY * n_cached, _LEAST_ARENA_BYTES)
        self._short = _aligned_zeros(n_short_sets * caches.SHORT_SET)
        self._long = _aligned_zeros(n_long_sets * caches.LONG_SET)
        self._arena = _aligned_zeros(n_arena_bytes)
        self._scratch = _aligned_zeros(SCRATCH_BYTES)
        self.small = np.empty(SMALL_BYTES + SLACK, dtype)
        self.small_address: int = self.small.ctypes.data
        self._state = np.zeros(caches.N_WORDS, np.int64)
        self._state_address: int = self._state.ctypes.data
        self._words = self._state.data
        for word, value in {
            caches.RULES: rules.rules.ctypes.data,
            caches.RULES_TABLE: rules.table.ctypes.data,
            caches.RULES_SHIFT: rules.shift,
            caches.SHORT_MERGES: SHORT_MERGE if rules.in_order else 0,
            caches.BYTE_IDS: byte_ids.ctypes.data,
            caches.ID_BYTES: self.small.itemsize,
            caches.SHORT: self._short.ctypes.data,
            caches.SHORT_SHIFT: 65 - n_short_sets.bit_length(),
            caches.LONG: self._long.ctypes.data,
            caches.LONG_SHIFT: 65 - n_long_sets.bit_length(),
            caches.ARENA: self._arena.ctypes.data,
            caches.ARENA_END: self._arena.ctypes.data + n_arena_bytes,
            caches.ARENA_FREE: self._arena.ctypes.data,
            caches.SCRATCH: self._scratch.ctypes.data,
        }.items():
            self._state[word // 8] = value

    def encode(self, text: bytes, start: int, end: int, out: int) -> int:
        """Write the ids of text[start:end], which has no special tokens, to the address `out`; return where they end.

        There must be room for an id for each byte, and `SLACK` bytes more.
        """
        out = encode_span(self._state_address, bytes_address(text), start, end, out)
        while (at := self._words[caches.AT // 8]) < end:
            stop = next_end(bytes_address(text), at, end)
            out = self._encode_long(text[at:stop], out)
            out = encode_span(self._state_address, bytes_address(text), stop, end, out)
        return out

    def _encode_long(self, pretoken: bytes, out: int) -> int:
        """The same for a pre-token that only `merge_long` may merge, before which `encode_span` has stopped."""
        n_bytes = len(pretoken)
        ids, memory = self._ids, self._long_memory
        if n_bytes > len(ids):  # not kept, or one long pre-token would keep memory for good
            ids, places = np.empty(n_bytes, np.int32), new_places(n_bytes)
            memory = places.ctypes.data, ids.ctypes.data
        np.take(self._byte_ids, np.frombuffer(pretoken, np.uint8), out=ids[:n_bytes])
        n_ids = merge_long(*self._long_tables, *memory, n_bytes)
        found = ids[:n_ids].astype(self.small.dtype).tobytes()
        ctypes.memmove(out, found, len(found))
        caches.keep(self._state_address, self._words[caches.STOPPED_AT // 8], out, len(found))
        return out + len(found)


def bytes_address(text: bytes) -> int:
    """Where the bytes lie, while `text` is there: CPython keeps them in the object itself, behind its header."""
    return id(text) + _HEADER_BYTES


def _aligned_zeros(n_bytes: int) -> npt.NDArray[np.uint8]:
    """Memory that begins where a line of 128 bytes does: a set of the cache then takes two lines, not three."""
    memory = np.zeros(n_bytes + _LINE_BYTES, np.uint8)
    start = -memory.ctypes.data % _LINE_BYTES
    return memory[start : start + n_bytes]
