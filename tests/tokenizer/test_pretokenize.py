"""Pre-tokens: the pattern, special tokens, and cutting a text that arrives in pieces."""

import itertools
import time
from collections.abc import Sequence

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.tokenizer import pretokenize
from cs336_basics.tokenizer.pretokenize import Pretokenizer, windows

PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

# Letters that the pattern treats apart, and parts of special tokens often enough that some come whole.
hostile_text = st.lists(
    st.sampled_from(
        [*"'lsdmtrve  \n\t\u00a0\u3000aaé漢1²!<|>\u0301👍", "<|a|>", "<|a|><|a|>", "<|a", "aa", "\n\n", "'ll"]
    ),
    max_size=30,
).map("".join)
hostile_specials = st.lists(
    st.sampled_from(["<|", "<|a|>", "<|a|><|a|>", "|>", "a", "aa", "aaa", " ", "\n\n", " '", "'l", "'ll", "!<", "漢"]),
    unique=True,
    max_size=5,
)


def naive_split(text: str, specials: Sequence[str]) -> list[str]:
    """Try every special token, the longest first, at every place; then the pattern on what lies between."""
    pretokens: list[str] = []
    between = ""
    place = 0
    while place < len(text):
        here = [special for special in specials if text.startswith(special, place)]
        if here:
            pretokens += [*regex.findall(PATTERN, between), max(here, key=len)]
            place += len(max(here, key=len))
            between = ""
        else:
            between += text[place]
            place += 1
    return pretokens + regex.findall(PATTERN, between)


def chunked(text: str, cuts: Sequence[int]) -> list[str]:
    places = sorted({cut % (len(text) + 1) for cut in cuts})
    return [text[start:end] for start, end in itertools.pairwise([0, *places, len(text)])]


@given(hostile_text, hostile_specials)
@settings(deadline=None, max_examples=200)
def test_split_is_the_definition(text: str, specials: list[str]) -> None:
    pretokens = Pretokenizer(specials).split(text)
    assert pretokens == naive_split(text, specials)
    assert "".join(pretokens) == text


@given(hostile_text, hostile_specials, st.lists(st.integers(0, 40), max_size=40))
@settings(deadline=None, max_examples=500)
def test_stream_is_split_wherever_the_text_is_cut(text: str, specials: list[str], cuts: list[int]) -> None:
    pretokenizer = Pretokenizer(specials)
    assert [*itertools.chain(*pretokenizer.stream(chunked(text, cuts)))] == naive_split(text, specials)


def test_stream_is_split_for_every_short_text_letter_by_letter() -> None:
    """Each letter on its own is the harshest chunking: nothing of what is to come is known."""
    pretokenizer = Pretokenizer()
    for letters in itertools.product("'l sa\n!1", repeat=5):
        text = "".join(letters)
        assert [*itertools.chain(*pretokenizer.stream(text))] == regex.findall(PATTERN, text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("we'll", ["we", "'ll"]),
        ("WE'LL", ["WE", "'", "LL"]),
        ("x  y", ["x", " ", " y"]),
        ("x \n\n y", ["x", " \n\n", " y"]),
        ("12abc", ["12", "abc"]),
        ("", []),
    ],
)
def test_split_examples(text: str, expected: list[str]) -> None:
    assert Pretokenizer().split(text) == expected


def test_windows_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretokenize, "WINDOW", 3)
    text = "They'll say <|end|> it's   \n\n fine"
    assert "".join(windows(text)) == text
    pretokenizer = Pretokenizer(["<|end|>"])
    assert [*itertools.chain(*pretokenizer.stream([text]))] == pretokenizer.split(text)


def test_stream_gives_a_pretoken_as_soon_as_it_is_settled() -> None:
    stream = Pretokenizer().stream(["one two three four ", pytest.fail])  # type: ignore[list-item]  # never to be reached
    assert next(stream) == ["one", " two", " three"]


@pytest.mark.parametrize("letter", ["a", " ", "!"])
def test_stream_of_a_run_without_end_takes_linear_time(letter: str) -> None:
    start = time.process_time()
    pretokens = [*itertools.chain(*Pretokenizer(["<|end|>"]).stream(letter for _ in range(300_000)))]
    assert pretokens == [letter * 300_000]
    assert time.process_time() - start < 3
