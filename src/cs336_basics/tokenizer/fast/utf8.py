"""Whether bytes are UTF-8, asked in machine code, and so of many blocks at a time on as many threads."""

import codecs
import os
from collections.abc import Iterable, Iterator

from cs336_basics.tokenizer.fast.scan import valid_end
from cs336_basics.tokenizer.fast.workspace import bytes_address
from cs336_basics.tokenizer.text import not_utf8


def whole_characters(
    blocks: Iterable[bytes], *, start: int, path: str | os.PathLike[str], where: str
) -> Iterator[bytes]:
    """The blocks of a UTF-8 file, cut between characters: what `text.as_text` does, without decoding.

    Raises: TokenizerError as `as_text` does.
    """
    begun = b""  # of a character that the last block cut in two
    for block in blocks:
        text = begun + block if begun else block
        end = valid_end(bytes_address(text), 0, len(text))
        begun = text[end:]
        if begun:
            _refuse_wrong(begun, False, start + end, path, where)
        yield text[:end] if begun else text
        start += end
    _refuse_wrong(begun, True, start, path, where)


def _refuse_wrong(rest: bytes, final: bool, offset: int, path: str | os.PathLike[str], where: str) -> None:
    """Refuse the rest of a text unless it is nothing, or, before the end of the file, the beginning of a character."""
    try:
        codecs.utf_8_decode(rest, "strict", final)
    except UnicodeDecodeError as error:
        raise not_utf8(where, path, offset + error.start, error.reason) from None
