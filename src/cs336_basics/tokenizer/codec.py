"""The tokenizer: text to ids and back."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, Self

from cs336_basics.contracts import describe
from cs336_basics.tokenizer.checks import check_merges, check_path, check_special_tokens, check_text, check_vocab
from cs336_basics.tokenizer.errors import TokenizerError
from cs336_basics.tokenizer.files import read_folder, read_merges, read_vocab, write_folder
from cs336_basics.tokenizer.merge import merge_ids
from cs336_basics.tokenizer.pretokenize import Pretokenizer, windows

if TYPE_CHECKING:
    import numpy as np

_CACHED_PRETOKENS: Final = 1 << 15
_CACHED_LENGTH: Final = 32  # characters; longer pre-tokens hardly ever come back


class Tokenizer:
    """A byte-level BPE tokenizer: every string has ids, and its ids decode to that string.

    `vocab` holds ids 0 to n - 1 and every single byte; `merges` stand in order of rank. A special token is one
    id wherever it stands in a text, the longest where several begin; one that is not in `vocab` gets the next
    free id. `vocab`, `merges` and `special_tokens` may be read, not changed.

    Raises: TokenizerError on a vocabulary with gaps, missing bytes or a token twice, on merges that do not fit
        it, and on special tokens that are empty or given twice.
    Source: Sennrich et al. 2016, arXiv:1508.07909, over bytes as in GPT-2 (Radford et al. 2019). With GPT-2's
        files the ids are those of tiktoken.

    >>> bytes_first = {byte: bytes([byte]) for byte in range(256)}
    >>> tokenizer = Tokenizer(bytes_first | {256: b"at", 257: b"cat"}, [(b"a", b"t"), (b"c", b"at")], ["<|end|>"])
    >>> tokenizer.encode("cats<|end|>")
    [257, 115, 258]
    >>> tokenizer.decode([257, 115, 258])
    'cats<|end|>'
    """

    def __init__(
        self,
        vocab: Mapping[int, bytes],
        merges: Sequence[tuple[bytes, bytes]],
        special_tokens: Sequence[str] | None = None,
    ) -> None:
        ids = check_vocab(vocab, where="Tokenizer: vocab")
        self.merges: list[tuple[bytes, bytes]] = check_merges(merges, ids, where="Tokenizer: merges")
        self.special_tokens = check_special_tokens(
            () if special_tokens is None else special_tokens, where="Tokenizer: special_tokens"
        )
        for special in self.special_tokens:
            ids.setdefault(special.encode(), len(ids))
        self.vocab: dict[int, bytes] = {index: token for token, index in sorted(ids.items(), key=lambda item: item[1])}
        self._tokens = list(self.vocab.values())
        self._special_ids = {special: ids[special.encode()] for special in self.special_tokens}
        self._pretokenizer = Pretokenizer(self.special_tokens)
        self._ids = _PretokenIds(ids, self.merges, self._special_ids)

    @property
    def vocab_size(self) -> int:
        """The number of tokens, special ones included; ids run from 0 to one less."""
        return len(self._tokens)

    def special_id(self, token: str) -> int:
        """The id of a special token.

        Raises: TokenizerError if it is not one.
        """
        if token not in self._special_ids:
            raise TokenizerError(
                f"special_id: token must be one of the special tokens, {list(self.special_tokens)}, "
                f"got {describe(token)}"
            )
        return self._special_ids[token]

    def encode(self, text: str) -> list[int]:
        """The ids of a text, special tokens in it included.

        Raises: TokenizerError on a lone surrogate, with its index.
        """
        pretokens = self._pretokenizer.split(check_text(text, where="encode: text"))
        return list(chain.from_iterable(map(self._ids.__getitem__, pretokens)))

    def encode_array(self, text: str) -> "np.ndarray[tuple[int], np.dtype[np.unsignedinteger[Any]]]":
        """The ids of `encode` as an array: uint16 where every id of the vocabulary fits, else uint32.

        Memory follows the array, not Python's objects for text and ids.

        Raises: TokenizerError as `encode` does.
        """
        import numpy as np

        dtype: type[np.unsignedinteger[Any]] = np.uint16 if self.vocab_size <= 1 << 16 else np.uint32
        return np.fromiter(self._stream(windows(check_text(text, where="encode_array: text"))), dtype)

    def encode_iterable(self, chunks: Iterable[str]) -> Iterator[int]:
        """The ids of the chunks joined, wherever they are cut, lazily and in constant memory.

        Chunks may be lines, blocks of a file or single characters. An id comes as soon as no later text can
        change it.

        Raises: TokenizerError on a chunk that is not a str (with its number) and on a lone surrogate (with its
            index in the whole text), when that chunk is reached.
        """
        if not isinstance(chunks, Iterable):
            raise TokenizerError(f"encode_iterable: chunks must be an iterable of str, got {describe(chunks)}")
        return self._stream(_checked(chunks))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; bytes that are no UTF-8 become U+FFFD.

        Raises: TokenizerError on an id outside the vocabulary.
        """
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of ids, given as any iterable of ints, an array or a tensor among them.

        Raises: TokenizerError on an id outside the vocabulary.
        """
        if not isinstance(ids, Iterable):
            raise TokenizerError(f"decode: ids must be an iterable of ints, got {describe(ids)}")
        items: list[Any] = ids.tolist() if hasattr(ids, "tolist") else list(ids)
        tokens = self._tokens
        try:
            if min(items, default=0) >= 0:  # a list counts negative indices from its end
                return b"".join([tokens[index] for index in items])
        except (IndexError, TypeError):
            pass
        place = next(place for place, index in enumerate(items) if not self._is_id(index))
        raise TokenizerError(
            f"decode: ids must be ints of 0 to {self.vocab_size - 1} (the vocabulary has {self.vocab_size} tokens), "
            f"got {describe(items[place])} at position {place}"
        )

    def fingerprint(self) -> str:
        """The sha256, in hexadecimal, of vocabulary, merges and special tokens: equal for equal tokenizers."""
        tokens = [token.hex() for token in self._tokens]
        merges = [[left.hex(), right.hex()] for left, right in self.merges]
        specials = sorted(self._special_ids.values())
        return hashlib.sha256(json.dumps([tokens, merges, specials]).encode()).hexdigest()

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write vocab.json and merges.txt in GPT-2's formats, and special_tokens.json, into a folder.

        The folder is made if need be; each file is whole or not there, whatever happens.

        Raises: TokenizerError if it cannot be written.
        """
        path = check_path(folder, where="Tokenizer.save: folder")
        write_folder(path, self.vocab, self.merges, self.special_tokens, self.fingerprint())

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read a tokenizer that `save` wrote.

        Raises: TokenizerError naming the file and what is wrong in it, or files that do not belong together.
        """
        vocab, merges, special_tokens, fingerprint = read_folder(check_path(folder, where="Tokenizer.load: folder"))
        tokenizer = cls(vocab, merges, special_tokens)
        if tokenizer.fingerprint() != fingerprint:
            raise TokenizerError(
                f"{folder}: vocab.json, merges.txt and special_tokens.json must belong together, but their fingerprint "
                "is not the recorded one; save the tokenizer again"
            )
        return tokenizer

    @classmethod
    def from_files(
        cls,
        vocab_path: str | os.PathLike[str],
        merges_path: str | os.PathLike[str],
        special_tokens: Sequence[str] | None = None,
    ) -> Self:
        """Read a vocabulary and merges in GPT-2's formats, from whatever library.

        Raises: TokenizerError naming the file and what is wrong in it.
        """
        vocab = read_vocab(check_path(vocab_path, where="Tokenizer.from_files: vocab_path"))
        merges = read_merges(check_path(merges_path, where="Tokenizer.from_files: merges_path"), vocab)
        return cls(vocab, merges, special_tokens)

    def _stream(self, chunks: Iterable[str]) -> Iterator[int]:
        pretokens = chain.from_iterable(self._pretokenizer.stream(chunks))
        return chain.from_iterable(map(self._ids.__getitem__, pretokens))

    def _is_id(self, index: object) -> bool:
        return isinstance(index, int) and 0 <= index < self.vocab_size


def _checked(chunks: Iterable[str]) -> Iterator[str]:
    start = 0
    for number, chunk in enumerate(chunks):
        yield check_text(chunk, where=f"encode_iterable: chunk {number}", start=start)
        start += len(chunk)


class _PretokenIds(dict[str, Sequence[int]]):
    """The ids of pre-tokens: remembered where short, worked out where missing, the older half forgotten when full."""

    def __init__(
        self, ids: Mapping[bytes, int], merges: Iterable[tuple[bytes, bytes]], special_ids: Mapping[str, int]
    ) -> None:
        self._byte_ids = [ids[bytes([byte])] for byte in range(256)]
        self._rules = [(ids[left], ids[right], ids[left + right]) for left, right in merges]
        self._ranks = {(left, right): rank for rank, (left, right, _) in enumerate(self._rules)}
        self._special_ids = special_ids

    def __missing__(self, pretoken: str) -> Sequence[int]:
        if pretoken in self._special_ids:
            found: Sequence[int] = (self._special_ids[pretoken],)
        else:
            byte_ids = [self._byte_ids[byte] for byte in pretoken.encode()]
            found = tuple(merge_ids(byte_ids, self._ranks, self._rules))
        if len(pretoken) <= _CACHED_LENGTH:
            if len(self) >= _CACHED_PRETOKENS:
                for old in list(islice(self, len(self) // 2)):
                    self.pop(old, None)
            self[pretoken] = found
        return found
