"""Figures of the tokenizer that need processes of their own, or more than one thread."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from cs336_basics.tokenizer import Tokenizer
from tests.bench.measure import Bound, Figure, medians, take_turns
from tests.bench.trainers import END

MOST: Final = {"gigatoken": 0.70, "rustbpe": 0.20, "tokenizers": 0.09}  # of a peer's time to train
VOCAB_SIZES: Final = (10_000, 32_000)
PATIENCE_ROUNDS: Final = 3  # for a peer that takes ten times as long: its ratio is far from its bound
SLOW: Final = {"tokenizers"}


def starts(rounds: int) -> Iterator[Figure]:
    """CPU seconds until the fast twin works: compiling everything, and loading what is compiled."""
    base = [_child_cpu_s("import numpy, cs336_basics.tokenizer", None) for _ in range(rounds)]
    # numba loads the extension of every package that has one. gigatoken brings awkward, which does, and takes 0.2 s.
    alone = "from numba.core import entrypoints; entrypoints._already_initialized = True; "
    make = alone + "from cs336_basics.tokenizer.fast.warm import compile_all; compile_all()"
    with tempfile.TemporaryDirectory() as folder:
        cold = _child_cpu_s(make, folder) - min(base)
        cached = sorted(_child_cpu_s(make, folder) - min(base) for _ in range(rounds))[rounds // 2]
    found = {"compile everything, CPU-s": cold, "load everything, CPU-s": cached}
    must = {"compile everything, CPU-s": Bound("<=", 6.0), "load everything, CPU-s": Bound("<=", 0.5)}
    yield Figure(group="tokenizer", name="start of the fast twin", seconds={}, rates=found, must=must)


def _child_cpu_s(code: str, cache: str | None) -> float:
    env = dict(os.environ) if cache is None else os.environ | {"NUMBA_CACHE_DIR": cache}
    before = os.times()
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def training(rounds: int, data: Path, texts: Sequence[str], peers: Sequence[str]) -> Iterator[Figure]:
    """Wall seconds of training, each trainer with the one or two threads that suit it better; the readable twin."""
    for text in texts:
        for vocab_size in VOCAB_SIZES:
            path = data / f"{text}.txt"
            threads = {name: _better(name, path, vocab_size) for name in ("ours", *MOST) if name in ("ours", *peers)}
            seconds: dict[str, list[float]] = {name: [] for name in threads}
            for turn in range(rounds):
                for name in list(threads)[:: -1 if turn % 2 else 1]:
                    if name not in SLOW or turn < PATIENCE_ROUNDS:
                        seconds[name].append(_train(name, path, vocab_size, threads[name])["wall_s"])
            found = medians(seconds)
            ratios = {f"ours/{name}": found["ours"] / found[name] for name in threads if name != "ours"}
            must = {f"ours/{name}": Bound("<=", most) for name, most in MOST.items() if name in threads}
            name = f"train {text} to {vocab_size // 1000}k, wall"
            yield Figure(group="tokenizer", name=name, seconds=found, ratios=ratios, must=must)
    if "tokenizers" in peers:
        path, vocab_size = data / f"{texts[0]}.txt", VOCAB_SIZES[0]
        runs = [[_train(name, path, vocab_size, 1)["cpu_s"] for name in ("readable", "tokenizers")] for _ in range(3)]
        found = medians({"readable": [run[0] for run in runs], "tokenizers": [run[1] for run in runs]})
        ratio = {"readable/tokenizers": found["readable"] / found["tokenizers"]}
        name = f"train {texts[0]} to {vocab_size // 1000}k without numba, CPU"
        must = {"readable/tokenizers": Bound("<=", 1.1)}
        yield Figure(group="tokenizer", name=name, seconds=found, ratios=ratio, must=must)


def _better(name: str, path: Path, vocab_size: int) -> int:
    return min((1, 2), key=lambda threads: _train(name, path, vocab_size, threads)["wall_s"])


def _train(name: str, path: Path, vocab_size: int, threads: int) -> Mapping[str, float]:
    env = os.environ | {"RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": str(threads > 1).lower()}
    command = [sys.executable, "-m", "tests.bench.trainers", name, str(path), str(vocab_size), str(threads)]
    run = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    found: Mapping[str, float] = json.loads(run.stdout.splitlines()[-1])  # peers may print, too
    return found


def two_threads(rounds: int, name: str, text: str, tokenizer: Tokenizer) -> Figure:
    """Wall seconds of encoding and of counting with one worker over those with two."""
    from cs336_basics.tokenizer.fast.count import count_file

    middle = text.index(END, len(text) // 2)
    halves = [text[:middle], text[middle:]]
    with ThreadPoolExecutor(2) as threads, tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "text")
        path.write_text(text, encoding="utf-8")
        seconds = take_turns(
            {
                "encode, one": lambda: [tokenizer.encode_array(half) for half in halves],
                "encode, two": lambda: list(threads.map(tokenizer.encode_array, halves)),
                "count, one": lambda: count_file(path, [END], n_workers=1),
                "count, two": lambda: count_file(path, [END], n_workers=2),
            },
            rounds=rounds,
            clock=time.perf_counter,
        )
    found = medians(seconds)
    speed = {f"{what} with two": found[f"{what}, one"] / found[f"{what}, two"] for what in ("encode", "count")}
    must = {what: Bound(">=", 1.7) for what in speed}
    return Figure(group="tokenizer", name=f"two workers on {name}, wall", seconds=found, ratios=speed, must=must)
