"""The ids of the readable tokenizer and of tiktoken, for any text and vocabulary; caches that change nothing; time."""

import copy
import itertools
import os
import pickle
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.tokenizer import Tokenizer
from cs336_basics.tokenizer.fast.encode import NO_SPECIALS, Encoder, Specials
from cs336_basics.tokenizer.fast.spans import SLACK
from cs336_basics.tokenizer.fast.workspace import SMALL_BYTES
from cs336_basics.tokenizer.pretokenize import WINDOW
from tests.tokenizer.fast.test_scan import HOSTILE, hostile_texts

END = "<|endoftext|>"
MEGABYTE = 1_000_000
texts = st.lists(st.sampled_from([*HOSTILE, "the", " the", "ab" * 40, "  " * 40, END]), max_size=30).map("".join)


@pytest.fixture(scope="session")
def encoder(gpt2: Tokenizer) -> Encoder:
    return Encoder(gpt2.vocab, gpt2.merges)


@pytest.fixture(scope="session")
def small_encoder(small: Tokenizer) -> Encoder:
    return Encoder(small.vocab, small.merges)


@pytest.mark.parametrize("name", ["narrative.txt", "technical.txt", "multilingual.txt"])
def test_all_of_a_text_as_tiktoken_does_first_and_warm(
    name: str, encoder: Encoder, oracle: tiktoken.Encoding, shared_data: Path
) -> None:
    text = (shared_data / name).read_bytes().decode()
    expected = np.array(oracle.encode(text, allowed_special="all"), np.uint16)
    specials = Specials({END: 50256})
    for _ in range(2):
        found = encoder.encode_array(text, specials)
        assert found.dtype == np.uint16
        assert np.array_equal(found, expected)
    chunks = list(encoder.encode_chunks([text], specials))
    assert np.array_equal(np.concatenate(chunks), expected)
    assert max(map(len, chunks)) < 8 * WINDOW


@given(text=texts)
@settings(deadline=None, max_examples=300)
def test_hostile_text_as_tiktoken_does(text: str, encoder: Encoder, oracle: tiktoken.Encoding) -> None:
    assert encoder.encode(text) == oracle.encode_ordinary(text)
    assert encoder.encode_array(text).tolist() == oracle.encode_ordinary(text)
    assert encoder.encode_array(text.encode()).tolist() == oracle.encode_ordinary(text)
    assert encoder.encode(text, Specials({END: 50256})) == oracle.encode(text, allowed_special="all")


def test_many_hostile_texts_as_the_readable_one(small: Tokenizer, small_encoder: Encoder) -> None:
    plain = Tokenizer(small.vocab, small.merges)
    for text in hostile_texts(5_000, seed=6):
        assert small_encoder.encode(text) == plain.encode(text)


@st.composite
def tokenizers(draw: st.DrawFn) -> Tokenizer:
    """Merges in any order, ids in any order, tokens that no merge reaches, more than fit two bytes now and then."""
    letters = [b"a", b"b", b" ", b"'", b"l", "é".encode()[:1], "é".encode()[1:]]
    tokens = list(letters)
    merges: list[tuple[bytes, bytes]] = []
    for _ in range(draw(st.integers(0, 20))):
        pair = draw(st.tuples(st.sampled_from(tokens), st.sampled_from(tokens)))
        if pair not in merges and len(b"".join(pair)) <= 12:
            merges.append(pair)
            tokens.append(b"".join(pair))
    if draw(st.booleans()):
        merges = draw(st.permutations(merges))
    vocab = [bytes([byte]) for byte in range(256)] + draw(st.lists(st.sampled_from([b"ab ab", b"zz", b"'l'l"])))
    vocab = list(dict.fromkeys([*vocab, *(left + right for left, right in merges)]))
    draw(st.randoms(use_true_random=False)).shuffle(vocab)
    if draw(st.integers(0, 9)) == 0:
        vocab += [b"\xff" + number.to_bytes(3, "big") for number in range(1 << 16)]
    return Tokenizer(dict(enumerate(vocab)), merges)


@given(
    tokenizer=tokenizers(),
    text=st.lists(st.sampled_from(["a", "b", "ab", " ", "é", "'l", "a" * 30, "b" * 99]), max_size=40).map("".join),
)
@settings(deadline=None, max_examples=100)
def test_any_vocabulary_as_the_readable_one(tokenizer: Tokenizer, text: str) -> None:
    encoder = Encoder(tokenizer.vocab, tokenizer.merges, n_cached=8)
    for _ in range(2):
        assert encoder.encode(text) == tokenizer.encode(text)
        assert np.array_equal(encoder.encode_array(text), tokenizer.encode_array(text))
        assert encoder.encode_array(text).dtype == tokenizer.encode_array(text).dtype


