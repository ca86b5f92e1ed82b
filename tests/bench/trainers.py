"""`python -m tests.bench.trainers NAME TEXT VOCAB_SIZE WORKERS`: train once, print wall and CPU seconds.

One training a process: thread pools are made once in a process, for all that use them.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from cs336_basics.tokenizer import train_bpe
from cs336_basics.tokenizer.pretokenize import GPT2_PATTERN

END: Final = "<|endoftext|>"


def ours(path: Path, vocab_size: int, workers: int) -> Callable[[], object]:
    from cs336_basics.tokenizer.fast.warm import compile_all

    compile_all()
    return lambda: train_bpe(path, vocab_size, [END], n_workers=workers, engine="fast")


def readable(path: Path, vocab_size: int, workers: int) -> Callable[[], object]:
    return lambda: train_bpe(path, vocab_size, [END], n_workers=workers, engine="python")


def gigatoken(path: Path, vocab_size: int, _workers: int) -> Callable[[], object]:
    peer = import_module("gigatoken")
    return lambda: peer.train_bpe(path, vocab_size, [END])  # a path is quicker than a TextFileSource, by a tenth


def rustbpe(path: Path, vocab_size: int, _workers: int) -> Callable[[], object]:
    peer = import_module("rustbpe")

    def train() -> None:
        documents = path.read_text(encoding="utf-8").split(END)
        peer.Tokenizer().train_from_iterator(iter(documents), vocab_size - 1, pattern=GPT2_PATTERN)

    return train


def tokenizers(path: Path, vocab_size: int, _workers: int) -> Callable[[], object]:
    import tokenizers as peer

    def train() -> None:
        tokenizer = peer.Tokenizer(peer.models.BPE())
        level = peer.pre_tokenizers.ByteLevel
        tokenizer.pre_tokenizer = level(add_prefix_space=False, use_regex=True)
        trainer = peer.trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=[END], initial_alphabet=level.alphabet(), show_progress=False
        )
        tokenizer.train([str(path)], trainer)

    return train


TRAINERS: Final[dict[str, Callable[[Path, int, int], Callable[[], object]]]] = {
    function.__name__: function for function in (ours, readable, gigatoken, rustbpe, tokenizers)
}


def cpu_s() -> float:
    """CPU seconds of this process and of the workers that it has waited for."""
    used: list[Any] = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return float(sum(each.ru_utime + each.ru_stime for each in used))


if __name__ == "__main__":
    name, text, size, workers = sys.argv[1:]
    train = TRAINERS[name](Path(text), int(size), int(workers))
    before, start = cpu_s(), time.perf_counter()
    train()
    wall_s = time.perf_counter() - start
    print(json.dumps({"wall_s": wall_s, "cpu_s": cpu_s() - before}))
