"""Counting the pre-tokens of a text file, in one process or in many, in memory that does not follow its size."""

import multiprocessing
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from cs336_basics.tokenizer.pretokenize import Pretokenizer
from cs336_basics.tokenizer.shards import Shard, kept, run_shards, shards_of
from cs336_basics.tokenizer.text import Advance, read_text, text_size, unreadable

WHERE: Final = "train_bpe: input_path"


def count_file(
    path: Path,
    special_tokens: Sequence[str],
    *,
    n_workers: int = 1,
    executor: Executor | None = None,
    keep: Path | None = None,
    advance: Advance | None = None,
) -> Counter[bytes]:
    """Count the pre-tokens of a UTF-8 file, special tokens left out; the counts depend on nothing else.

    Raises: TokenizerError if the file is missing, empty or not UTF-8 (with the offset), or a worker dies.
    """
    size = text_size(path, where=WHERE)
    try:
        shards = shards_of(path, size, special_tokens, n_workers=n_workers, executor=executor, kept=keep is not None)
        if executor is not None:
            return count_shards(shards, special_tokens, executor, n_workers=n_workers, keep=keep, advance=advance)
        if n_workers == 1 or len(shards) == 1:
            total: Counter[bytes] = Counter()
            for shard in shards:
                total.update(count_shard(shard, special_tokens, keep, advance))
            return total
        # Spawned, never forked: a fork copies locks that threads of other libraries may hold.
        with ProcessPoolExecutor(min(n_workers, len(shards)), multiprocessing.get_context("spawn")) as processes:
            return count_shards(shards, special_tokens, processes, n_workers=n_workers, keep=keep, advance=advance)
    except OSError as error:
        raise unreadable(WHERE, path, error) from None


def count_shards(
    shards: Sequence[Shard],
    special_tokens: Sequence[str],
    executor: Executor,
    *,
    n_workers: int = 1,
    keep: Path | None = None,
    advance: Advance | None = None,
) -> Counter[bytes]:
    """Count the pre-tokens of all shards on any executor; paths travel to the workers, not text.

    Raises: TokenizerError as `count_file` does.
    """
    total: Counter[bytes] = Counter()
    work = partial(count_shard, special_tokens=special_tokens, keep=keep)
    for counts in run_shards(work, shards, executor, n_workers=n_workers, advance=advance):
        total.update(counts)
    return total


def count_shard(
    shard: Shard, special_tokens: Sequence[str], keep: Path | None = None, advance: Advance | None = None
) -> Counter[bytes]:
    """Count the pre-tokens of one shard, reading it block by block, or find its counts in the folder `keep`."""
    if keep is None:
        return _counted(shard, special_tokens, advance)
    from cs336_basics.tokenizer.counts import PretokenCounts

    def make() -> bytes:
        return PretokenCounts.of(_counted(shard, special_tokens, advance)).to_bytes()

    return PretokenCounts.from_bytes(kept(keep, shard, counting(special_tokens), make)).counter()


def counting(special_tokens: Sequence[str]) -> str:
    """What the counts of a shard depend on beside its text; the same for both twins."""
    return f"counts of pre-tokens, 1, {sorted(special_tokens)}"


def _counted(shard: Shard, special_tokens: Sequence[str], advance: Advance | None) -> Counter[bytes]:
    counts: Counter[str] = Counter()
    text = read_text(shard.path, start=shard.start, end=shard.end, advance=advance, where=WHERE)
    for pretokens in Pretokenizer(special_tokens).stream(text):
        counts.update(pretokens)
    for token in special_tokens:
        counts.pop(token, None)
    return Counter({pretoken.encode(): count for pretoken, count in counts.items()})
