"""Special tokens in text: tiktoken's meaning, a naive reading, streams cut anywhere, and what is refused."""

import ast
import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.interop.tiktoken import to_tiktoken
from cs336_basics.tokenizer import Tokenizer, TokenizerError

END = "<|endoftext|>"
BYTES = {byte: bytes([byte]) for byte in range(256)}

Refused = Callable[..., None]

# None begins inside another, for tiktoken gives no order to those; two hold whitespace.
APART = [END, "<|a|>", "<b c>", "\n\n<|", "<é>"]
# Prefixes, suffixes and parts of one another, whitespace, and tokens that are also ordinary pre-tokens.
OVERLAPPING = ["<|a|>", "<|a|>b", "<|a", "|>", "a|>b c", "  ", " ", "\n \n", "ab", "b", "'ll", "é"]

texts = st.lists(
    st.sampled_from([*"<|>ab c\n'lé!", "<|a", "|>", "<|a|>", "<|a|>b", "<b c>", "\n\n<|", "'ll", "<é>", END]),
    max_size=25,
).map("".join)
cuts = st.lists(st.integers(0, 80), max_size=40)


def some(specials: list[str]) -> st.SearchStrategy[Any]:
    return st.sampled_from(["all", "none"]) | st.sets(st.sampled_from(specials), max_size=4)


def among(specials: list[str], choice: Any) -> set[str]:
    """The special tokens that a choice stands for."""
    if choice in ("all", "none"):
        return set(specials if choice == "all" else ())
    return set(choice)


def naive_encode(tokenizer: Tokenizer, text: str, allowed: Any, disallowed: Any) -> list[int] | tuple[str, int]:
    """The ids, or the refused token and its index: every special token is tried at every place, the longest first."""
    specials = list(tokenizer.special_tokens)
    taken = among(specials, allowed)
    refused = set(specials) - taken if disallowed == "all" else among(specials, disallowed)
    for index in range(len(text)):
        if here := [token for token in refused if text.startswith(token, index)]:
            return max(here, key=len), index
    ordinary = Tokenizer({index: token for index, token in tokenizer.vocab.items() if index < 600}, tokenizer.merges)
    ids: list[int] = []
    between = ""
    place = 0
    while place < len(text):
        here = [token for token in taken if text.startswith(token, place)]
        if here:
            token = max(here, key=len)
            ids += [*ordinary.encode(between), tokenizer.special_id(token)]
            place, between = place + len(token), ""
        else:
            between += text[place]
            place += 1
    return ids + ordinary.encode(between)


def ids_or_refusal(call: Callable[[], Any]) -> list[int] | tuple[str, int]:
    try:
        return list(call())
    except TokenizerError as error:
        message = str(error)
        match = re.search(
            r"disallowed special token, got (.*) at index (\d+); allow it by allowed_special, or", message
        )
        assert match, message
        return ast.literal_eval(match[1]), int(match[2])


@pytest.fixture(scope="session")
def apart(small: Tokenizer) -> Tokenizer:
    return Tokenizer(small.vocab, small.merges, APART)


@pytest.fixture(scope="session")
def overlapping(small: Tokenizer) -> Tokenizer:
    return Tokenizer(small.vocab, small.merges, OVERLAPPING)


@pytest.fixture(scope="session")
def reference(apart: Tokenizer) -> tiktoken.Encoding:
    return to_tiktoken(apart)


@given(text=texts, allowed=some(APART), disallowed=some(APART))
@settings(deadline=None, max_examples=300)
def test_ids_and_refusals_are_those_of_tiktoken(
    text: str, allowed: Any, disallowed: Any, apart: Tokenizer, reference: tiktoken.Encoding
) -> None:
    options: dict[str, Any] = {
        "allowed_special": "all" if allowed == "all" else among(APART, allowed),
        "disallowed_special": "all" if disallowed == "all" else among(APART, disallowed),
    }
    found = ids_or_refusal(lambda: apart.encode(text, allowed_special=allowed, disallowed_special=disallowed))
    try:
        assert found == reference.encode(text, **options)
    except ValueError as error:
        message = str(error)
        assert repr(found[0]) in message
        assert text.startswith(str(found[0]), found[1])


@given(text=texts, allowed=some(OVERLAPPING), disallowed=some(OVERLAPPING), cuts=cuts)
@settings(deadline=None, max_examples=400)
def test_overlapping_special_tokens_are_the_naive_reading_however_the_text_is_cut(
    text: str, allowed: Any, disallowed: Any, cuts: list[int], overlapping: Tokenizer
) -> None:
    options: dict[str, Any] = {"allowed_special": allowed, "disallowed_special": disallowed}
    expected = naive_encode(overlapping, text, allowed, disallowed)
    assert ids_or_refusal(lambda: overlapping.encode(text, **options)) == expected
    assert ids_or_refusal(lambda: overlapping.encode_array(text, **options)) == expected
    places = sorted(cut % (len(text) + 1) for cut in cuts)
    chunks = [text[start:end] for start, end in itertools.pairwise([0, *places, len(text)])]
    assert ids_or_refusal(lambda: overlapping.encode_iterable(chunks, **options)) == expected
    assert ids_or_refusal(lambda: overlapping.encode_iterable(text, **options)) == expected


