"""`python -m tests.bench.memory [--gb 0.125 0.25 ...] [--out plot.png]`: peak memory against the size of a made corpus.

Each training runs in a process of its own, with two workers; its peak is the resident memory that the system saw.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Final

END: Final = "<|endoftext|>"
VOCAB_SIZE: Final = 32_000
DOCUMENT_WORDS: Final = 500
NEW_WORDS: Final = 0.001  # of all words: a corpus never stops having names and numbers that no other text has
LETTERS: Final = "etaoinshrdlcumwfgypbvk"

TRAIN: Final = """
import json, resource, sys, time
from cs336_basics.tokenizer import train_bpe
start = time.perf_counter()
vocab, _ = train_bpe(sys.argv[1], {size}, [{end!r}], n_workers=2, engine="fast")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps(dict(peak_bytes=peak, wall_s=time.perf_counter() - start, tokens=len(vocab))))
"""


def write_corpus(path: Path, n_bytes: int, *, seed: int = 0) -> None:
    """Documents of words as frequent as Zipf's law has them, a thousandth of them new; the same for the same seed."""
    random = Random(seed)

    def word() -> str:
        return "".join(random.choices(LETTERS, k=random.randint(2, 11)))

    words = [word() for _ in range(200_000)]
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    cumulative = list(accumulate(weights))
    with path.open("w", encoding="ascii") as file:
        while file.tell() < n_bytes:
            pool = random.choices(words, cum_weights=cumulative, k=100 * DOCUMENT_WORDS)
            for start in range(0, len(pool), DOCUMENT_WORDS):
                document = pool[start : start + DOCUMENT_WORDS]
                for place in range(len(document)):
                    if random.random() < NEW_WORDS:
                        document[place] = word() + str(random.randrange(1000))
                file.write(" ".join(document) + END)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.memory")
    parser.add_argument("--gb", type=float, nargs="+", default=[0.125, 0.25, 0.5, 1.0, 2.0], help="sizes to train on")
    parser.add_argument("--out", type=Path, help="picture to draw (default: none)")
    asked = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "corpus.txt")
        for size in asked.gb:
            write_corpus(path, int(size * 1e9))
            code = TRAIN.format(size=VOCAB_SIZE, end=END)
            run = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True)
            row = json.loads(run.stdout) | {"gb": size}
            rows.append(row)
            print(f"{size:6.3f} GB  peak {row['peak_bytes'] / 1e6:6.0f} MB  {row['wall_s']:6.1f} s wall", flush=True)
    if asked.out:
        draw(rows, asked.out)


def draw(rows: list[dict[str, float]], out: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([row["gb"] for row in rows], [row["peak_bytes"] / 1e9 for row in rows], "o-", label="peak memory")
    axes.plot([row["gb"] for row in rows], [row["gb"] for row in rows], ":", color="grey", label="the corpus itself")
    axes.set(xlabel="corpus, GB", ylabel="memory, GB", title=f"Training to {VOCAB_SIZE:,} tokens", ylim=(0, None))
    axes.legend()
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    main()
