"""Decoding as ids come: joined, it is decode; and no half character ever shows."""

import codecs
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


# Tokens that begin and end in the middle of characters, as merges of bytes make them.
crooked = st.lists(
    st.lists(st.sampled_from(list("aé漢👍".encode())), min_size=2, max_size=7).map(bytes)
    | st.binary(min_size=2, max_size=5),
    unique=True,
    max_size=12,
)


@given(tokens=crooked, data=st.data())
@settings(deadline=None, max_examples=200)
def test_any_ids_of_any_vocabulary_come_in_whole_characters(tokens: list[bytes], data: st.DataObject) -> None:
    tokenizer = Tokenizer(dict(enumerate([*(bytes([byte]) for byte in range(256)), *tokens])), [], ["<é>"])
    known = list("aé漢👍".encode())
    ids = data.draw(st.lists(st.sampled_from([*known, *range(256, tokenizer.vocab_size)]), max_size=25))
    decoder = StreamingDecoder(tokenizer)
    shown, said = "", b""
    for index in ids:
        said += tokenizer.vocab[index]
        shown += decoder.push(index)
        # All that is sure is shown: nothing waits but the beginning of one character, which may still be completed.
        waiting = said.decode(errors="replace").removeprefix(shown)
        assert waiting in ("", "\ufffd")
        assert said.decode(errors="replace").startswith(shown)
        if waiting:
            assert said[-1] >= 0x80
            assert any(_begins_a_character(said[-n:]) for n in (1, 2, 3))
    assert shown + decoder.finish() == tokenizer.decode(ids)


def _begins_a_character(part: bytes) -> bool:
    """Whether these bytes are a proper beginning of some character."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        return decoder.decode(part) == ""
    except UnicodeDecodeError:
        return False


def test_finish_shows_a_cut_character_and_begins_anew(small: Tokenizer) -> None:
    decoder = StreamingDecoder(small)
    assert decoder.push(0xE6) == ""
    assert decoder.finish() == "\ufffd"
    assert decoder.push(ord("a")) == "a"
    assert decoder.finish() == ""


@pytest.mark.parametrize("bad", [600, -1, 1.0, None])
def test_bad_ids(bad: int, small: Tokenizer, refused: Refused) -> None:
    refused(lambda: StreamingDecoder(small).push(bad), "decode: ids", "0 to 599")
