"""The yardsticks: a count by hand for the unigram model, and what xz must and must not know."""

import lzma
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.contracts import ContractError
from cs336_basics.train.yardsticks import unigram_nats, xz_bits_per_byte

tokens = st.lists(st.integers(0, 9), max_size=50)


@given(train=tokens, valid=tokens.filter(bool), dtype=st.sampled_from(["uint16", "uint32", "int64"]))
@settings(deadline=None, max_examples=50)
def test_unigram_equals_a_dict_loop(train: list[int], valid: list[int], dtype: str) -> None:
    counts = dict.fromkeys(range(10), 1)
    for token in train:
        counts[token] += 1
    total = sum(counts.values())
    expected = sum(-math.log(counts[token] / total) for token in valid)
    found = unigram_nats(np.array(train, dtype), np.array(valid, dtype), vocab_size=10)
    assert found == pytest.approx(expected, rel=1e-12)


def test_unigram_of_nothing_seen_is_uniform() -> None:
    found = unigram_nats(np.array([], np.int64), np.arange(5), vocab_size=8)
    assert found == pytest.approx(5 * math.log(8))


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(ContractError, match="unigram_nats: valid must hold at least one token"):
        unigram_nats(np.arange(3), np.arange(0), vocab_size=3)
    with pytest.raises(ContractError, match="xz_bits_per_byte: valid must hold at least one byte"):
        xz_bits_per_byte(b"abc", b"")


def sentences(seed: int, n: int) -> bytes:
    words = ["the", "model", "of", "a", "token", "is", "not", "in", "any", "and", "we", "see", "that", "loss", "falls"]
    draw = random.Random(seed)
    return " ".join(draw.choice(words) for _ in range(n)).encode()


def plain_xz(text: bytes) -> float:
    return 8 * len(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)) / len(text)


def test_priming_helps_on_text_of_the_same_kind() -> None:
    train, valid = sentences(1, 6000), sentences(2, 600)
    primed = xz_bits_per_byte(train, valid)
    assert 0 < primed < plain_xz(valid)


def test_priming_does_not_hurt_much_on_other_text() -> None:
    valid, other = sentences(2, 600), sentences(1, 6000)[::-1]
    assert xz_bits_per_byte(other, valid) < 1.1 * plain_xz(valid)


def test_what_was_seen_is_almost_free() -> None:
    train = random.Random(0).randbytes(300_000)
    assert xz_bits_per_byte(train, train[:50_000]) < 0.2  # a copy of at most 273 bytes costs about five


def test_noise_is_eight_bits() -> None:
    draw = random.Random(0)
    assert xz_bits_per_byte(draw.randbytes(5000), draw.randbytes(5000)) == pytest.approx(8, rel=0.02)


def test_the_dictionary_holds_both_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def compress(text: bytes, *, filters: list[dict[str, int]], **_: int) -> bytes:
        sizes.append((len(text), filters[0]["dict_size"]))
        return text

    monkeypatch.setattr(lzma, "compress", compress)
    assert xz_bits_per_byte(bytes(100_000), bytes(5_000)) == 8
    assert sizes == [(105_000, 105_000), (100_000, 105_000)]
