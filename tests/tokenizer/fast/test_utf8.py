"""Bytes between characters in machine code: what decoding says, of any bytes cut anywhere."""

import itertools
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cs336_basics.tokenizer import TokenizerError
from cs336_basics.tokenizer.fast.utf8 import whole_characters
from cs336_basics.tokenizer.text import as_text

START = 100  # where the file's part begins
WRONG = [b"\xff", b"\xc3", b"\xe6\xbc", b"\xed\xa0\x80", b"\xf0\x9f\x91", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\x80"]

pieces = st.sampled_from([*(character.encode() for character in "ab é漢👍\ufeff\U0010ffff"), *WRONG])


def outcome(call: Callable[[], str]) -> str:
    try:
        return call()
    except TokenizerError as error:
        return f"error: {error}"


@given(parts=st.lists(pieces, max_size=8) | st.lists(pieces.filter(lambda piece: piece not in WRONG), max_size=8),
       cuts=st.lists(st.integers(0, 30), max_size=12))  # fmt: skip
@example(parts=[b"\xf0\x9f\x91", b"\x8d"], cuts=[1, 2, 3])
@settings(deadline=None, max_examples=500)
def test_agrees_with_decoding(parts: list[bytes], cuts: list[int]) -> None:
    text = b"".join(parts)
    places = sorted(cut % (len(text) + 1) for cut in cuts)
    blocks = [text[start:end] for start, end in itertools.pairwise([0, *places, len(text)])]
    found = outcome(
        lambda: "".join(
            block.decode() for block in whole_characters(blocks, start=START, path="text.txt", where="f: path")
        )
    )
    assert found == outcome(lambda: "".join(as_text(blocks, start=START, path="text.txt", where="f: path")))


def test_names_the_file_and_the_offset() -> None:
    blocks = whole_characters([b"a\xe6", b"\xbca"], start=START, path="text.txt", where="f: path")
    assert next(blocks) == b"a"
    with pytest.raises(TokenizerError, match=r"^f: path must be UTF-8 text, text.txt is not at byte offset 101 \("):
        next(blocks)


def test_copies_no_block_of_whole_characters() -> None:
    block = "漢字" * 10
    given_block = block.encode()
    assert next(whole_characters([given_block], start=0, path="", where="")) is given_block
