"""tiktoken as a peer: the same ids both ways."""

from pathlib import Path

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.interop.tiktoken import from_tiktoken, to_tiktoken
from cs336_basics.tokenizer import Tokenizer, TokenizerError, train_bpe

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
    assert to_tiktoken(gpt2).encode(text, allowed_special="all") == gpt2.encode(text)


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
