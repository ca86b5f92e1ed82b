"""Counting the pre-tokens of a text file, in one process or in many, in memory that does not follow its size."""

import mmap
import multiprocessing
import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from cs336_basics.tokenizer.errors import TokenizerError
from cs336_basics.tokenizer.pretokenize import Pretokenizer
from cs336_basics.tokenizer.text import Advance, read_text, text_size, unreadable

_WHERE: Final = "train_bpe: input_path"
_LEAST_SHARD_BYTES: Final = 1 << 20  # below, starting a process costs more than it saves
_SHARDS_PER_WORKER: Final = 4  # so that one slow shard does not leave the other workers idle


class Shard(NamedTuple):
    """A part of a file, in bytes; it begins at a special token or at the file's beginning."""

    path: Path
    start: int
    end: int


def count_file(
    path: Path, special_tokens: Sequence[str], *, n_workers: int = 1, advance: Advance | None = None
) -> Counter[bytes]:
    """Count the pre-tokens of a UTF-8 file, special tokens left out; the counts do not depend on `n_workers`.

    Raises: TokenizerError if the file is missing, empty or not UTF-8 (with the offset), or a worker dies.
    """
    size = text_size(path, where=_WHERE)
    n_shards = min(n_workers * _SHARDS_PER_WORKER, size // _LEAST_SHARD_BYTES)
    try:
        if n_workers == 1 or n_shards < 2:
            return count_shard(Shard(path, 0, size), special_tokens, advance)
        shards = find_shards(path, n_shards, special_tokens)
        # Spawned, never forked: a fork copies locks that threads of other libraries may hold.
        with ProcessPoolExecutor(min(n_workers, len(shards)), multiprocessing.get_context("spawn")) as executor:
            return count_shards(shards, special_tokens, executor, advance)
    except OSError as error:
        raise unreadable(_WHERE, path, error) from None


def find_shards(path: Path, n_shards: int, special_tokens: Sequence[str]) -> list[Shard]:
    """Cut a file into at most `n_shards` parts of about one size, each cut just before a special token.

    A file without special tokens is one shard.
    """
    tokens = [token.encode() for token in special_tokens]
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        size = len(text)
        cuts = [0]
        for n in range(1, n_shards):
            cuts.append(_find_cut(text, tokens, max(cuts[-1] + 1, size * n // n_shards)))
            if cuts[-1] == size:
                break
        else:
            cuts.append(size)
    return [Shard(path, start, end) for start, end in pairwise(cuts)]


def _find_cut(text: mmap.mmap, tokens: Sequence[bytes], start: int) -> int:
    """The first place from `start` on where a special token begins that none before it reaches into."""
    if tokens:
        for match in re.compile(b"|".join(map(re.escape, tokens))).finditer(text, start):
            cut = match.start()
            # One that begins earlier and ends later might win in the whole text, and this cut would undo it.
            if all(text.find(token, max(0, cut - len(token) + 1), cut + len(token) - 1) < 0 for token in tokens):
                return cut
    return len(text)


def count_shards(
    shards: Sequence[Shard], special_tokens: Sequence[str], executor: Executor, advance: Advance | None = None
) -> Counter[bytes]:
    """Count the pre-tokens of all shards on any executor; paths travel to the workers, not text.

    Raises: TokenizerError as `count_file` does.
    """
    futures: list[Future[Counter[bytes]]] = []
    total: Counter[bytes] = Counter()
    try:
        futures += [executor.submit(count_shard, shard, special_tokens) for shard in shards]
        for shard, future in zip(shards, futures, strict=True):
            total.update(future.result())
            if advance:
                advance(shard.end - shard.start)
        return total
    except BrokenProcessPool:
        raise TokenizerError(
            "train_bpe: a worker process died; if this is a script, call train_bpe under "
            "`if __name__ == '__main__':`, and if memory ran out, give a smaller n_workers"
        ) from None
    finally:
        for future in futures:
            future.cancel()


def count_shard(shard: Shard, special_tokens: Sequence[str], advance: Advance | None = None) -> Counter[bytes]:
    """Count the pre-tokens of one shard, reading it block by block."""
    counts: Counter[str] = Counter()
    text = read_text(shard.path, start=shard.start, end=shard.end, advance=advance, where=_WHERE)
    for pretokens in Pretokenizer(special_tokens).stream(text):
        counts.update(pretokens)
    for token in special_tokens:
        counts.pop(token, None)
    return Counter({pretoken.encode(): count for pretoken, count in counts.items()})
