"""The tokenizer: text to ids and back."""

import hashlib
import json
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Self, TypeVar

from cs336_basics.contracts import describe
from cs336_basics.tokenizer.checks import (
    Errors,
    check_errors,
    check_merges,
    check_path,
    check_special_tokens,
    check_text,
    check_vocab,
    check_whole,
)
from cs336_basics.tokenizer.coder import Coder
from cs336_basics.tokenizer.encode import IdArray
from cs336_basics.tokenizer.engine import Engine
from cs336_basics.tokenizer.errors import TokenizerError
from cs336_basics.tokenizer.files import check_bytes, read_folder, read_merges, read_vocab, write_folder
from cs336_basics.tokenizer.specials import SpecialRule, Specials, special_rule

T = TypeVar("T")


class Tokenizer:
    """A byte-level BPE tokenizer: every string has ids, and its ids decode to that string.

    `vocab` holds ids 0 to n - 1 and every single byte; `merges` stand in order of rank. A special token is one
    id wherever it stands in a text, the longest where several begin; one that is not in `vocab` gets the next
    free id. `vocab`, `merges` and `special_tokens` may be read, not changed. `engine` chooses between this code and
    its twin in numba, which gives the same: `auto` takes the twin from the first text of some MB on, where it is
    installed.

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
        *,
        engine: Engine = "auto",
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
        self._usual = special_rule(self.special_tokens, "all", "all", where="Tokenizer")
        self._coder = Coder(self._tokens, self.merges, self._special_ids, engine)

    def __reduce__(self) -> tuple[Any, ...]:
        # What it remembers stays here.
        return partial(type(self), engine=self.engine), (self.vocab, self.merges, self.special_tokens)

    @property
    def vocab_size(self) -> int:
        """The number of tokens, special ones included; ids run from 0 to one less."""
        return len(self._tokens)

    @property
    def engine(self) -> Engine:
        """The engine asked for."""
        return self._coder.engine

    def special_id(self, token: str) -> int:
        """The id of a special token.

        Raises: TokenizerError if it is not one.
        """
        if not isinstance(token, str) or token not in self._special_ids:  # type: ignore[redundant-expr]  # asked of anybody
            raise TokenizerError(
                f"special_id: token must be one of the special tokens, {list(self.special_tokens)}, "
                f"got {describe(token)}"
            )
        return self._special_ids[token]

    def encode(
        self,
        text: str,
        *,
        allowed_special: Specials = "all",
        disallowed_special: Specials = "all",
        errors: Errors = "strict",
    ) -> list[int]:
        """The ids of a text.

        A special token of `allowed_special` is its id wherever it stands; one of `disallowed_special`, where "all"
        means every one not allowed, is refused; one of neither is ordinary text. That is tiktoken's meaning. Its
        default is to refuse; here all are allowed, since whoever made the tokenizer named them. For text that
        others wrote say `allowed_special="none"`.

        `errors` of "replace" reads each surrogate, which no UTF-8 can write, as U+FFFD.

        Raises: TokenizerError on a surrogate and on a disallowed special token, with the index.
        """
        rule = self._rule(allowed_special, disallowed_special, errors, where="encode")
        return _encoded(self._coder.encode, text, rule, errors, where="encode: text")

    def encode_array(
        self,
        text: str,
        *,
        allowed_special: Specials = "all",
        disallowed_special: Specials = "all",
        errors: Errors = "strict",
    ) -> IdArray:
        """The ids of `encode` as an array: uint16 where every id of the vocabulary fits, else uint32.

        Memory follows the array, not Python's objects for text and ids. The options are those of `encode`.

        Raises: TokenizerError as `encode` does.
        """
        rule = self._rule(allowed_special, disallowed_special, errors, where="encode_array")
        return _encoded(self._coder.encode_array, text, rule, errors, where="encode_array: text")

    def encode_iterable(
        self,
        chunks: Iterable[str],
        *,
        allowed_special: Specials = "all",
        disallowed_special: Specials = "all",
        errors: Errors = "strict",
    ) -> Iterator[int]:
        """The ids of the chunks joined, wherever they are cut, lazily and in constant memory.

        Chunks may be lines, blocks of a file or single characters. An id comes as soon as no later text can
        change it, and no id of any part of a disallowed special token. The options are those of `encode`.

        Raises: TokenizerError on a chunk that is not a str (with its number), and on a surrogate or a disallowed
            special token (with its index in the whole text), when that chunk is reached.
        """
        rule = self._rule(allowed_special, disallowed_special, errors, where="encode_iterable")
        return self._coder.stream(_checked(chunks, rule, errors, where="encode_iterable"), rule.allowed)

    def encode_blocks(
        self,
        chunks: Iterable[str],
        *,
        n_bytes: int = 0,
        allowed_special: Specials = "all",
        disallowed_special: Specials = "all",
        errors: Errors = "strict",
    ) -> Iterator[IdArray]:
        """The ids of `encode_iterable` in arrays, for text that does not fit in memory.

        `n_bytes`, the size of the whole where it is known, tells the engine `auto` what it is in for.

        Raises: TokenizerError as `encode_iterable` does.
        """
        check_whole(n_bytes, where="encode_blocks: n_bytes", least=0)
        rule = self._rule(allowed_special, disallowed_special, errors, where="encode_blocks")
        checked = _checked(chunks, rule, errors, where="encode_blocks")
        return self._coder.blocks(checked, rule.allowed, n_bytes)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; bytes that are no UTF-8 become U+FFFD.

        Raises: TokenizerError on an id outside the vocabulary.
        """
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of ids, given as any iterable of ints, an array or a tensor among them.

        Raises: TokenizerError on an id outside the vocabulary.
        """
        if not isinstance(ids, Iterable) or getattr(ids, "ndim", 1) != 1:  # type: ignore[redundant-expr]  # asked of anybody
            raise TokenizerError(f"decode: ids must be an iterable of ints, got {describe(ids)}")
        items: Any = ids if hasattr(ids, "tolist") else list(ids)
        text = self._coder.decode(items)
        if text is not None:
            return text
        items = items.tolist() if hasattr(items, "tolist") else items
        place = next(place for place, index in enumerate(items) if not self._is_id(index))
        raise TokenizerError(
            f"decode: ids must be ints of 0 to {self.vocab_size - 1} (the vocabulary has {self.vocab_size} tokens), "
            f"got {describe(items[place])} at position {place}"
        )

    def fingerprint(self) -> str:
        """The sha256, in hexadecimal, of vocabulary, merges and special tokens: equal where all texts have equal ids.

        In which order the special tokens were given does not count.
        """
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
    def load(cls, folder: str | os.PathLike[str], *, engine: Engine = "auto") -> Self:
        """Read a tokenizer that `save` wrote.

        Raises: TokenizerError naming the file and what is wrong in it, or files that do not belong together.
        """
        path = check_path(folder, where="Tokenizer.load: folder")
        vocab, merges, special_tokens, fingerprint = read_folder(path)
        tokenizer = cls(vocab, merges, special_tokens, engine=engine)
        if tokenizer.fingerprint() != fingerprint:
            raise TokenizerError(
                f"{folder}: vocab.json, merges.txt and special_tokens.json must belong together, but their fingerprint "
                "is not the recorded one; save the tokenizer again"
            )
        check_bytes(path)
        return tokenizer

    @classmethod
    def from_files(
        cls,
        vocab_path: str | os.PathLike[str],
        merges_path: str | os.PathLike[str],
        special_tokens: Sequence[str] | None = None,
        *,
        engine: Engine = "auto",
    ) -> Self:
        """Read a vocabulary and merges in GPT-2's formats, from whatever library.

        Raises: TokenizerError naming the file and what is wrong in it.
        """
        vocab = read_vocab(check_path(vocab_path, where="Tokenizer.from_files: vocab_path"))
        merges = read_merges(check_path(merges_path, where="Tokenizer.from_files: merges_path"), vocab)
        return cls(vocab, merges, special_tokens, engine=engine)

    def _rule(self, allowed: Specials, disallowed: Specials, errors: Errors, *, where: str) -> SpecialRule:
        check_errors(errors, where=where)
        if isinstance(allowed, str) and isinstance(disallowed, str) and allowed == disallowed == "all":
            return self._usual
        return special_rule(self.special_tokens, allowed, disallowed, where=where)

    def _is_id(self, index: object) -> bool:
        try:
            return 0 <= operator.index(index) < self.vocab_size  # type: ignore[arg-type]  # refused where it is wrong
        except TypeError:
            return False


def _encoded(
    encode: Callable[[str, frozenset[str]], T], text: object, rule: SpecialRule, errors: Errors, *, where: str
) -> T:
    """What `encode` makes of a text. Whether UTF-8 can write it is asked where that fails: asking takes a tenth of the
    time."""
    if not isinstance(text, str):
        raise TokenizerError(f"{where} must be a str, got {describe(text)}")
    rule.check(text, where=where)
    try:
        return encode(text, rule.allowed)
    except UnicodeEncodeError:
        text = check_text(text, where=where, errors=errors)
    rule.check(text, where=where)
    return encode(text, rule.allowed)


def _checked(chunks: Iterable[str], rule: SpecialRule, errors: Errors, *, where: str) -> Iterator[str]:
    """The chunks, each checked when it is reached; what is no iterable is refused at once."""
    if not isinstance(chunks, Iterable):
        raise TokenizerError(f"{where}: chunks must be an iterable of str, got {describe(chunks)}")

    def each() -> Iterator[str]:
        start = 0
        for number, chunk in enumerate(chunks):
            yield check_text(chunk, where=f"{where}: chunk {number}", start=start, errors=errors)
            start += len(chunk)

    return rule.checked(each(), where=f"{where}: chunks")
