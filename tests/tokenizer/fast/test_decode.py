"""The bytes of any ids, and of nothing else."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.tokenizer import Tokenizer
from cs336_basics.tokenizer.fast.decode import Decoder

TOKENS = [bytes([65 + length % 26] * length) for length in range(1, 70)] + [b"\0", b"\xff" * 300]


@given(st.lists(st.integers(0, len(TOKENS) - 1), max_size=60), st.sampled_from(["u1", "u2", "u4", "i4", "i8", "u8"]))
@settings(deadline=None, max_examples=300)
def test_any_ids(ids: list[int], dtype: str) -> None:
    decoder = Decoder(TOKENS)
    expected = b"".join(TOKENS[index] for index in ids)
    assert decoder.decode(np.array(ids, dtype)) == expected
    assert decoder.decode(np.array(ids, dtype)[::-1][::-1]) == expected
    assert decoder.decode(np.repeat(np.array(ids, dtype), 3)[::3]) == expected


@pytest.mark.parametrize(
    ("ids", "dtype"),
    [([len(TOKENS)], "u2"), ([0, 1, 65535], "u2"), ([-1], "i8"), ([1 << 32], "i8"), ([1 << 63], "u8"), ([255], "u1")],
)
def test_ids_that_are_none(ids: list[int], dtype: str) -> None:
    assert Decoder(TOKENS).decode(np.array(ids, dtype)) is None
    assert Decoder(TOKENS).decode(np.array([0] * 9 + ids, dtype)) is None


def test_all_of_a_vocabulary(gpt2: Tokenizer) -> None:
    tokens = list(gpt2.vocab.values())
    ids = random.Random(0).choices(range(len(tokens)), k=200_000)
    decoder = Decoder(tokens)
    for dtype in (np.uint16, np.uint32, np.int64):
        assert decoder.decode(np.array(ids, dtype)) == b"".join(tokens[index] for index in ids)


def test_no_tokens_and_no_ids() -> None:
    assert Decoder([]).decode(np.array([], np.uint16)) == b""
    assert Decoder([]).decode(np.array([0], np.uint16)) is None
