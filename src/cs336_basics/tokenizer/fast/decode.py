"""Ids to bytes in machine code."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import int64

from cs336_basics.tokenizer.fast.machine import entry, load_i64, load_u8, load_u16, load_u32, load_u64, store_u64

_SLOT_BYTES: Final = 16
_LONG: Final = 255  # in place of the length: the token does not fit into its slot


class Decoder:
    """The bytes of ids, for the tokens of a vocabulary in order of id.

    A token of up to 15 bytes lies in a slot of 16, its length in the last, so that two words are read and written for
    each id, and nothing else. A longer one lies elsewhere, and its slot says where and how long it is.
    """

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self._slots = np.zeros((len(tokens), _SLOT_BYTES), np.uint8)
        rests: list[bytes] = []
        n_rest_bytes = 0
        for slot, token in zip(self._slots, tokens, strict=True):
            if len(token) < _SLOT_BYTES:
                slot[: len(token)] = memoryview(token)
                slot[-1] = len(token)
            else:
                slot[:12] = memoryview(n_rest_bytes.to_bytes(8, "little") + len(token).to_bytes(4, "little"))
                slot[-1] = _LONG
                rests.append(token.ljust(len(token) + 7 & -8))
                n_rest_bytes += len(rests[-1])
        self._rests = np.frombuffer(b"".join(rests), np.uint8)

    def decode(self, ids: npt.NDArray[np.integer[Any]]) -> bytes | None:
        """The bytes of an array of one axis; None if an id is not in the vocabulary."""
        if ids.dtype != np.uint16:
            if ids.size and (ids.min() < 0 or ids.max() >= len(self._slots)):
                return None
            ids = ids.astype(np.uint32, copy=False)
        ids = np.ascontiguousarray(ids)
        slots, rests = self._slots.ctypes.data, self._rests.ctypes.data
        n_bytes = _n_bytes(slots, len(self._slots), ids.ctypes.data, ids.itemsize, len(ids))
        if n_bytes < 0:
            return None
        out = np.empty(n_bytes + _SLOT_BYTES, np.uint8)
        _write(slots, rests, ids.ctypes.data, ids.itemsize, len(ids), out.ctypes.data)
        return out[:n_bytes].tobytes()


@entry
def _n_bytes(slots: int, n_tokens: int, ids: int, id_bytes: int, n_ids: int) -> int:
    """How many bytes the ids stand for; -1 if one is none."""
    n_bytes: int = int64(0)
    for place in range(n_ids):
        index = int64(load_u16(ids + 2 * place)) if id_bytes == 2 else int64(load_u32(ids + 4 * place))
        if index >= n_tokens:
            return -1
        slot = slots + _SLOT_BYTES * index
        length = int64(load_u8(slot + _SLOT_BYTES - 1))
        n_bytes += int64(load_u32(slot + 8)) if length == _LONG else length
    return n_bytes


@entry
def _write(slots: int, rests: int, ids: int, id_bytes: int, n_ids: int, out: int) -> None:
    """Write the bytes of the ids to `out`, which has room for `_SLOT_BYTES` more."""
    for place in range(n_ids):
        index = int64(load_u16(ids + 2 * place)) if id_bytes == 2 else int64(load_u32(ids + 4 * place))
        slot = slots + _SLOT_BYTES * index
        first, second = load_u64(slot), load_u64(slot + 8)
        n_bytes = int64(second >> np.uint64(56))
        if n_bytes == _LONG:
            n_bytes = int64(load_u32(slot + 8))
            for start in range(0, n_bytes, 8):
                store_u64(out + start, load_u64(rests + load_i64(slot) + start))
        else:
            store_u64(out, first)
            store_u64(out + 8, second)
        out += n_bytes
