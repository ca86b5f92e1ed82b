"""The tokenizer: tiktoken's ids, round trips, streaming, bounded memory, bad input."""

import itertools
import pickle
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.tokenizer import Tokenizer

END = "<|endoftext|>"
BYTES: dict[Any, Any] = {byte: bytes([byte]) for byte in range(256)}

Refused = Callable[..., None]

texts = st.text(max_size=60) | st.text(alphabet="'lsdrev  \n\ta\u00a0é漢1!<|endoftx>👍", max_size=60)


@pytest.mark.parametrize("name", ["narrative.txt", "technical.txt", "multilingual.txt"])
def test_ids_are_those_of_tiktoken(name: str, gpt2: Tokenizer, oracle: tiktoken.Encoding, shared_data: Path) -> None:
    content = (shared_data / name).read_bytes()
    for start in range(0, len(content), len(content) // 7):
        text = content[start : start + 40_000].decode(errors="ignore")
        assert gpt2.encode(text) == oracle.encode(text, allowed_special="all")


@given(text=texts)
@settings(deadline=None, max_examples=150)
def test_ids_of_hostile_text_are_those_of_tiktoken(text: str, gpt2: Tokenizer, oracle: tiktoken.Encoding) -> None:
    assert gpt2.encode(text) == oracle.encode(text, allowed_special="all")


@given(text=texts)
@settings(deadline=None, max_examples=100)
def test_any_string_comes_back(text: str, small: Tokenizer) -> None:
    ids = small.encode(text)
    assert small.decode(ids) == text
    assert small.decode_bytes(ids) == text.encode()
    assert small.encode_array(text).tolist() == ids


@given(content=st.binary(max_size=60))
@settings(deadline=None, max_examples=100)
def test_any_bytes_come_back(content: bytes, small: Tokenizer) -> None:
    assert small.decode_bytes(content) == content
    assert small.decode(content) == content.decode("utf-8", errors="replace")


@given(
    text=st.lists(st.sampled_from([*"'lsdrev  \n\taab<|>é", "<|a|>", "<|a", "|>b", "'ll"]), max_size=40).map("".join),
    specials=st.lists(
        st.sampled_from(["<|", "<|a|>", "<|a|>b", "|>", "aa", " ", "\n\n", "'l", "'ll"]), unique=True, max_size=4
    ),
    cuts=st.lists(st.integers(0, 60), max_size=30),
)
@settings(deadline=None, max_examples=150)
def test_encode_iterable_is_encode_wherever_the_text_is_cut(
    text: str, specials: list[str], cuts: list[int], small: Tokenizer
) -> None:
    tokenizer = Tokenizer(small.vocab, small.merges, specials)
    places = sorted(cut % (len(text) + 1) for cut in cuts)
    chunks = [text[start:end] for start, end in itertools.pairwise([0, *places, len(text)])]
    ids = tokenizer.encode(text)
    assert list(tokenizer.encode_iterable(chunks)) == ids
    assert tokenizer.decode(ids) == text


def test_encode_iterable_of_lines_and_letters(small: Tokenizer, prose: str) -> None:
    ids = small.encode(prose)
    assert list(small.encode_iterable(prose.splitlines(keepends=True))) == ids
    assert list(small.encode_iterable(prose)) == ids
    assert small.encode_array(prose).tolist() == ids


def test_encode_iterable_is_lazy(small: Tokenizer) -> None:
    taken: list[int] = []

    def chunks() -> Iterator[str]:
        for number in itertools.count():
            taken.append(number)
            yield f"line {number}\n"

    ids = small.encode_iterable(chunks())
    assert not taken
    next(ids)
    assert len(taken) <= 4  # the longest special token is as long as two lines


def test_encode_iterable_takes_constant_memory(small: Tokenizer) -> None:
    def peak(n_lines: int) -> int:
        tracemalloc.start()
        try:
            for _ in small.encode_iterable("A line of quite ordinary words, again.\n" for _ in range(n_lines)):
                pass
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(100)
    assert peak(10_000) < peak(100) + 10_000 < 100_000


def test_arrays_are_as_narrow_as_the_vocabulary_allows(small: Tokenizer) -> None:
    assert small.encode_array("abc").dtype == np.uint16
    assert small.encode_array("").shape == (0,)
    pairs = [bytes([left, right]) for left in range(256) for right in range(256)]
    full = Tokenizer(dict(enumerate([*BYTES.values(), *pairs[: (1 << 16) - 256]])), [])
    assert full.vocab_size == 1 << 16
    assert full.encode_array("abc").dtype == np.uint16
    wide = Tokenizer(full.vocab, [], [END])
    assert wide.encode_array(f"a{END}").tolist() == [97, 1 << 16]
    assert wide.encode_array("abc").dtype == np.uint32


def test_special_tokens_get_the_next_free_ids_or_the_ones_they_have() -> None:
    tokenizer = Tokenizer({**BYTES, 256: b"<|a|>"}, [], ["<|b|>", "<|a|>", "~"])
    assert tokenizer.special_tokens == ("<|b|>", "<|a|>", "~")
    assert [tokenizer.special_id(token) for token in tokenizer.special_tokens] == [257, 256, ord("~")]
    assert tokenizer.vocab_size == len(tokenizer.vocab) == 258
    assert tokenizer.encode("<|a|><|b|>~") == [256, 257, 126]
    assert Tokenizer({**BYTES, 256: b"<|a|>"}, []).encode("<|a|>") == list(b"<|a|>")


def test_the_longest_special_token_wins() -> None:
    tokenizer = Tokenizer(BYTES, [], ["<|e|>", "<|e|><|e|>"])
    assert tokenizer.encode("<|e|><|e|><|e|>") == [257, 256]


def test_a_handful_of_ids_by_hand() -> None:
    vocab = dict(enumerate([*BYTES.values(), b"th", b" c", b" a", b"the", b" at"]))
    merges = [(b"t", b"h"), (b" ", b"c"), (b" ", b"a"), (b"th", b"e"), (b" a", b"t")]
    assert Tokenizer(vocab, merges).encode("the cat ate") == [259, 257, ord("a"), ord("t"), 260, ord("e")]


def test_decode_takes_arrays_and_iterators(small: Tokenizer) -> None:
    ids = small.encode("Schöne Wörter")
    for given_ids in (np.array(ids), np.array(ids, np.uint16), iter(ids), tuple(ids), list(np.array(ids))):
        assert small.decode(given_ids) == "Schöne Wörter"
    assert small.decode([]) == ""
    assert small.decode([0xE6, 0xBC]) == "\ufffd"


def test_the_fingerprint_tells_tokenizers_apart(small: Tokenizer) -> None:
    others = [
        Tokenizer(BYTES, []),
        Tokenizer(BYTES, [], ["<|a|>"]),
        Tokenizer({**BYTES, 256: b"<|a|>"}, []),
        Tokenizer({**BYTES, 256: b"ab"}, [(b"a", b"b")]),
        Tokenizer({**BYTES, 256: b"ab"}, []),
        Tokenizer({**BYTES, 0: b"\x01", 1: b"\x00"}, []),
        small,
    ]
    prints = [tokenizer.fingerprint() for tokenizer in others]
    assert len(set(prints)) == len(others)
    assert all(len(print_) == 64 for print_ in prints)
    backwards = dict(reversed(small.vocab.items()))
    assert Tokenizer(backwards, small.merges, small.special_tokens).fingerprint() == small.fingerprint()
    assert pickle.loads(pickle.dumps(small)).fingerprint() == small.fingerprint()  # noqa: S301  # our own bytes
    size = len(pickle.dumps(small))
    small.encode(" ".join(map(str, range(10_000))))
    assert len(pickle.dumps(small)) == size, "what is remembered stays where it is"
    assert pickle.loads(pickle.dumps(small)).encode(f"the{END}") == small.encode(f"the{END}")  # noqa: S301  # our own bytes


@pytest.mark.parametrize(
    ("vocab", "merges", "specials", "words"),
    [
        ([b"a"], [], None, ["vocab", "dict", "list"]),
        ({**BYTES, "256": b"ab"}, [], None, ["vocab", "int", "'256'"]),
        ({**BYTES, -1: b"ab"}, [], None, ["vocab", "0 or more", "-1"]),
        ({**BYTES, 256: "ab"}, [], None, ["vocab", "id 256", "bytes", "'ab'"]),
        ({**BYTES, 256: b""}, [], None, ["vocab", "id 256", "one or more"]),
        ({**BYTES, 256: b"a"}, [], None, ["vocab", "twice", "97 and 256"]),
        ({**BYTES, 257: b"ab"}, [], None, ["vocab", "without gaps", "id 256 is missing"]),
        ({**BYTES, 97: b"aa"}, [], None, ["vocab", "256 single bytes", "b'a' is missing"]),
        ({}, [], None, ["vocab", "256 single bytes"]),
        (BYTES, b"ab", None, ["merges", "list"]),
        (BYTES, [(b"a",)], None, ["merges", "merge 0", "pair"]),
        (BYTES, [("a", "b")], None, ["merges", "merge 0", "pair of bytes"]),
        (BYTES, [(b"a", b"b")], None, ["merges", "merge 0", "b'ab' is not in"]),
        ({**BYTES, 256: b"abc"}, [(b"ab", b"c")], None, ["merges", "merge 0", "b'ab' is not in"]),
        ({**BYTES, 256: b"ab"}, [(b"a", b"b"), (b"a", b"b")], None, ["merges", "twice", "0 and 1"]),
        (BYTES, [], "<|a|>", ["special_tokens", "list"]),
        (BYTES, [], "", ["special_tokens", "list"]),
        (BYTES, [], ["<|a|>", "<|a|>"], ["special_tokens", "twice", "index 1"]),
        (BYTES, [], [""], ["special_tokens[0]", "empty"]),
        (BYTES, [], [7], ["special_tokens[0]", "str"]),
    ],
)
def test_bad_tokenizers(vocab: Any, merges: Any, specials: Any, words: list[str], refused: Refused) -> None:
    refused(lambda: Tokenizer(vocab, merges, specials), "Tokenizer: ", *words)


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([1, 600], ["0 to 599", "600 tokens", "int 600", "position 1"]),
        ([1, -1], ["int -1", "position 1"]),
        ([1.0], ["float 1.0", "position 0"]),
        (np.array([1.5]), ["float 1.5"]),
        (np.array([[1, 2]]), ["iterable of ints", "ndarray int64(1, 2)"]),
        (np.array(7), ["iterable of ints", "ndarray int64()"]),
        ([np.int64(5), 99_999_999], ["int 99999999", "position 1"]),
        ("ab", ["str 'a'"]),
        ([None], ["NoneType None"]),
        (7, ["iterable", "int 7"]),
    ],
)
def test_bad_ids(ids: Any, words: list[str], small: Tokenizer, refused: Refused) -> None:
    for decode in (small.decode, small.decode_bytes):
        refused(lambda decode=decode: decode(ids), "decode: ids", *words)


