"""Training and encoding on the documentation of Python's own syntax, which every machine has; tiktoken beside it."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from pydoc_data.topics import topics
from typing import Final

from cs336_basics.tokenizer import Tokenizer, train_bpe
from tests.bench.measure import Figure, compare, medians, take_turns

TRAINED_ON: Final = 130_000  # bytes


def figures(rounds: int) -> Iterator[Figure]:
    """Training at vocabulary 500 on 130 kB; encoding all of the text by the vocabulary learned."""
    from cs336_basics.interop.tiktoken import to_tiktoken

    text = "".join(topics[name] for name in sorted(topics)).encode("ascii", "ignore").decode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        path.write_text(text[:TRAINED_ON], encoding="ascii")
        seconds = take_turns({"train_bpe": lambda: train_bpe(path, 500, [])}, rounds=rounds)
        vocab, merges = train_bpe(path, 500, [])
    yield Figure(group="tokenizer", name="train on 130 kB to vocabulary 500", seconds=medians(seconds))
    warm = Tokenizer(vocab, merges)
    other = to_tiktoken(warm)
    candidates = {"first": lambda: Tokenizer(vocab, merges).encode(text), "tiktoken": lambda: other.encode(text)}
    size = f"{len(text) // 1000} kB"
    for name, ours in (("a new tokenizer", candidates["first"]), ("a tokenizer in use", lambda: warm.encode(text))):
        pair = {"ours": ours, "tiktoken": candidates["tiktoken"]}
        figure = compare("tokenizer", f"encode {size}, {name}", pair, rounds=rounds)
        rates = {f"{key} kB/s": len(text) / 1000 / value for key, value in figure.seconds.items()}
        yield replace(figure, rates=rates)
