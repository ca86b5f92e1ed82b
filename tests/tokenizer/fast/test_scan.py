"""The scanner is the pattern: on every code point, on hostile text, on real text; and it never reads past the end."""

import itertools
import random
import re
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import regex
from numba import njit

from cs336_basics.tokenizer.fast.classes import find_classes
from cs336_basics.tokenizer.fast.machine import store_i64
from cs336_basics.tokenizer.fast.scan import find_special, next_end, special_table, valid_end
from cs336_basics.tokenizer.pretokenize import GPT2_PATTERN

find_pretokens = regex.compile(GPT2_PATTERN).findall

# One or more of every kind that the pattern tells apart, of every length in UTF-8, and all that \s means.
HOSTILE = [
    *"''''sdmtlvreSDLaZz  09!.,-_<|>{}[]@`^~",
    *("'s", "'ll", "'ve", "'re", "'l", "'v", "'LL", "\r\n", "  ", "abcdefgh", "antidisestablishment", " \n ", "don't"),
    *"\t\n\x0b\x0c\r\x1c\x1f\x85\xa0\u1680\u2002\u2028\u2029\u202f\u205f\u3000",  # space; \x1c and \x1f are not
    *"\u200b\u200d\ufeff\x00\x7f\x80\u061c",  # looks like space, is not
    *"éßµªº\u0301\u0308\u0e31\u093e\ufe0f",  # letters beyond ASCII; marks, which are neither letter nor number
    *"٣५²½Ⅷ〇一七\U0001d7d8\U00010107",  # numbers of other scripts, and two letters that mean numbers
    *"漢字かなคאب\U00020000\U00010400\U0001d400",
    *"👍🏽👩\u20ac\U000e0001\U0010ffff",
]


@njit(cache=False)  # what is kept on disk would not notice a changed scanner
def store_ends(address: int, end: int, ends: int) -> int:
    """Store the end of every pre-token at `ends`, and return their number."""
    at = n_ends = 0
    while at < end:
        at = next_end(address, at, end)
        store_i64(ends + 8 * n_ends, at)
        n_ends += 1
    return n_ends


@njit(cache=False)
def call_find_special(address: int, at: int, end: int, table: int) -> tuple[int, int]:
    return find_special(address, at, end, table)


def scanned(text: bytes) -> npt.NDArray[np.int64]:
    letters = np.frombuffer(text, np.uint8)
    ends = np.empty(len(letters), np.int64)
    return ends[: store_ends(letters.ctypes.data, len(letters), ends.ctypes.data)]


def defined(text: str) -> npt.NDArray[np.int64]:
    return np.cumsum([*map(len, map(str.encode, find_pretokens(text)))], dtype=np.int64)


def check(text: str) -> None:
    assert np.array_equal(scanned(text.encode()), defined(text)), ascii(text[:200])


def hostile_texts(n_texts: int, seed: int) -> list[str]:
    choose = random.Random(seed)
    return ["".join(choose.choices(HOSTILE, k=choose.randrange(1, 30))) for _ in range(n_texts)]


def test_every_code_point() -> None:
    code_points = [*range(0xD800), *range(0xE000, 0x110000)]
    check("".join(f"a{chr(number)} {chr(number)}\n" for number in code_points))


def test_every_code_point_where_the_class_changes_among_all_kinds() -> None:
    """Before and after each kind, and at either end of the text."""
    changes = np.flatnonzero(np.diff(find_classes()))
    edges = [chr(number) for number in sorted({*changes, *changes + 1, *range(128)}) if not 0xD800 <= number < 0xE000]
    assert len(edges) > 1500
    kinds = ["", "a", "é", "漢", " ", "\n", "\u3000", "7", "!", "'", "  ", " a", "'l"]
    for before, after in itertools.product(kinds, repeat=2):
        texts = [before + edge + after for edge in edges]
        check("\n!".join(texts))
        for text in texts[:: len(kinds)]:
            check(text)


def test_hostile_texts() -> None:
    for text in hostile_texts(60_000, seed=1):
        check(text)


def test_every_short_text() -> None:
    for letters in itertools.product("'lseé \n\u3000!1", repeat=4):
        check("".join(letters))