@given(text=texts, refused=st.sets(st.sampled_from(OVERLAPPING), min_size=1), cuts=cuts)
@settings(deadline=None, max_examples=200)
def test_a_stream_gives_no_id_of_any_part_of_what_it_refuses(
    text: str, refused: set[str], cuts: list[int], overlapping: Tokenizer
) -> None:
    places = sorted(cut % (len(text) + 1) for cut in cuts)
    chunks = [text[start:end] for start, end in itertools.pairwise([0, *places, len(text)])]
    ids: list[int] = []
    try:
        for index in overlapping.encode_iterable(chunks, allowed_special="none", disallowed_special=refused):
            ids.append(index)
    except TokenizerError as error:
        index = int(str(error).partition(" at index ")[2].partition(";")[0])
        assert text[:index].startswith(overlapping.decode(ids))
    else:
        assert overlapping.decode(ids) == text


def test_a_stream_refuses_as_soon_as_nothing_longer_may_come(small: Tokenizer) -> None:
    tokenizer = Tokenizer(small.vocab, small.merges, ["<|a|>", "<|a|>b"])
    ids = tokenizer.encode_iterable(itertools.chain(["x<|", "a|>", "cc"], itertools.repeat("more")), allowed_special=())
    with pytest.raises(
        TokenizerError, match=r"chunks must hold no disallowed special token, got '<\|a\|>' at index 1;"
    ):
        list(ids)


def test_what_no_one_forbids_is_ordinary_text(small: Tokenizer) -> None:
    plain = Tokenizer(dict(list(small.vocab.items())[:599]), small.merges)
    text = f"a{END}  b"
    assert small.encode(text, allowed_special="none", disallowed_special="none") == plain.encode(text)
    assert small.encode(text, allowed_special=set(), disallowed_special=()) == plain.encode(text)
    assert small.encode(text, allowed_special={END}) == small.encode(text) != plain.encode(text)
    # A special token that is an ordinary pre-token too keeps its own ids as either.
    tokenizer = Tokenizer(small.vocab, small.merges, ["ab"])
    for _ in range(2):
        assert tokenizer.encode("ab") == [600]
        assert tokenizer.encode("ab", allowed_special="none", disallowed_special="none") == small.encode("ab")


def test_the_default_takes_special_tokens_as_such_and_one_word_refuses_them(small: Tokenizer, refused: Refused) -> None:
    text = f"One{END}"
    assert small.encode(text) == [*small.encode("One"), small.special_id(END)]
    words = (f"'{END}'", "index 3", "allow it by allowed_special", "disallowed_special ('none' for all)")
    refused(lambda: small.encode(text, allowed_special="none"), "encode: text must", *words)
    refused(lambda: small.encode_array(text, allowed_special="none"), "encode_array: text must", *words)
    refused(
        lambda: list(small.encode_iterable([text[:6], text[6:]], allowed_special="none")),
        "encode_iterable: chunks must",
        *words,
    )
    # One that is both allowed and disallowed is refused.
    refused(lambda: small.encode(text, allowed_special="all", disallowed_special={END}), "index 3")


@pytest.mark.parametrize("name", ["allowed_special", "disallowed_special"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("some", ["'all', 'none' or a set", "'some'"]),
        (END, ["'all', 'none' or a set"]),
        (None, ["'all', 'none' or a set", "None"]),
        (b"all", ["'all', 'none' or a set"]),
        (7, ["'all', 'none' or a set"]),
        ({"<|endoftext|"}, ["must name special tokens of the tokenizer", END, "'<|endoftext|'"]),
        ([1], ["must name special tokens", "int 1"]),
        ([[END]], ["must name special tokens", "list"]),
        (np.array(["all"]), ["must name special tokens"]),
    ],
)
def test_bad_options(name: str, value: Any, words: list[str], small: Tokenizer, refused: Refused) -> None:
    options = {name: value}
    # At once, though the ids of a stream are lazy.
    for function in (small.encode, small.encode_array, small.encode_iterable):
        refused(lambda function=function: function("", **options), f"{function.__name__}: {name} must", *words)


def test_a_long_stream_of_letters_is_searched_in_linear_time_and_constant_memory(small: Tokenizer) -> None:
    seen = 0
    for _ in small.encode_iterable(itertools.repeat("<|endoftex", 30_000), allowed_special="none"):
        seen += 1
    assert seen > 30_000