@given(text=st.text(alphabet="\ud800\udbff\udc00\udfffaé👍 \ue000\ud7ff\ufffd", max_size=20), cut=st.integers(0, 20))
@settings(deadline=None, max_examples=100)
def test_surrogates_are_replaced_where_one_asks_for_it(text: str, cut: int, small: Tokenizer) -> None:
    mended = "".join("\ufffd" if 0xD800 <= ord(character) <= 0xDFFF else character for character in text)
    expected = small.encode(mended)
    assert small.decode(expected) == mended
    assert small.encode(text, errors="replace") == expected
    assert small.encode_array(text, errors="replace").tolist() == expected
    assert list(small.encode_iterable([text[:cut], text[cut:]], errors="replace")) == expected


def test_a_special_token_is_looked_for_in_the_mended_text(small: Tokenizer, refused: Refused) -> None:
    tokenizer = Tokenizer(small.vocab, small.merges, ["<\ufffd>"])
    assert tokenizer.encode("a<\ud800>", errors="replace") == [97, 600]
    refused(lambda: tokenizer.encode("a<\ud800>", errors="replace", allowed_special="none"), "index 1")


@pytest.mark.parametrize("errors", ["ignore", None, "", 1])
def test_bad_errors(errors: Any, small: Tokenizer, refused: Refused) -> None:
    for function in (small.encode, small.encode_array, small.encode_iterable):
        name = function.__name__
        refused(lambda function=function: function("", errors=errors), f"{name}: errors must be 'strict' or 'replace'")


