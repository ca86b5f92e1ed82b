"""Text to ids and back by either twin: the readable one, until the fast one is worth its start."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from cs336_basics.tokenizer.encode import Encoder, IdArray, merge_table
from cs336_basics.tokenizer.engine import PAYS_BYTES, Engine, is_fast
from cs336_basics.tokenizer.text import as_text

if TYPE_CHECKING:
    import numpy as np

    from cs336_basics.tokenizer.fast.twin import Twin

_KEPT_ENCODERS: Final = 8  # one for each set of special tokens that was allowed, of late


class Coder:
    """What `Tokenizer` asks for once its arguments have been checked; `allowed` special tokens are taken as such.

    Threads may share it: two that make the same thing at once make it twice, and one of them is kept.
    """

    def __init__(
        self,
        tokens: Sequence[bytes],
        merges: Sequence[tuple[bytes, bytes]],
        special_ids: Mapping[str, int],
        engine: Engine,
    ) -> None:
        is_fast(engine, 0, where="Tokenizer")  # refuses what is no engine, or is not there
        self.engine: Engine = engine
        self._tokens, self._merges, self._special_ids = tokens, merges, special_ids
        self._table = merge_table({token: index for index, token in enumerate(tokens)}, merges)
        self._encoders: dict[frozenset[str], Encoder] = {}
        self._twin: Twin | None = None

    def encode(self, text: str, allowed: frozenset[str]) -> list[int]:
        """The ids of a whole text."""
        twin = self._twin or self._fast(len(text))
        return twin.encode(text, allowed) if twin else self._encoder(allowed).encode(text)

    def encode_array(self, text: str, allowed: frozenset[str]) -> IdArray:
        """The ids of a whole text as an array."""
        twin = self._twin or self._fast(len(text))
        return twin.encode_array(text, allowed) if twin else self._encoder(allowed).encode_array(text, self._dtype())

    def blocks(self, chunks: Iterable[str], allowed: frozenset[str], n_bytes: int) -> Iterator[IdArray]:
        """The ids of chunks joined, of `n_bytes` in all (0 where that is not known), in arrays."""
        twin = self._twin or self._fast(n_bytes)
        if twin:
            return twin.encode_chunks(chunks, allowed)
        return self._encoder(allowed).blocks(chunks, self._dtype())

    def file_blocks(
        self,
        blocks: Iterable[bytes],
        allowed: frozenset[str],
        n_bytes: int,
        *,
        start: int,
        path: str | os.PathLike[str],
        where: str,
    ) -> Iterator[IdArray]:
        """The ids of the blocks of a UTF-8 file, the first of which begins at byte `start`, in arrays.

        Raises: TokenizerError if they are not UTF-8, with the offset; `where` opens the message.
        """
        twin = self._twin or self._fast(n_bytes)
        if not twin:
            text = as_text(blocks, start=start, path=path, where=where)
            return self._encoder(allowed).blocks(text, self._dtype())
        from cs336_basics.tokenizer.fast.utf8 import whole_characters

        return twin.encode_blocks(whole_characters(blocks, start=start, path=path, where=where), allowed)

    def stream(self, chunks: Iterable[str], allowed: frozenset[str]) -> Iterator[int]:
        """The ids of chunks joined, one by one."""
        twin = self._twin or self._fast(0)
        if not twin:
            return self._encoder(allowed).stream(chunks)
        return chain.from_iterable(ids.tolist() for ids in twin.encode_chunks(chunks, allowed))

    def decode(self, ids: Any) -> bytes | None:
        """The bytes of a list or an array of ids; None if one of them is no id."""
        is_array = hasattr(ids, "__array_interface__") and ids.ndim == 1 and ids.dtype.kind in "iu"  # not a tensor
        if is_array and not hasattr(ids, "mask") and (twin := self._twin or self._fast(len(ids))):
            return twin.decode(ids)
        items = ids.tolist() if hasattr(ids, "tolist") else ids
        tokens = self._tokens
        try:
            if min(items, default=0) >= 0:  # a list counts negative indices from its end
                return b"".join([tokens[index] for index in items])
        except (IndexError, TypeError):
            pass
        return None

    def _dtype(self) -> "type[np.unsignedinteger[Any]]":
        import numpy as np

        return np.uint16 if len(self._tokens) <= 1 << 16 else np.uint32

    def _fast(self, n_bytes: int) -> "Twin | None":
        """The fast twin, once it is worth its start, and from then on."""
        if (n_bytes >= PAYS_BYTES or self.engine == "fast") and is_fast(self.engine, n_bytes, where="Tokenizer"):
            from cs336_basics.tokenizer.fast.twin import Twin

            self._twin = Twin(self._tokens, self._merges, self._special_ids)
        return self._twin

    def _encoder(self, allowed: frozenset[str]) -> Encoder:
        """The readable encoder that takes these special tokens as such; few are kept."""
        encoder = self._encoders.get(allowed)
        if encoder is None:
            encoder = Encoder(self._table, {token: self._special_ids[token] for token in allowed})
            if len(self._encoders) >= _KEPT_ENCODERS:
                self._encoders.clear()
            self._encoders[allowed] = encoder
        return encoder
