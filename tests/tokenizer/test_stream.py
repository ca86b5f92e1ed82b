"""Decoding as ids come: joined, it is decode; and no half character ever shows."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.tokenizer import StreamingDecoder, Tokenizer

Refused = Callable[..., None]

# All bytes, the middle of characters favoured.
pieces = st.lists(st.binary(max_size=3) | st.sampled_from([b"\xe6", b"\xbc", b"\xa2", b"\xf0\x9f", b"\x91\x8d", b"a"]))


@given(content=pieces.map(b"".join), ids=st.lists(st.integers(0, 599), max_size=20))
@settings(deadline=None, max_examples=150)
def test_joined_it_is_decode_for_any_ids(content: bytes, ids: list[int], small: Tokenizer) -> None:
    ids = [*content, *ids]
    decoder = StreamingDecoder(small)
    shown = [decoder.push(index) for index in ids]
    assert "".join(shown) + decoder.finish() == small.decode(ids)


@given(text=st.text(alphabet="aé漢👍\u0301", max_size=20))
@settings(deadline=None, max_examples=50)
def test_every_piece_is_whole_characters_as_soon_as_they_are_there(text: str, small: Tokenizer) -> None:
    decoder = StreamingDecoder(small)
    shown = ""
    given_bytes = b""
    for byte in text.encode():
        given_bytes += bytes([byte])
        shown += decoder.push(byte)
        assert shown == given_bytes.decode(errors="ignore")
    assert decoder.finish() == ""


def test_finish_shows_a_cut_character_and_begins_anew(small: Tokenizer) -> None:
    decoder = StreamingDecoder(small)
    assert decoder.push(0xE6) == ""
    assert decoder.finish() == "\ufffd"
    assert decoder.push(ord("a")) == "a"
    assert decoder.finish() == ""


@pytest.mark.parametrize("bad", [600, -1, 1.0, None])
def test_bad_ids(bad: int, small: Tokenizer, refused: Refused) -> None:
    refused(lambda: StreamingDecoder(small).push(bad), "decode: ids", "0 to 599")