def test_letters_around_the_words_of_eight_bytes() -> None:
    for byte in range(128):
        for before in range(18):
            check("a" * before + chr(byte) + "zZ" * 9)


def valid_bytes(text: bytes) -> int:
    """What Python's decoder says: where the first character is that is none."""
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return error.start
    return len(text)


def test_valid_end_is_that_of_python() -> None:
    """Every two bytes, all edges of what may follow a byte that begins a character, and mutated text."""
    edges = [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF]
    texts = [bytes(two) for two in itertools.product(range(256), repeat=2)]
    texts += [bytes([first, *rest]) for first in range(0xC0, 0x100) for rest in itertools.product(edges, repeat=3)]
    choose = random.Random(3)
    for _ in range(10_000):
        mutated = bytearray("aé漢👍\ud7ff\ue000\uffff\U0010ffff 12345678 ".encode() * 2)
        for _ in range(choose.randrange(1, 3)):
            mutated[choose.randrange(len(mutated))] = choose.choice([*range(0x7E, 0xC4), *range(0xDE, 0x100)])
        texts.append(bytes(mutated))
    n_valid = 0
    for text in texts:
        whole = text + "漢a".encode()  # what lies beyond the end is not read
        address = np.frombuffer(whole, np.uint8).ctypes.data
        assert valid_end(address, 0, len(text)) == valid_bytes(text), text
        n_valid += valid_bytes(text) == len(text)
    assert 10_000 < n_valid < len(texts) - 10_000


def test_every_code_point_is_valid() -> None:
    text = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)])).encode()
    assert valid_end(np.frombuffer(text, np.uint8).ctypes.data, 0, len(text)) == len(text)


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
    table = special_table(specials)
    longest_first = sorted(specials, key=len, reverse=True)
    pattern = re.compile(b"|".join(re.escape(special.encode()) for special in longest_first) or b"(?!)")
    choose = random.Random(4)
    n_found = 0
    for _ in range(5_000):
        text = "".join(choose.choices([*"<|a>é漢👍 ", "a" * 9, "<|a|>", "other words"], k=choose.randrange(1, 12)))
        letters = np.frombuffer((text + "<|a|>b").encode(), np.uint8)
        at, end = 0, len(text.encode())
        found = []
        while at < end:
            start, at = call_find_special(letters.ctypes.data, at, end, table.ctypes.data)
            found += [(start, at)] * (start < end)
        assert found == [match.span() for match in pattern.finditer(text.encode())]
        n_found += len(found)
    assert n_found > 1_000 or not specials


def test_end_is_the_end_of_the_text() -> None:
    """What lies beyond `end` is another text: neither letters, nor the rest of a contraction, nor space."""
    for text in hostile_texts(2_000, seed=2):
        whole = np.frombuffer(text.encode() + b"'ll  abcdefghijkl", np.uint8)
        ends = np.empty(len(whole), np.int64)
        for n_characters in range(1, len(text)):
            end = len(text[:n_characters].encode())
            n_ends = store_ends(whole.ctypes.data, end, ends.ctypes.data)
            assert np.array_equal(ends[:n_ends], defined(text[:n_characters]))


@pytest.mark.parametrize("name", ["technical.txt", "multilingual.txt", "narrative.txt"])
def test_real_text(name: str, shared_data: Path) -> None:
    check((shared_data / name).read_bytes().decode())


@pytest.mark.parametrize(
    "text",
    [
        "a" * 1_000_000,
        " " * 1_000_000,
        "\n" * 1_000_000 + "a",
        "'" * 1_000_000,
        "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz", k=1_000_000)),
        "".join(map(chr, random.Random(1).choices(range(0x4E00, 0x9FFF), k=333_333))),
        "a" + "\u0301" * 500_000,
        "\u3000a" * 250_000,
    ],
    ids=["letter", "blanks", "newlines", "apostrophes", "letters", "ideographs", "marks", "wide blanks"],
)
def test_one_megabyte_of_anything_takes_no_time(text: str) -> None:
    encoded = text.encode()
    scanned(b"warm")
    start = time.process_time()
    scanned(encoded)
    assert time.process_time() - start < 0.1
    check(text)
