"""What a text, a vocabulary, a merge list and special tokens must be; each refusal is one TokenizerError.

`where` opens the message: the function and argument, or the file, that the value came from.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

from cs336_basics.contracts import describe
from cs336_basics.tokenizer.errors import TokenizerError

Errors: TypeAlias = Literal["strict", "replace"]
"""What to do about a lone surrogate, which no UTF-8 can write: refuse the text, or read U+FFFD in its place."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def check_text(text: object, *, where: str, start: int = 0, errors: Errors | None = None) -> str:
    """Return `text` if UTF-8 can write it: a str without lone surrogates; `start` is its place in a longer text.

    `errors` is the option of the caller, if it has one: "replace" puts U+FFFD in the place of each surrogate.
    """
    if not isinstance(text, str):
        raise TokenizerError(f"{where} must be a str, got {describe(text)}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        if errors == "replace":
            return _SURROGATE.sub("\ufffd", text)
        mend = (
            "leave it out"
            if errors is None
            else "mend the text, or encode it with errors='replace', which reads U+FFFD instead"
        )
        raise TokenizerError(
            f"{where} must be text that UTF-8 can write, got the lone surrogate U+{ord(text[error.start]):04X} "
            f"at index {start + error.start}; {mend}"
        ) from None
    return text


def check_errors(errors: object, *, where: str) -> None:
    """Refuse what is neither "strict" nor "replace"."""
    if errors not in ("strict", "replace"):
        raise TokenizerError(f"{where}: errors must be 'strict' or 'replace', got {describe(errors)}")


def check_whole(value: object, *, where: str, least: int) -> int:
    """Return `value` if it is an int of `least` or more; True and False are no numbers here."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise TokenizerError(f"{where} must be an int of {least} or more, got {describe(value)}")
    return value


def check_path(value: object, *, where: str) -> Path:
    """Return `value` as a path if it is a str or a path."""
    if not isinstance(value, (str, os.PathLike)):
        raise TokenizerError(f"{where} must be a path, got {describe(value)}")
    path = os.fsdecode(value)
    if "\0" in path:  # which the system refuses by another kind of error
        raise TokenizerError(f"{where} must be a path, got {path!r}, which holds a null character")
    return Path(path)


def check_keep(value: object, *, where: str) -> Path | None:
    """Return the folder to keep parts in, made if need be; None if there is to be none."""
    if value is None:
        return None
    folder = check_path(value, where=where)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TokenizerError(f"{where} must be a folder to write to, got {folder} ({error.strerror})") from None
    return folder


def check_executor(value: object, *, where: str) -> None:
    """Refuse what is neither None nor takes work as an executor of `concurrent.futures` does."""
    if value is not None and (isinstance(value, type) or not callable(getattr(value, "submit", None))):
        raise TokenizerError(f"{where} must be a concurrent.futures.Executor, got {describe(value)}")


def check_special_tokens(special_tokens: object, *, where: str) -> tuple[str, ...]:
    """Return the special tokens as a tuple: strings, none empty, none twice."""
    if not isinstance(special_tokens, Sequence) or isinstance(special_tokens, (str, bytes)):
        raise TokenizerError(f"{where} must be a list of strings, got {describe(special_tokens)}")
    seen: set[str] = set()
    for index, token in enumerate(special_tokens):
        check_text(token, where=f"{where}[{index}]")
        if not token:
            raise TokenizerError(f"{where}[{index}] must not be empty; leave it out")
        if token in seen:
            raise TokenizerError(f"{where} must hold no token twice, got {token!r} again at index {index}")
        seen.add(token)
    return tuple(special_tokens)


def check_vocab(vocab: object, *, where: str) -> dict[bytes, int]:
    """Return the id of every token: ids 0 to n - 1, each token once, every single byte among them."""
    if not isinstance(vocab, Mapping):
        raise TokenizerError(f"{where} must be a dict from id to bytes, got {describe(vocab)}")
    ids: dict[bytes, int] = {}
    for index, token in vocab.items():
        if type(index) is not int or index < 0:
            raise TokenizerError(f"{where}: an id must be an int of 0 or more, got {describe(index)}")
        if not isinstance(token, bytes) or not token:
            raise TokenizerError(f"{where}: the token of id {index} must be bytes, one or more, got {describe(token)}")
        if token in ids:
            raise TokenizerError(f"{where} must hold no token twice, got {token!r} for ids {ids[token]} and {index}")
        ids[token] = index
    for index in range(len(vocab)):
        if index not in vocab:
            raise TokenizerError(f"{where} must hold ids 0 to {len(vocab) - 1} without gaps, id {index} is missing")
    for byte in range(256):
        if bytes([byte]) not in ids:
            raise TokenizerError(f"{where} must hold all 256 single bytes, {bytes([byte])!r} is missing")
    return ids


def check_merges(merges: object, ids: Mapping[bytes, int], *, where: str) -> list[tuple[bytes, bytes]]:
    """Return the merges as a list: pairs of tokens, none twice, parts and result in the vocabulary `ids`."""
    if not isinstance(merges, Sequence) or isinstance(merges, (str, bytes)):
        raise TokenizerError(f"{where} must be a list of pairs of bytes, got {describe(merges)}")
    found: dict[tuple[bytes, bytes], int] = {}
    for index, pair in enumerate(merges):
        if not (isinstance(pair, (tuple, list)) and [type(part) for part in pair] == [bytes, bytes]):
            raise TokenizerError(f"{where}: merge {index} must be a pair of bytes, got {describe(pair)}")
        left, right = pair
        for token in (left, right, left + right):
            if token not in ids:
                raise TokenizerError(
                    f"{where}: merge {index}, {left!r} + {right!r}, must use tokens of the vocabulary, "
                    f"{token!r} is not in it; do the merges and the vocabulary belong together?"
                )
        if (left, right) in found:
            raise TokenizerError(
                f"{where} must hold no merge twice, got {left!r} + {right!r} at {found[left, right]} and {index}"
            )
        found[left, right] = index
    return list(found)
