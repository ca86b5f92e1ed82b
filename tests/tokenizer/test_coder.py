"""The two engines behind one `Tokenizer`: the same ids, bytes and errors, whatever is asked of them."""

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.tokenizer import Tokenizer, TokenizerError, coder, engine
from cs336_basics.tokenizer.specials import Specials

BYTES = {byte: bytes([byte]) for byte in range(256)}
MERGES = [(b"t", b"h"), (b"th", b"e"), (b" ", b"the"), (b"a", b"a"), (b"aa", b"a"), (b"aa", b"aa"), (b"<", b"|")]
VOCAB = BYTES | {256 + rank: left + right for rank, (left, right) in enumerate(MERGES)}
SPECIALS = ["<|end|>", "<|end|><|end|>", " the", "\n\n"]

SLOW = Tokenizer(VOCAB, MERGES, SPECIALS, engine="python")
FAST = Tokenizer(VOCAB, MERGES, SPECIALS, engine="fast")

PIECES = st.sampled_from(["the", " ", "\n", "aaaa", "a", "<|", "<|end|>", "é", "漢", "'ll", "\ud800", "1", "!"])
TEXTS = st.lists(PIECES, max_size=30).map("".join)
NAMES = st.sampled_from(["all", "none"]) | st.sets(st.sampled_from([*SPECIALS, "<|other|>"]))


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except TokenizerError as error:
        return str(error)


@settings(deadline=None, max_examples=300)
@given(TEXTS, NAMES, NAMES, st.sampled_from(["strict", "replace"]), st.data())
def test_both_engines_give_the_same(
    text: str, allowed: Specials, refused: Specials, errors: Any, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4), label="cuts"))
    chunks = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    options: dict[str, Any] = {"allowed_special": allowed, "disallowed_special": refused, "errors": errors}
    found = [outcomes(tokenizer, text, chunks, options) for tokenizer in (SLOW, FAST)]
    assert found[0] == found[1]


def outcomes(tokenizer: Tokenizer, text: str, chunks: list[str], options: dict[str, Any]) -> tuple[Any, ...]:
    """What comes of each way to encode; those that give ids give the same, and these decode to the text."""
    ids = outcome(lambda: tokenizer.encode(text, **options))
    array = outcome(lambda: tokenizer.encode_array(text, **options))
    stream = outcome(lambda: list(tokenizer.encode_iterable(chunks, **options)))
    blocks = outcome(lambda: np.concatenate([*tokenizer.encode_blocks(chunks, **options), []]))
    assert all(map(len, blocks if isinstance(blocks, str) else tokenizer.encode_blocks(chunks, **options)))
    if isinstance(ids, list):
        assert array.dtype == np.uint16
        assert array.tolist() == stream == blocks.astype(int).tolist() == ids
        assert tokenizer.decode(ids) == text.replace("\ud800", "\ufffd")
    return ids, str(array), stream, str(blocks)


IDS = [[], [0, 65, 256, 262, 264], [104, 105] * 50, [265], [-1], [1 << 16], [0, 1 << 40], [True, 3], [1.5], ["a"]]


@pytest.mark.parametrize("ids", IDS, ids=str)
def test_both_decode_the_same(ids: list[Any]) -> None:
    forms: list[Callable[[], Any]] = [lambda: ids, lambda: tuple(ids), lambda: iter(ids)]
    if all(isinstance(index, int) for index in ids):
        forms += [lambda: np.array(ids, np.int64), lambda: torch.tensor(ids, dtype=torch.long)]
        forms += [lambda: np.array([ids])] if ids else []
        forms += [lambda: np.ma.array(ids, mask=[index == 256 for index in ids], dtype=np.int64)]
    if all(isinstance(index, int) and 0 <= index < 300 for index in ids):
        forms += [lambda: np.array(ids, np.uint16), lambda: np.array(ids + ids, np.int32)[:: 2 if ids else 1]]
    for form in forms:
        slow, fast = outcome(partial(decoded, SLOW, form)), outcome(partial(decoded, FAST, form))
        assert slow == fast
        assert isinstance(fast, bytes) or "decode: ids must be" in fast


def decoded(tokenizer: Tokenizer, form: Callable[[], Any]) -> bytes:
    return tokenizer.decode_bytes(form())


def test_auto_takes_the_twin_from_the_first_large_text_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coder, "PAYS_BYTES", 100)
    monkeypatch.setattr(engine, "PAYS_BYTES", 100)
    monkeypatch.setattr(engine, "PAYS_COLD_BYTES", 100)
    tokenizer = Tokenizer(VOCAB, MERGES, SPECIALS)
    small = tokenizer.encode("the aaaa")
    assert tokenizer._coder._twin is None
    assert tokenizer.encode("the aaaa" * 20) == SLOW.encode("the aaaa" * 20)
    twin: object = tokenizer._coder._twin
    assert twin is not None
    assert tokenizer.encode("the aaaa") == small
    by_size = Tokenizer(VOCAB, MERGES, SPECIALS)
    assert np.concatenate([*by_size.encode_blocks(["the aaaa"], n_bytes=100)]).tolist() == small
    assert by_size._coder._twin is not None


def test_a_pickle_keeps_the_engine_and_nothing_else() -> None:
    for tokenizer in (SLOW, FAST):
        copy = pickle.loads(pickle.dumps(tokenizer))  # noqa: S301  # our own
        assert copy._coder.engine == tokenizer._coder.engine
        assert copy.encode(" the<|end|>") == tokenizer.encode(" the<|end|>")
    assert len(pickle.dumps(FAST)) < 10_000


def test_threads_may_share_it() -> None:
    texts = [f"{'the aaaa ' * n}<|end|>{n}" for n in range(50)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(FAST.encode, texts * 4)) == [SLOW.encode(text) for text in texts] * 4


def test_refuses_other_engines() -> None:
    with pytest.raises(TokenizerError, match="Tokenizer: engine must be 'auto', 'python' or 'fast', got str 'quick'"):
        Tokenizer(VOCAB, MERGES, engine="quick")  # type: ignore[arg-type]  # the bad input
