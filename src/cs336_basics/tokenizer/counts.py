"""Counts of pre-tokens as flat arrays: small to send, quick to add, the same on disk for both twins."""

import io
from collections import Counter
from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

PADDING_BYTES: Final = 16
"""What must be readable behind a text whose pre-tokens are counted in machine code."""


class PretokenCounts(NamedTuple):
    """Pre-token `n` is `text[offsets[n] : offsets[n + 1]]` and occurs `counts[n]` times; each is here once.

    The order means nothing. Behind the last one `text` has `PADDING_BYTES` more, which mean nothing either.
    """

    text: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]

    def counter(self) -> Counter[bytes]:
        """The same as the readable twin gives it."""
        text, offsets = self.text.tobytes(), self.offsets.tolist()
        pretokens = (text[start:end] for start, end in pairwise(offsets))
        return Counter(dict(zip(pretokens, self.counts.tolist(), strict=True)))

    def to_bytes(self) -> bytes:
        """The arrays as an .npz file."""
        file = io.BytesIO()
        np.savez(file, text=self.text, offsets=self.offsets, counts=self.counts)
        return file.getvalue()

    @classmethod
    def of(cls, counts: Mapping[bytes, int]) -> Self:
        """The counts of a mapping."""
        offsets = np.fromiter(accumulate(map(len, counts), initial=0), np.int64, len(counts) + 1)
        text = np.frombuffer(b"".join(counts) + bytes(PADDING_BYTES), np.uint8)
        return cls(text, offsets, np.fromiter(counts.values(), np.int64, len(counts)))

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """What `to_bytes` wrote."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return cls(arrays["text"], arrays["offsets"], arrays["counts"])
