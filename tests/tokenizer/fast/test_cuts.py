"""Where a text is cut, a pre-token ends, whatever stands before and after."""

import numpy as np
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.tokenizer.fast.cuts import last_cut, special_places
from cs336_basics.tokenizer.fast.specials import special_table
from cs336_basics.tokenizer.pretokenize import GPT2_PATTERN, Pretokenizer
from tests.tokenizer.fast.test_scan import HOSTILE

find_pretokens = regex.compile(GPT2_PATTERN).findall
texts = st.lists(st.sampled_from(HOSTILE), max_size=20).map("".join)


def cut(text: str, end: int | None = None) -> int:
    encoded = np.frombuffer(text.encode() + b"\0", np.uint8)
    return last_cut(encoded.ctypes.data, 0, len(encoded) - 1 if end is None else end)


@given(texts, texts)
@settings(deadline=None, max_examples=2000)
def test_both_sides_may_be_cut_alone(text: str, after: str) -> None:
    place = cut(text)
    left, right = text.encode()[:place].decode(), text.encode()[place:].decode()
    assert find_pretokens(left) + find_pretokens(right + after) == find_pretokens(text + after)


def test_no_more_is_held_back_than_need_be() -> None:
    assert cut("one two") == 3
    assert cut("one two ") == 7
    assert cut("one two 3") == 7
    assert cut("one  ") == 3
    assert cut("he'll") == 2
    assert cut("你好。再见") == 9
    assert cut("word\u3000\u3000") == 4
    assert cut("a" * 1000) == cut("'a") == cut(" \n\n") == cut("'") == cut("") == 0


def test_a_character_that_the_end_cuts_in_two_is_looked_at_as_a_whole() -> None:
    text = "a 漢b"
    assert [cut(text, end) for end in range(7)] == [0, 0, 1, 1, 1, 1, 1]
    assert cut("a漢!", 5) == 4


@given(
    st.lists(st.sampled_from(["<", "<|a|>", "<|a|>b", "|>", "a", " ", "é"]), max_size=30).map("".join),
    st.lists(st.sampled_from(["<|a|>", "<|a|>b", "|>", "é", "aa"]), unique=True, max_size=4),
    st.integers(1, 5),
)
@settings(deadline=None, max_examples=300)
def test_special_places(text: str, specials: list[str], room: int) -> None:
    encoded = np.frombuffer(text.encode() + b"\0", np.uint8)
    table, places = special_table(specials), np.empty((room, 2), np.int64)
    n_found = special_places(
        encoded.ctypes.data, 0, len(encoded) - 1, table.ctypes.data, places.ctypes.data, len(places)
    )
    found = [encoded[start:end].tobytes().decode() for start, end in places[:n_found]]
    expected = [piece for piece in Pretokenizer(specials).split(text) if piece in specials]
    assert found == expected[:room]
