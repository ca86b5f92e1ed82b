"""Figures of the tokenizer that need processes of their own, or more than one thread."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from cs336_basics.tokenizer import Tokenizer, encode_file
from tests.bench.measure import Bound, Figure, medians, ratio, take_turns
from tests.bench.trainers import END

MOST: Final = {"gigatoken": 0.70, "rustbpe": 0.20, "tokenizers": 0.09}  # of a peer's time to train
VOCAB_SIZES: Final = (10_000, 32_000)
PATIENCE_ROUNDS: Final = 3  # for a peer that takes ten times as long: its ratio is far from its bound
SLOW: Final = {"tokenizers"}

# numba loads the extension of every package that has one. gigatoken brings awkward, which does, and takes 0.2 s.
ALONE: Final = "from numba.core import entrypoints; entrypoints._already_initialized = True; "
COMPILE: Final = ALONE + "from cs336_basics.tokenizer.fast.warm import compile_all; compile_all()"
IMPORT: Final = "import numpy, cs336_basics.tokenizer"


def starts(rounds: int) -> Iterator[Figure]:
    """CPU seconds, user and system, of a process that calls everything in the fast twin once, with an empty cache and
    with a full one, less those of a process that only imports numpy and the tokenizer.

    Extensions of numba that other packages bring are left out.
    """
    found: dict[str, list[float]] = {"cold": [], "cached": [], "imports": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            found["cold"].append(_child_cpu_s(COMPILE, folder))
            found["cached"].append(_child_cpu_s(COMPILE, folder))
            found["imports"].append(_child_cpu_s(IMPORT, folder))
    name = "start of the fast twin, CPU-s"
    rates = {
        f"{kind} start": median(a - b for a, b in zip(found[kind], found["imports"], strict=True))
        for kind in ("cold", "cached")
    }
    must = {"cold start": Bound("<=", 6.0), "cached start": Bound("<=", 0.5)}
    yield Figure(group="tokenizer", name=name, seconds=medians(found), rates=rates, must=must)


def _child_cpu_s(code: str, cache: str) -> float:
    before = os.times()
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"NUMBA_CACHE_DIR": cache}, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def training(rounds: int, data: Path, texts: Sequence[str], peers: Sequence[str]) -> Iterator[Figure]:
    """Wall seconds of training, each trainer with the one or two threads that suit it better; the readable twin.

    Machine code is loaded before, as a peer's is. A slow peer has fewer rounds, and its figure says how many.
    """
    for text in texts:
        path = data / f"{text}.txt"
        for vocab_size in VOCAB_SIZES:
            threads = {name: _better(name, path, vocab_size) for name in ("ours", *MOST) if name in ("ours", *peers)}
            seconds: dict[str, list[float]] = {name: [] for name in threads}
            for turn in range(rounds):
                for name in list(threads)[:: -1 if turn % 2 else 1]:
                    if name not in SLOW or turn < PATIENCE_ROUNDS:
                        seconds[name].append(_train(name, path, vocab_size, threads[name])["wall_s"])
            # Of the same rounds: a slow peer has only the first ones.
            ratios = {
                f"ours/{name}": median(a / b for a, b in zip(seconds["ours"], seconds[name], strict=False))
                for name in threads
                if name != "ours"
            }
            must = {f"ours/{name}": Bound("<=", most) for name, most in MOST.items() if name in threads}
            yield Figure(
                group="tokenizer",
                name=f"train {text} to {vocab_size // 1000}k, wall",
                seconds=medians(seconds),
                ratios=ratios,
                rates={f"rounds of {name}": PATIENCE_ROUNDS for name in SLOW & threads.keys()},
                must=must,
            )
        if "tokenizers" in peers and text == texts[0]:
            yield _readable(rounds, path, VOCAB_SIZES[0])


def _readable(rounds: int, path: Path, vocab_size: int) -> Figure:
    """CPU seconds of training without numba, the workers' of either side among them."""
    seconds: dict[str, list[float]] = {"readable": [], "tokenizers": []}
    for turn in range(rounds):
        for name in list(seconds)[:: -1 if turn % 2 else 1]:
            seconds[name].append(_train(name, path, vocab_size, 1)["cpu_s"])
    name = f"train {path.stem} to {vocab_size // 1000}k without numba, CPU"
    ratios = {"readable/tokenizers": ratio(seconds, "readable", "tokenizers")}
    must = {"readable/tokenizers": Bound("<=", 1.1)}
    return Figure(group="tokenizer", name=name, seconds=medians(seconds), ratios=ratios, must=must)


def _better(name: str, path: Path, vocab_size: int) -> int:
    return min((1, 2), key=lambda threads: _train(name, path, vocab_size, threads)["wall_s"])


def _train(name: str, path: Path, vocab_size: int, threads: int) -> Mapping[str, float]:
    env = os.environ | {"RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": str(threads > 1).lower()}
    command = [sys.executable, "-m", "tests.bench.trainers", name, str(path), str(vocab_size), str(threads)]
    run = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    found: Mapping[str, float] = json.loads(run.stdout.splitlines()[-1])  # peers may print, too
    return found


def two_threads(rounds: int, name: str, text: str, tokenizer: Tokenizer) -> Figure:
    """Wall seconds of encoding and of counting a file with one worker over those with two."""
    from cs336_basics.tokenizer.fast.count import count_file

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "text")
        path.write_text(text, encoding="utf-8")

        def encode(n_workers: int) -> int:
            return sum(map(len, encode_file(tokenizer, path, n_workers=n_workers)))

        seconds = take_turns(
            {
                "encode, one": lambda: encode(1),
                "encode, two": lambda: encode(2),
                "count, one": lambda: count_file(path, [END], n_workers=1),
                "count, two": lambda: count_file(path, [END], n_workers=2),
            },
            rounds=rounds,
            clock=time.perf_counter,
        )
    speed = {f"{what} with two": ratio(seconds, f"{what}, one", f"{what}, two") for what in ("encode", "count")}
    must = {what: Bound(">=", 1.7) for what in speed}
    return Figure(
        group="tokenizer", name=f"two workers on {name}, wall", seconds=medians(seconds), ratios=speed, must=must
    )