def test_bad_text(small: Tokenizer, refused: Refused) -> None:
    refused(lambda: small.encode("\ud800", errors="strict"), "U+D800", "index 0", "mend the text", "errors='replace'")
    refused(lambda: Tokenizer(BYTES, [], ["<\udfff>"]), "special_tokens[0]", "U+DFFF", "index 1; leave it out")
    refused(lambda: small.encode("ab\ud800c"), "encode: text", "U+D800", "index 2")
    refused(lambda: small.encode_array("ab\udfff"), "encode_array: text", "U+DFFF", "index 2")
    refused(lambda: list(small.encode_iterable(["äb", "c\ud83d", "\ude00"])), "chunk 1", "U+D83D", "index 3")
    refused(lambda: small.encode(b"ab"), "encode: text", "str", "bytes")  # type: ignore[arg-type]  # the bad input
    refused(lambda: small.encode_array(None), "encode_array: text", "None")  # type: ignore[arg-type]  # the bad input
    refused(lambda: list(small.encode_iterable(["a", 1])), "chunk 1", "str", "int 1")  # type: ignore[list-item]  # the bad input
    refused(lambda: small.encode_iterable(1), "chunks", "iterable", "int 1")  # type: ignore[arg-type]  # the bad input
    refused(lambda: small.special_id("the"), "special_id: token", END, "'the'")
    refused(lambda: small.special_id([]), "special_id: token", END, "got list")  # type: ignore[arg-type]  # the bad input
    refused(lambda: small.encode_blocks([], n_bytes="x"), "encode_blocks: n_bytes", "got str 'x'")  # type: ignore[arg-type]  # the bad input
    refused(lambda: Tokenizer.load("a\0b"), "Tokenizer.load: folder", "null character")


def test_importing_the_room_loads_neither_torch_nor_numpy() -> None:
    code = "import sys, cs336_basics.tokenizer; print([m for m in ('torch', 'numpy', 'tqdm') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_long_random_ids_decode(small: Tokenizer) -> None:
    rng = random.Random(0)
    ids = rng.choices(range(small.vocab_size), k=10_000)
    assert small.decode_bytes(ids) == b"".join(small.vocab[index] for index in ids)
