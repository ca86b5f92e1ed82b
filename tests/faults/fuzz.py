"""Mutated files of every kind: each is read right or refused by one error of ours, in a line, and soon."""

import json
import random
import time
import tomllib
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cs336_basics.config import ConfigError, RunConfig, load_config, to_dict, to_toml
from cs336_basics.data.errors import DataError
from cs336_basics.data.token_file import open_tokens, read_info, sidecar_path, write_tokens
from cs336_basics.train.checkpoint import read_checkpoint, save_checkpoint
from cs336_basics.train.errors import CheckpointError, MetricsError
from cs336_basics.train.run import flatten
from cs336_basics.train.tracker import read_metrics
from tests.data.test_token_file_mutated import damaged
from tests.faults.campaigns import Row, times
from tests.train.runs import config
from tests.train.tiny import assert_same, trained

LIMIT_S = 5.0  # a case takes milliseconds; a hang would take for ever

Reads = Callable[[], None]  # raises AssertionError where what was read is wrong
Kind = tuple[Path, Reads, type[Exception]]


def fuzz_kinds(folder: Path) -> dict[str, Kind]:
    """A sound file of each kind, how it is read and held to what it says, and the error for what is not."""
    return {
        "config": _config(folder),
        "metrics": _metrics(folder),
        "checkpoint": _checkpoint(folder),
        "token file": _tokens(folder)[0],
        "sidecar": _tokens(folder)[1],
    }


def _config(folder: Path) -> Kind:
    path = folder / "config.toml"
    path.write_text(to_toml(config(peak_flops=1e9)), encoding="utf-8")

    def read() -> None:
        found = flatten(to_dict(load_config(RunConfig, path)))
        said = flatten(tomllib.loads(path.read_bytes().decode()))
        # What the file says is what the config holds, and what it does not say is the default.
        assert found == flatten(to_dict(RunConfig())) | said

    return path, read, ConfigError


def _metrics(folder: Path) -> Kind:
    path = folder / "metrics.jsonl"
    lines = [{"step": n, "wall_s": n / 7, "train_loss": 4.0 - n / 100, "lr": None} for n in range(30)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def read() -> None:
        whole = path.read_bytes().split(b"\n")[:-1]  # what has no end is being written
        assert list(read_metrics(path)) == [json.loads(line) for line in whole]

    return path, read, MetricsError


def _checkpoint(folder: Path) -> Kind:
    path = folder / "a.pt"
    save_checkpoint(*trained("adamw", steps=1), 1, path)
    sound = read_checkpoint(path)

    def read() -> None:
        assert_same(read_checkpoint(path), sound)

    return path, read, CheckpointError


def _tokens(folder: Path) -> tuple[Kind, Kind]:
    path = folder / "a.bin"
    ids = np.random.default_rng(0).integers(0, 300, 500)
    info = write_tokens(path, [ids], vocab_size=300, tokenizer_hash="a")

    def read() -> None:
        assert open_tokens(path).tolist() == ids.tolist()
        assert read_info(path) == info

    return (path, read, DataError), (sidecar_path(path), read, DataError)


def fuzzed(kind: str, found: Kind, *, count: int, seed: int = 0) -> Row:
    """Mutate a file so many times, from seeds that are its numbers."""
    path, read, error = found
    row, sound = Row(f"a mutated {kind}"), path.read_bytes()
    read()
    for number, rng in enumerate(times(count, seed=seed)):
        content = sound
        for _ in range(rng.choice([1, 1, 2, 5])):
            content = _changed(rng, content) if content else content
        path.write_bytes(content)
        row.count(_outcome(read, error, number))
    path.write_bytes(sound)
    return row


def _changed(rng: random.Random, content: bytes) -> bytes:
    """As token files are damaged, or with what is likely in the formats of text."""
    if rng.random() < 0.5 and len(content) > 1:
        return damaged(rng, content)
    place = rng.randrange(len(content) + 1)
    word = rng.choice(
        [b"[model]\n", b"steps = 3\n", b"inf", b"-1", b"true", b"1e400", b"'''", b"{}", b"[[a]]\n", b"\\u0000",
         b'{"step": 1}\n', b'{"step": -1e999}\n', b"9" * 500, b"[" * 2000, b"\r\n", b"\xef\xbb\xbf", b"#", b"=", b"."]
    )  # fmt: skip
    return content[:place] + word + content[place + rng.choice([0, len(word)]) :]


def _outcome(read: Reads, error: type[Exception], number: int) -> str:
    start = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read()
    except error as told:
        if "\n" in str(told):
            return f"seed {number}: more than a line: {told}"
    except Exception as other:
        return f"seed {number}: {type(other).__name__}: {other!s:.200}"
    return "" if time.monotonic() - start < LIMIT_S else f"seed {number}: {time.monotonic() - start:.0f} s"


def mutate_one_file(folder: Path, rng: random.Random) -> tuple[Path, bytes]:
    """Change some file below a folder; which, and what it held."""
    path = rng.choice([path for path in sorted(folder.rglob("*")) if path.is_file() and path.stat().st_size])
    sound = path.read_bytes()
    path.write_bytes(_changed(rng, sound))
    return path, sound
