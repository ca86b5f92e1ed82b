"""Counting the pre-tokens of a text file in machine code: `tokenizer/count.py` with threads in place of processes."""

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Final

import numpy as np

from cs336_basics.tokenizer.count import WHERE, counting
from cs336_basics.tokenizer.counts import PADDING_BYTES, PretokenCounts
from cs336_basics.tokenizer.errors import TokenizerError
from cs336_basics.tokenizer.fast.scan import valid_end
from cs336_basics.tokenizer.fast.specials import special_table
from cs336_basics.tokenizer.fast.table import CountTable
from cs336_basics.tokenizer.shards import Shard, kept, run_shards, shards_of
from cs336_basics.tokenizer.text import Advance, read_text, shrunk, text_size, unreadable

_BLOCK_BYTES: Final = 1 << 20  # what a core's own cache holds, for the block is passed over three times
_LONGEST_CHARACTER_BYTES: Final = 4


def count_file(
    path: Path,
    special_tokens: Sequence[str],
    *,
    n_workers: int = 1,
    executor: Executor | None = None,
    keep: Path | None = None,
    advance: Advance | None = None,
) -> PretokenCounts:
    """Count the pre-tokens of a UTF-8 file, special tokens left out; the counts depend on nothing else.

    Raises: TokenizerError if the file is missing, empty or not UTF-8 (with the offset), or a worker dies.
    """
    size = text_size(path, where=WHERE)
    try:
        shards = shards_of(path, size, special_tokens, n_workers=n_workers, executor=executor, kept=keep is not None)
        if executor is not None:
            return count_shards(shards, special_tokens, executor, n_workers=n_workers, keep=keep, advance=advance)
        if n_workers == 1 or len(shards) == 1:
            return total_counts(count_shard(shard, special_tokens, keep, advance) for shard in shards)
        if keep is not None:
            with ThreadPoolExecutor(n_workers) as threads:
                return count_shards(shards, special_tokens, threads, n_workers=n_workers, keep=keep, advance=advance)
        return _count_in_threads(shards, special_tokens, n_workers, advance)
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
) -> PretokenCounts:
    """Count the pre-tokens of all shards on any executor; paths travel to the workers, and arrays back.

    Raises: TokenizerError as `count_file` does.
    """
    work = partial(count_shard, special_tokens=special_tokens, keep=keep)
    return total_counts(run_shards(work, shards, executor, n_workers=n_workers, advance=advance))


def count_shard(
    shard: Shard, special_tokens: Sequence[str], keep: Path | None = None, advance: Advance | None = None
) -> PretokenCounts:
    """Count the pre-tokens of one shard, reading it block by block, or find its counts in the folder `keep`."""

    def make() -> PretokenCounts:
        table = CountTable()
        _count_into(table, shard, special_tokens, advance)
        return table.counts()

    if keep is None:
        return make()
    return PretokenCounts.from_bytes(kept(keep, shard, counting(special_tokens), lambda: make().to_bytes()))


def total_counts(parts: Iterable[PretokenCounts]) -> PretokenCounts:
    """The counts of several texts together."""
    table = CountTable()
    for part in parts:
        table.add(part)
    return table.counts()


def _count_in_threads(
    shards: Sequence[Shard], special_tokens: Sequence[str], n_workers: int, advance: Advance | None
) -> PretokenCounts:
    """Count shards in threads of this process, each with one table for all the shards that it takes."""
    waiting = iter(shards)
    errors: list[tuple[int, BaseException]] = []
    one_at_a_time = Lock()

    def tell(n_bytes: int) -> None:
        if advance:
            with one_at_a_time:
                advance(n_bytes)

    def work() -> PretokenCounts:
        table = CountTable()
        for shard in waiting:
            if errors:
                break
            try:
                _count_into(table, shard, special_tokens, tell)
            except BaseException as error:
                errors.append((shard.start, error))
        return table.counts()

    with ThreadPoolExecutor(n_workers) as threads:
        futures = [threads.submit(work) for _ in range(n_workers)]
        try:
            parts = [future.result() for future in futures]
        except BaseException as error:
            errors.append((shards[-1].end, error))
            raise
    if errors:
        # Shards are taken in order, so the first error in the file is among them, whichever thread was faster.
        raise min(errors, key=lambda error: error[0])[1]
    return total_counts(parts)


def _count_into(table: CountTable, shard: Shard, special_tokens: Sequence[str], advance: Advance | None) -> None:
    """Count the pre-tokens of one shard.

    What of a block is not settled goes before the next one. Once that takes half of the buffer, the buffer doubles,
    so that a run without end costs linear time.
    """
    specials = special_table(special_tokens)
    longest = max((len(token.encode()) for token in special_tokens), default=1)
    text = np.empty(_BLOCK_BYTES + PADDING_BYTES, np.uint8)
    n_held = n_valid = 0  # bytes at the beginning of `text`: all, and those known to be UTF-8
    try:
        file = shard.path.open("rb")  # closed below; only opening may fail here
    except OSError as error:
        raise unreadable(WHERE, shard.path, error) from None
    with file:
        position = file.seek(shard.start)
        while True:
            room = min(len(text) - PADDING_BYTES - n_held, shard.end - position)
            n_read = file.readinto(text.data[n_held : n_held + room])
            end = n_held + n_read
            position += n_read
            n_valid = valid_end(text.ctypes.data, n_valid, end)
            # What is left may be a character cut in two, if it is short and more follows.
            if n_valid < end and (n_read == 0 or end - n_valid >= _LONGEST_CHARACTER_BYTES):
                raise _not_utf8(shard, position - end)
            n_counted = table.count(text, n_valid, specials, hold=longest if n_read else 0)
            if n_read == 0:
                if position < shard.end:
                    raise shrunk(WHERE, shard.path)
                return
            n_held, n_valid = end - n_counted, n_valid - n_counted
            if 2 * n_held > len(text) - PADDING_BYTES:
                longer = np.empty(2 * len(text) - PADDING_BYTES, np.uint8)
                longer[:n_held] = text[n_counted:end]
                text = longer
            else:
                text[:n_held] = text[n_counted:end]
            if advance:
                advance(n_read)


def _not_utf8(shard: Shard, start: int) -> TokenizerError:
    """The error that the readable twin gives for bytes from `start` on that are not UTF-8."""
    try:
        for _ in read_text(shard.path, start=start, end=shard.end, where=WHERE):
            pass
    except TokenizerError as error:
        return error
    return TokenizerError(f"{WHERE} must not change while it is read, {shard.path} did")
