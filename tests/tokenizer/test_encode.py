"""Encoding with a bounded memory of pre-tokens, by many threads and in forked processes."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cs336_basics.tokenizer import Tokenizer, encode

END = "<|endoftext|>"


def fresh(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer with nothing remembered."""
    return Tokenizer(tokenizer.vocab, tokenizer.merges, tokenizer.special_tokens)


def test_the_cache_is_bounded_and_changes_nothing(
    small: Tokenizer, prose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = small.encode(prose)
    monkeypatch.setattr(encode, "_CACHED_PRETOKENS", 10)
    tokenizer = fresh(small)
    encoder = tokenizer._coder._encoder(frozenset([END]))
    for start in range(0, len(prose), 10_000):
        tokenizer.encode(prose[start : start + 10_000])
        assert 0 < len(encoder._ids) <= 10
    assert tokenizer.encode(prose) == expected
    encoder._ids.clear()
    tokenizer.encode("x" * 1000)
    assert not encoder._ids


def test_the_encoders_for_other_special_tokens_are_few(small: Tokenizer) -> None:
    specials = [f"<{number}>" for number in range(30)]
    tokenizer = Tokenizer(small.vocab, small.merges, [*specials, "<x>"])
    for name in specials:
        expected = [tokenizer.special_id(name), *small.encode("<x>")]
        assert tokenizer.encode(f"{name}<x>", allowed_special={name}, disallowed_special="none") == expected
        assert len(tokenizer._coder._encoders) <= 8
    assert tokenizer.encode("<0><x>") == [tokenizer.special_id("<0>"), tokenizer.special_id("<x>")]


def test_threads_may_share_a_tokenizer(small: Tokenizer, prose: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "_CACHED_PRETOKENS", 50)
    texts = [prose[:30_000], *(prose[at : at + 30_000] for at in (10_000, 20_000, 30_000))]
    shared = fresh(small)
    barrier = threading.Barrier(4)

    def work(number: int) -> list[list[int]]:
        barrier.wait()
        return [shared.encode(texts[0]), shared.encode(texts[number]), list(shared.encode_iterable([texts[number]]))]

    with ThreadPoolExecutor(4) as executor:
        found = list(executor.map(work, range(4)))
    expected = [small.encode(text) for text in texts]
    assert found == [[expected[0], ids, ids] for ids in expected]


FORK = """
import os, sys, threading
from pydoc_data.topics import topics
from cs336_basics.tokenizer import Tokenizer
tokenizer = Tokenizer.load(sys.argv[1])
text = "".join(topics[name] for name in sorted(topics))[:60_000]
expected = Tokenizer.load(sys.argv[1]).encode(text)
stop = False
def work():
    while not stop:
        tokenizer.encode(text)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
codes = []
for _ in range(5):
    child = os.fork()
    if child == 0:
        right = tokenizer.encode(text) == expected and tokenizer.decode(expected) == text
        os._exit(0 if right else 3)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop = True
for thread in threads:
    thread.join()
print(codes, tokenizer.encode(text) == expected)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_goes_on_encoding_while_threads_encode(small: Tokenizer, tmp_path: os.PathLike[str]) -> None:
    small.save(tmp_path)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout == "[0, 0, 0, 0, 0] True\n", done.stderr
