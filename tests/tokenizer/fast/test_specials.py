"""Special tokens: the longest at a place, as a plain search says, and thousands of them at the price of a few."""

import random
import re
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from cs336_basics.tokenizer import Tokenizer
from cs336_basics.tokenizer.fast.specials import find_special, special_table
from cs336_basics.tokenizer.specials import special_pattern

BYTES = {byte: bytes([byte]) for byte in range(256)}


@njit(cache=False)
def call_find_special(address: int, at: int, end: int, table: int) -> tuple[int, int]:
    return find_special(address, at, end, table)


def spans(text: str, specials: list[str], pad: str = "") -> list[tuple[int, int]]:
    """Where `find_special` finds them, in bytes; `pad` is what follows the text in memory."""
    table = special_table(specials)
    letters = np.frombuffer((text + pad).encode() or b" ", np.uint8)
    at, end = 0, len(text.encode())
    found = []
    while at < end:
        start, at = call_find_special(letters.ctypes.data, at, end, table.ctypes.data)
        found += [(start, at)] * (start < end)
    return found


def naive(text: str, specials: set[str]) -> list[tuple[int, int]]:
    """Every length is tried at every place, the longest first; in characters."""
    lengths = sorted({len(token) for token in specials}, reverse=True)
    found, place = [], 0
    while place < len(text):
        n = next((n for n in lengths if n <= len(text) - place and text[place : place + n] in specials), 0)
        found += [(place, place + n)] * (n > 0)
        place += n or 1
    return found


@pytest.mark.parametrize(
    "specials",
    [
        [],
        ["<|a|>"],
        ["<", "<|", "<|a|>", "|>"],
        ["a", "é", "漢", "👍", "'ll", " ", "aaaaaaaaaa", "<|a|>b", "<|", "漢é"],
    ],
)
def test_special_tokens_are_found_the_longest_first(specials: list[str]) -> None:
    longest_first = sorted(specials, key=len, reverse=True)
    pattern = re.compile(b"|".join(re.escape(special.encode()) for special in longest_first) or b"(?!)")
    choose = random.Random(4)
    n_found = 0
    for _ in range(5_000):
        text = "".join(choose.choices([*"<|a>é漢👍 ", "a" * 9, "<|a|>", "other words"], k=choose.randrange(1, 12)))
        found = spans(text, specials, pad="<|a|>b")
        assert found == [match.span() for match in pattern.finditer(text.encode())]
        n_found += len(found)
    assert n_found > 1_000 or not specials


@given(
    specials=st.lists(st.text(alphabet="ab<", min_size=1, max_size=20), unique=True, min_size=1, max_size=60),
    text=st.text(alphabet="ab<c", max_size=60),
)
@settings(deadline=None, max_examples=300)
def test_both_twins_find_what_a_plain_search_finds(specials: list[str], text: str) -> None:
    found = naive(text, set(specials))
    assert spans(text, specials, pad="<ab") == found
    assert [match.span() for match in special_pattern(frozenset(specials)).finditer(text)] == found


def test_prefixes_of_one_another_without_end() -> None:
    specials = ["a" * n for n in range(2, 500)]
    text = "a" * 1201 + "ba"
    found = naive(text, set(specials))
    assert [end - start for start, end in found] == [499, 499, 203]
    assert spans(text, specials) == found
    assert [match.span() for match in special_pattern(frozenset(specials)).finditer(text)] == found


SETS = {  # of as many as asked for: all different after their first letter; each the beginning of the next
    "apart": lambda n: [f"<{number:x}>" for number in range(n)],
    "nested": lambda n: ["<b" + "0" * number for number in range(n // 10)],
}


@pytest.mark.parametrize("engine", ["python", "fast"])
@pytest.mark.parametrize("kind", SETS)
def test_thousands_of_them_cost_hardly_more_than_a_few(engine: str, kind: str) -> None:
    """Tried one by one wherever a `<` stands, they took twenty times as long."""
    text = "<p>Some text <b>bold</b> and a <b1 here.\n" * 5_000
    seconds = []
    for n in (20, 20_000):
        tokenizer = Tokenizer(BYTES, [], SETS[kind](n), engine=engine)  # type: ignore[arg-type]  # one of both
        assert max(tokenizer.encode(text)) >= 256, "one of them is there"
        times = []
        for _ in range(5):
            start = time.process_time()
            tokenizer.encode(text)
            times.append(time.process_time() - start)
        seconds.append(min(times))
    assert seconds[1] < 5 * seconds[0] + 0.01