def test_rules_that_make_lower_ranks_possible() -> None:
    """`ab` + `a` fits rank 0 once rank 1 has made an `ab`; but rank 1 goes everywhere first, and takes that `a`."""
    vocab = dict(enumerate([*(bytes([byte]) for byte in range(256)), b"ab", b"aba"]))
    tokenizer = Tokenizer(vocab, [(b"ab", b"a"), (b"a", b"b")])
    encoder = Encoder(tokenizer.vocab, tokenizer.merges)
    assert encoder.encode("abab") == [256, 256]
    for letters in itertools.product("ab", repeat=9):
        text = "".join(letters)
        assert encoder.encode(text) == tokenizer.encode(text)


def test_every_length_of_text_and_of_pretoken(small: Tokenizer, small_encoder: Encoder) -> None:
    """Around each number that the code knows: 8, 15, 16, 62, 64, 80, 256, 4096 bytes."""
    plain = Tokenizer(small.vocab, small.merges)
    lengths = [*range(150), *range(250, 262), *range(SMALL_BYTES - 3, SMALL_BYTES + 3), 8191, 8193]
    for n, pattern in itertools.product(lengths, ["a", "the ", "a'll", " ", "é", "漢", "x9!"]):
        text = (pattern * (n // len(pattern) + 1))[:n]
        for _ in range(2):
            assert small_encoder.encode(text) == plain.encode(text), (n, pattern)


@given(
    text=st.lists(st.sampled_from([*"'lsdrev  \n\taab<|>é", "<|a|>", "<|a", "|>b", "'ll"]), max_size=40).map("".join),
    specials=st.lists(
        st.sampled_from(["<|", "<|a|>", "<|a|>b", "|>", "aa", " ", "\n\n", "'l", "'ll"]), unique=True, max_size=4
    ),
    cuts=st.lists(st.integers(0, 60), max_size=30),
)
@settings(deadline=None, max_examples=300)
def test_special_tokens_and_chunks(text: str, specials: list[str], cuts: list[int], small: Tokenizer) -> None:
    tokenizer = Tokenizer(small.vocab, small.merges, specials)
    known = Specials({token: tokenizer.special_id(token) for token in specials})
    encoder = Encoder(tokenizer.vocab, tokenizer.merges, n_cached=8)
    places = sorted(cut % (len(text) + 1) for cut in cuts)
    chunks = [text[start:end] for start, end in itertools.pairwise([0, *places, len(text)])]
    ids = tokenizer.encode(text)
    assert encoder.encode(text, known) == encoder.encode_array(text, known).tolist() == ids
    assert np.concatenate([*encoder.encode_chunks(chunks, known), []]).tolist() == ids


def test_thousands_of_special_tokens(small: Tokenizer, small_encoder: Encoder) -> None:
    text = f"one{END} two" * 10_000
    found = small_encoder.encode_array(text, Specials({END: small.special_id(END)}))
    assert found.tolist() == small.encode(text)


def test_chunks_are_taken_as_they_come_and_memory_does_not_grow(small_encoder: Encoder) -> None:
    taken: list[int] = []

    def lines() -> Iterator[str]:
        for number in itertools.count():
            taken.append(number)
            yield f"line {number}\n"

    arrays = small_encoder.encode_chunks(lines())
    assert not taken
    while not len(next(arrays)):
        pass
    assert len(taken) <= 3
    start = time.process_time()
    assert sum(map(len, small_encoder.encode_chunks("a" * 1000 for _ in range(2000)))) == len(
        small_encoder.encode("a" * 2_000_000)
    )
    assert time.process_time() - start < 2


def test_a_full_cache_changes_nothing(small: Tokenizer, prose: str) -> None:
    """Sets of all sizes, an arena that is emptied again and again."""
    text = prose[:60_000] + "".join(hostile_texts(2_000, seed=7)) + " ".join(map(str, range(3000)))
    text += "".join(f" {'long' * (number % 40)}{number}" for number in range(3000))
    expected = Tokenizer(small.vocab, small.merges).encode(text)
    for n_cached in (8, 16, 64, 1024):
        encoder = Encoder(small.vocab, small.merges, n_cached=n_cached)
        for _ in range(2):
            assert encoder.encode(text) == expected


def test_threads_share_an_encoder(small: Tokenizer, prose: str) -> None:
    encoder = Encoder(small.vocab, small.merges, n_cached=64)
    expected = encoder.encode(prose)
    found: list[list[int]] = []

    def work() -> None:
        for _ in range(5):
            found.append(encoder.encode(prose))
            found.append(list(itertools.chain.from_iterable(encoder.encode(line) for line in [prose])))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 40
    assert len(encoder._idle) <= 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_encodes(small_encoder: Encoder, prose: str) -> None:
    expected = small_encoder.encode(prose)
    code = os.fork()
    if code == 0:
        os._exit(0 if small_encoder.encode(prose) == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(code, 0)[1]) == 0
    assert small_encoder.encode(prose) == expected


def test_copies_encode(small_encoder: Encoder, prose: str) -> None:
    expected = small_encoder.encode(prose[:1000])
    for other in (copy.deepcopy(small_encoder), pickle.loads(pickle.dumps(small_encoder))):  # noqa: S301  # our own bytes
        assert other.encode(prose[:1000]) == expected


def test_what_is_no_text_is_refused_as_python_does(small_encoder: Encoder) -> None:
    for encode in (small_encoder.encode, small_encoder.encode_array):
        with pytest.raises(UnicodeEncodeError):
            encode("ab\ud800")
    for content in (b"a\xff", b"ab\xe6\xbc", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"):
        with pytest.raises(UnicodeDecodeError):
            small_encoder.encode_array(content)
    with pytest.raises(UnicodeEncodeError):
        list(small_encoder.encode_chunks(["ab", "\ud800"]))
    assert small_encoder.encode("") == []
    assert len(small_encoder.encode_array("", NO_SPECIALS)) == 0


def one_megabyte(kind: str) -> str:
    choose = random.Random(1)
    return {
        "letter": "a" * MEGABYTE,
        "spaces": " " * MEGABYTE,
        "newlines": "\n" * MEGABYTE + "a",
        "letters": "".join(choose.choices("abcdefghijklmnopqrstuvwxyz", k=MEGABYTE)),
        "ideographs": "".join(map(chr, choose.choices(range(0x4E00, 0x9FFF), k=MEGABYTE // 3))),
        "marks": "a" + "\u0301" * (MEGABYTE // 2),
        "apostrophes": "'" * MEGABYTE,
    }[kind]


@pytest.mark.parametrize("kind", ["letter", "spaces", "newlines", "letters", "ideographs", "marks", "apostrophes"])
def test_one_megabyte_of_anything_takes_less_than_a_second(kind: str, encoder: Encoder, gpt2: Tokenizer) -> None:
    text = one_megabyte(kind)
    encoder.encode("a" * 1000)
    start = time.process_time()
    found = encoder.encode(text)
    assert time.process_time() - start < 1
    assert gpt2.decode(found) == text
    part = text[: len(text) // 20]
    assert encoder.encode(part) == gpt2.encode(part)


def test_memory_is_flat_however_many_different_words() -> None:
    code = """
import resource, sys
import numpy as np
from cs336_basics.tokenizer.fast.encode import Encoder
encoder = Encoder(dict(enumerate([*(bytes([byte]) for byte in range(256)), b"ab"])), [(b"a", b"b")], n_cached=1 << 14)
peaks = []
for block in range(int(sys.argv[1])):
    numbers = np.arange(block * 100_000, (block + 1) * 100_000)
    encoder.encode_array("".join(f" {number * 7919:x}" for number in numbers.tolist()) + "x" * (block % 300))
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(peaks[-1] - peaks[2])
"""
    pytest.importorskip("resource", reason="no such measure on this system")
    done = subprocess.run([sys.executable, "-c", code, "25"], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4_000  # KB


def test_other_threads_run_while_one_encodes(small_encoder: Encoder) -> None:
    """Without the interpreter's lock: it is let go of nowhere else in one call, so they would wait for its end."""
    content = b"all the words of a long text " * 2_000_000
    small_encoder.encode("compiled by now")
    workspace, out = small_encoder._take(), np.empty(len(content) + SLACK, np.uint16)
    thread = threading.Thread(target=workspace.encode, args=(content, 0, len(content), out.ctypes.data))
    thread.start()
    n_awake = 0
    while thread.is_alive():
        time.sleep(0.001)
        n_awake += 1
    assert n_awake > 5
