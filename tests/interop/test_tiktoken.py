"""tiktoken as a peer: the same ids both ways."""

import time
from collections import Counter
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.interop.tiktoken import from_tiktoken, to_tiktoken
from cs336_basics.tokenizer import Tokenizer, TokenizerError, train_bpe
from cs336_basics.tokenizer.pretokenize import GPT2_PATTERN

END = "<|endoftext|>"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_text("the cat sat on the mat, isn't it? naïve café 123 \n" * 40 + END)
    vocab, merges = train_bpe(path, 320, [END])
    return Tokenizer(vocab, merges, [END])


@settings(deadline=None, max_examples=200)
@given(text=st.text() | st.text("the cat'sl\n é1") | st.just(f"a {END}{END} cat"))
def test_ids_equal_both_ways(tokenizer: Tokenizer, text: str) -> None:
    encoding = to_tiktoken(tokenizer)
    ids = tokenizer.encode(text)
    assert encoding.encode(text, allowed_special="all") == ids
    assert from_tiktoken(encoding).encode(text) == ids


def test_the_merges_come_back(tokenizer: Tokenizer) -> None:
    back = from_tiktoken(to_tiktoken(tokenizer))
    assert back.merges == tokenizer.merges
    assert back.vocab == tokenizer.vocab


def test_gpt2_survives_the_way_there_and_back(shared_data: Path) -> None:
    gpt2 = Tokenizer.from_files(shared_data / "gpt2" / "vocab.json", shared_data / "gpt2" / "merges.txt", [END])
    text = (shared_data / "multilingual.txt").read_text(encoding="utf-8")[:20_000]
    start = time.process_time()
    encoding = to_tiktoken(gpt2)
    assert from_tiktoken(encoding).merges == gpt2.merges
    assert time.process_time() - start < 30, "about linear in the 50,000 merges: 1 s where this was written"
    assert encoding.encode(text, allowed_special="all") == gpt2.encode(text)


def test_another_pattern_is_refused() -> None:
    encoding = tiktoken.Encoding(
        "other", pat_str=r"\w+", mergeable_ranks={bytes([i]): i for i in range(256)}, special_tokens={}
    )
    with pytest.raises(TokenizerError, match="GPT-2's pattern"):
        from_tiktoken(encoding)


def test_ids_out_of_the_order_of_merges_are_refused() -> None:
    vocab = {i: bytes([i]) for i in range(256)} | {256: b"bc", 257: b"ab"}
    with pytest.raises(TokenizerError, match="order of its merges"):
        to_tiktoken(Tokenizer(vocab, [(b"a", b"b"), (b"b", b"c")]))


# Merges that no training made

BYTES = {i: bytes([i]) for i in range(256)}
Merges = list[tuple[bytes, bytes]]


def by_hand(merges: Merges, *more: bytes, special: tuple[str, ...] = ()) -> Tokenizer:
    """A tokenizer with the merges' tokens in their order, and more tokens that no merge makes."""
    tokens = dict.fromkeys([*(left + right for left, right in merges), *more])
    return Tokenizer(BYTES | dict(enumerate(tokens, 256)), merges, special)


@st.composite
def hand_made(draw: st.DrawFn) -> Tokenizer:
    """Merges of a few letters: some as a training could make them, some that never apply, out of order or doubled."""
    tokens, merges = [b"a", b"b", b"c"], dict[tuple[bytes, bytes], None]()
    for _ in range(draw(st.integers(1, 8))):
        left, right = draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens))
        merges[left, right] = None
        tokens.append(left + right)
    order = draw(st.just(list(merges)) | st.permutations(list(merges)))
    return by_hand(order, *draw(st.just([]) | st.lists(st.sampled_from([b"abc", b"ca"]), unique=True)))


def test_hand_made_merges_are_refused_or_give_equal_ids() -> None:
    outcomes = Counter[str]()

    @settings(deadline=None, max_examples=400)
    @given(tokenizer=hand_made(), texts=st.lists(st.text("abc", max_size=40), min_size=5, max_size=5))
    def check(tokenizer: Tokenizer, texts: list[str]) -> None:
        try:
            encoding = to_tiktoken(tokenizer)
        except TokenizerError:
            outcomes["refused"] += 1
            return
        outcomes["equal"] += 1
        for text in [*texts, *(token.decode() for token in list(tokenizer.vocab.values())[256:])]:
            assert encoding.encode(text) == tokenizer.encode(text)
        assert from_tiktoken(encoding).merges == tokenizer.merges

    check()
    assert min(outcomes["equal"], outcomes["refused"]) > 20, "neither was rare"


@pytest.mark.parametrize(
    ("tokenizer", "text", "message"),
    [
        (
            by_hand([(b"a", b"b"), (b"b", b"c"), (b"a", b"bc")]),
            "abc",
            r"b'abc' must be reached by its merge, b'a' \+ b'bc', but those before it make b'ab' \+ b'c' of its bytes",
        ),
        (by_hand([(b"ab", b"c")], b"ab"), "abc", r"b'abc' must be reached .* make b'a' \+ b'b' \+ b'c' of its bytes"),
        (
            by_hand([(b"b", b"c"), (b"a", b"bc"), (b"ab", b"c")], b"ab"),
            "xab",
            r"b'abc' must come of one merge, got another, b'ab' \+ b'c'",
        ),
        (by_hand([(b"a", b"b")], b"the"), "the", "b'the' must come of a merge, got none"),
    ],
)
def test_a_token_that_tiktoken_would_reach_by_other_pairs_is_named(
    tokenizer: Tokenizer, text: str, message: str
) -> None:
    with pytest.raises(TokenizerError, match=f"^to_tiktoken: {message}"):
        to_tiktoken(tokenizer)
    ranks = {token: index for index, token in tokenizer.vocab.items()}
    naive = tiktoken.Encoding("naive", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={})
    assert naive.encode(text) != tokenizer.encode(text), "it would have had other ids"


@pytest.mark.parametrize("special", ["the", "x", "ab"])
def test_a_special_token_may_be_a_byte_or_the_result_of_a_merge(special: str) -> None:
    tokenizer = by_hand([(b"t", b"h"), (b"th", b"e"), (b"the", b"n")], special=(special,))
    encoding = to_tiktoken(tokenizer)
    for text in ("then the nth thex", "xabyx", special * 3):
        ids = tokenizer.encode(text)
        assert encoding.encode(text, allowed_special="all") == ids
        assert from_tiktoken(encoding).encode(text) == ids


@pytest.mark.parametrize("missing", [b"\x00", b"a", b"\xff"])
def test_an_encoding_without_a_byte_is_refused_by_name(missing: bytes) -> None:
    ranks = {token: index for index, token in BYTES.items() if token != missing} | {b"ab": 256}
    encoding = tiktoken.Encoding("holey", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={})
    with pytest.raises(TokenizerError, match=r"^from_tiktoken: encoding must have all 256 single bytes") as caught:
        from_tiktoken(encoding)
    assert f"{missing!r} is missing" in str(caught.value)


def test_a_token_of_no_two_earlier_ones_is_refused() -> None:
    ranks = {token: index for index, token in BYTES.items()} | {b"abc": 256}
    encoding = tiktoken.Encoding("gap", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={})
    with pytest.raises(TokenizerError, match=r"^from_tiktoken: b'abc' must be a merge of two .* got 3 parts"):
        from_tiktoken(encoding)
