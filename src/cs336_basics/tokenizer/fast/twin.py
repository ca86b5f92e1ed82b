"""The fast twin as `tokenizer/coder.py` asks for it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cs336_basics.tokenizer.fast.decode import Decoder
from cs336_basics.tokenizer.fast.encode import NO_SPECIALS, Encoder, Ids, Specials

_KEPT_SPECIALS: Final = 8  # sets of special tokens that were allowed of late
_FEW: Final = 8  # special tokens that are looked for one by one


class Twin:
    """Encodes and decodes for one vocabulary; threads may share it."""

    def __init__(
        self, tokens: Sequence[bytes], merges: Sequence[tuple[bytes, bytes]], special_ids: Mapping[str, int]
    ) -> None:
        self._encoder = Encoder(dict(enumerate(tokens)), merges)
        self._decoder = Decoder(tokens)
        self._special_ids = special_ids
        self._specials: dict[frozenset[str], Specials] = {frozenset(): NO_SPECIALS}

    def encode(self, text: str, allowed: frozenset[str]) -> list[int]:
        """The ids of a text."""
        return self._encoder.encode(text, self._specials_in(text, allowed))

    def encode_array(self, text: str, allowed: frozenset[str]) -> Ids:
        """The ids of a text as an array."""
        return self._encoder.encode_array(text, self._specials_in(text, allowed))

    def encode_chunks(self, chunks: Iterable[str], allowed: frozenset[str]) -> Iterator[Ids]:
        """The ids of chunks joined, in arrays."""
        return self._encoder.encode_chunks(chunks, self._of(allowed))

    def encode_blocks(self, blocks: Iterable[bytes], allowed: frozenset[str]) -> Iterator[Ids]:
        """The same for blocks of UTF-8, each of whole characters."""
        return self._encoder.encode_blocks(blocks, self._of(allowed))

    def decode(self, ids: npt.NDArray[np.integer[Any]]) -> bytes | None:
        """The bytes of ids in an array of one axis; None if one of them is no id."""
        return self._decoder.decode(ids)

    def _specials_in(self, text: str, allowed: frozenset[str]) -> Specials:
        """The special tokens to look for: none where none is there, which is much the most frequent case."""
        if len(allowed) <= _FEW:
            for token in allowed:
                if token in text:
                    return self._of(allowed)
            return NO_SPECIALS
        return self._of(allowed)

    def _of(self, allowed: frozenset[str]) -> Specials:
        specials = self._specials.get(allowed)
        if specials is None:
            specials = Specials({token: self._special_ids[token] for token in allowed})
            if len(self._specials) >= _KEPT_SPECIALS:
                self._specials = {frozenset(): NO_SPECIALS}
            self._specials[allowed] = specials
        return specials
