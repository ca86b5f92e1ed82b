"""`python -m tests.bench.memory [--gb 0.125 0.25 ...] [--out plot.png]`: peak memory against the size of a made corpus.

Training, and encoding with what it gave, each run in a process of their own; the peak is the resident memory that the
system saw.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Any, Final

END: Final = "<|endoftext|>"
VOCAB_SIZE: Final = 32_000
DOCUMENT_WORDS: Final = 500
NEW_WORDS: Final = 0.001  # of all words: a corpus never stops having names and numbers that no other text has
LETTERS: Final = "etaoinshrdlcumwfgypbvk"

WORK: Final = {
    "train": """
from cs336_basics.tokenizer import Tokenizer, train_bpe
vocab, merges = train_bpe(sys.argv[1], {size}, [{end!r}], n_workers=2, engine="fast")
Tokenizer(vocab, merges, [{end!r}]).save(sys.argv[2])
""",
    "encode": """
from cs336_basics.tokenizer import Tokenizer, encode_file
for ids in encode_file(Tokenizer.load(sys.argv[2], engine="fast"), sys.argv[1]):
    pass
""",
}
MEASURED: Final = """
import json, resource, sys, time
start = time.perf_counter()
{work}
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps(dict(peak_bytes=peak, wall_s=time.perf_counter() - start)))
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
            for work, code in WORK.items():
                whole = MEASURED.format(work=code.format(size=VOCAB_SIZE, end=END))
                command = [sys.executable, "-c", whole, str(path), str(Path(folder, "tokenizer"))]
                run = subprocess.run(command, check=True, capture_output=True, text=True)
                row = json.loads(run.stdout) | {"gb": size, "work": work}
                rows.append(row)
                peak, wall = row["peak_bytes"] / 1e6, row["wall_s"]
                print(f"{size:6.3f} GB  {work:<6}  peak {peak:6.0f} MB  {wall:6.1f} s wall", flush=True)
    if asked.out:
        draw(rows, asked.out)


def draw(rows: list[dict[str, Any]], out: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for work in WORK:
        points = [(row["gb"], row["peak_bytes"] / 1e9) for row in rows if row["work"] == work]
        axes.plot(*zip(*points, strict=True), "o-", label=f"peak memory, {work}")
    sizes = [row["gb"] for row in rows]
    axes.plot(sizes, sizes, ":", color="grey", label="the corpus itself")
    axes.set(xlabel="corpus, GB", ylabel="memory, GB", title=f"A vocabulary of {VOCAB_SIZE:,} tokens", ylim=(0, None))
    axes.legend()
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    main()
