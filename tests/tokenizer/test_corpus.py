"""Encoding a file: the same ids for any engine, workers and executor, and after any end of an earlier run."""

import os
import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cs336_basics.data.token_file import open_tokens
from cs336_basics.tokenizer import Tokenizer, corpus, encode_file, shards

END = "<|endoftext|>"


@pytest.fixture
def text(prose: str, tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_bytes((prose + END).encode() * 2)
    return path


def ids_of(tokenizer: Tokenizer, path: Path, **options: Any) -> list[int]:
    ids: list[int] = np.concatenate(list(encode_file(tokenizer, path, **options))).tolist()
    return ids


@pytest.mark.parametrize("engine", ["python", "fast"])
def test_the_ids_depend_on_nothing_else(
    engine: Any, small: Tokenizer, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "LEAST_SHARD_BYTES", 1000)
    monkeypatch.setattr(shards, "KEPT_SHARD_BYTES", text.stat().st_size // 5)
    tokenizer = Tokenizer(small.vocab, small.merges, small.special_tokens, engine=engine)
    expected = small.encode(text.read_text(encoding="utf-8"))
    assert END in small.decode(expected)
    told: list[int] = []
    encoded = partial(ids_of, tokenizer, text, advance=told.append)
    with ThreadPoolExecutor(2) as threads:
        ways: list[dict[str, Any]] = [
            {},
            {"n_workers": 2},
            {"n_workers": 2, "executor": threads},
            {"keep": tmp_path / "kept"},
        ]
        for options in [*ways, ways[-1]]:
            told.clear()
            assert encoded(**options) == expected
            assert sum(told) == text.stat().st_size
    assert len(list((tmp_path / "kept").iterdir())) >= 5


def test_refuses(small: Tokenizer, tmp_path: Path, text: Path, refused: Any) -> None:
    refused(lambda: encode_file(small, tmp_path / "none"), "encode_file: path", "none")
    refused(lambda: encode_file(small, text, n_workers=0), "encode_file: n_workers", "0")
    refused(lambda: encode_file("gpt2", text), "encode_file: tokenizer must be a Tokenizer", "got str 'gpt2'")  # type: ignore[arg-type]  # the bad input
    (tmp_path / "latin").write_bytes(b"caf\xe9 ")
    refused(lambda: list(encode_file(small, tmp_path / "latin")), "encode_file: path", "byte offset 3 ")


@pytest.mark.parametrize("engine", ["python", "fast"])
@pytest.mark.parametrize("n_workers", [1, 2])
def test_the_offset_of_a_wrong_byte_counts_from_the_beginning_of_the_file(
    engine: Any, n_workers: int, small: Tokenizer, text: Path, refused: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "LEAST_SHARD_BYTES", 1000)
    tokenizer = Tokenizer(small.vocab, small.merges, small.special_tokens, engine=engine)
    content = text.read_bytes()
    text.write_bytes(content[:200_000] + b"\xff" + content[200_000:])
    with ThreadPoolExecutor(n_workers) as threads:
        ids = encode_file(tokenizer, text, n_workers=n_workers, executor=threads)
        refused(lambda: list(ids), "encode_file: path must be UTF-8 text", "byte offset 200000 (")


def test_a_process_makes_the_tokenizer_once(small: Tokenizer) -> None:
    sent = corpus._Sent(small)
    first, second = (pickle.loads(pickle.dumps(sent)) for _ in range(2))  # noqa: S301  # ours
    assert first.tokenizer is second.tokenizer
    assert first.tokenizer.fingerprint() == small.fingerprint()


@pytest.mark.parametrize("engine", ["python", "fast"])
def test_a_file_that_becomes_shorter_is_refused(engine: Any, small: Tokenizer, text: Path, refused: Any) -> None:
    tokenizer = Tokenizer(small.vocab, small.merges, small.special_tokens, engine=engine)
    text.write_bytes(text.read_bytes() * (3 + (1 << 20) // text.stat().st_size))
    blocks = encode_file(tokenizer, text, advance=lambda _: os.truncate(text, 100))
    refused(lambda: list(blocks), "encode_file: path", "must not change while it is read", "shorter")


RUN = """
import os, signal, sys
from pathlib import Path
from cs336_basics.cli import tokenizer as cli
from cs336_basics.tokenizer import Tokenizer, shards
shards.KEPT_SHARD_BYTES = cli.KEPT_SHARD_BYTES = {size}
whole_file, made = shards.whole_file, []
def counted(path):
    if len(made) == {dies_after}:
        os.kill(os.getpid(), signal.SIGKILL)
    made.append(path)
    return whole_file(path)
shards.whole_file = counted
{work}
print(len(made))
"""
TRAIN = "cli.train_tokenizer({text!r}, Path({out!r}), vocab_size=400, special_tokens=('<|endoftext|>',), workers=1)"
ENCODE = "cli.write_text_tokens(Tokenizer.load({tokenizer!r}), {text!r}, Path({out!r}), workers=1)"


@pytest.mark.slow
@pytest.mark.parametrize("work", [TRAIN, ENCODE], ids=["train", "encode"])
def test_a_run_that_was_killed_goes_on_where_it_ended(work: str, small: Tokenizer, text: Path, tmp_path: Path) -> None:
    small.save(tmp_path / "tokenizer")
    out = tmp_path / "out"
    names = {"text": str(text), "out": str(out), "tokenizer": str(tmp_path / "tokenizer")}

    def run(dies_after: int) -> "subprocess.CompletedProcess[str]":
        code = RUN.format(size=text.stat().st_size // 8, dies_after=dies_after, work=work.format(**names))
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    for dies_after in (0, 2, 3):
        assert run(dies_after).returncode == -signal.SIGKILL
        assert not out.exists()
    kept = len([path for path in (tmp_path / "out.parts").iterdir() if path.suffix == ".part"])
    assert kept == 5
    last = run(99)
    assert (last.returncode, last.stderr) == (0, "")
    assert 3 <= int(last.stdout) <= 5  # of some nine parts, only what was not kept
    leftover = [path.name for path in tmp_path.rglob("*.part")]
    assert leftover == []
    if work == TRAIN:
        assert Tokenizer.load(out).merges == fresh_merges(text)
    else:
        assert open_tokens(out).tolist() == small.encode(text.read_text(encoding="utf-8"))


def fresh_merges(text: Path) -> list[tuple[bytes, bytes]]:
    from cs336_basics.tokenizer import train_bpe

    return train_bpe(text, 400, [END])[1]
