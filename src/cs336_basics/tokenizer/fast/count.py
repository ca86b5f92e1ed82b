"""Counting the pre-tokens of a text file in machine code: `tokenizer/count.py` with threads in place of processes."""

from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from threading import Lock
from typing import Final

import numpy as np

from cs336_basics.tokenizer.count import Shard, find_shards
from cs336_basics.tokenizer.errors import TokenizerError
from cs336_basics.tokenizer.fast.scan import special_table, valid_end
from cs336_basics.tokenizer.fast.table import PADDING_BYTES, CountTable, PretokenCounts
from cs336_basics.tokenizer.text import Advance, read_text, text_size, unreadable

_WHERE: Final = "train_bpe: input_path"
_BLOCK_BYTES: Final = 1 << 20  # what a core's own cache holds, for the block is passed over three times
_LEAST_SHARD_BYTES: Final = 1 << 20
_MOST_SHARD_BYTES: Final = 1 << 26  # so that an error or an interrupt does not wait for long
_SHARDS_PER_WORKER: Final = 4  # so that one slow shard does not leave the other workers idle
_LONGEST_CHARACTER_BYTES: Final = 4


def count_file(
    path: Path, special_tokens: Sequence[str], *, n_workers: int = 1, advance: Advance | None = None
) -> PretokenCounts:
    """Count the pre-tokens of a UTF-8 file, special tokens left out; the counts do not depend on `n_workers`.

    Raises: TokenizerError if the file is missing, empty or not UTF-8 (with the offset).
    """
    size = text_size(path, where=_WHERE)
    n_shards = min(max(n_workers * _SHARDS_PER_WORKER, size // _MOST_SHARD_BYTES), size // _LEAST_SHARD_BYTES)
    try:
        if n_workers == 1 or n_shards < 2:
            return count_shard(Shard(path, 0, size), special_tokens, advance)
        return _count_in_threads(find_shards(path, n_shards, special_tokens), special_tokens, n_workers, advance)
    except OSError as error:
        raise unreadable(_WHERE, path, error) from None


def count_shards(
    shards: Sequence[Shard], special_tokens: Sequence[str], executor: Executor, advance: Advance | None = None
) -> PretokenCounts:
    """Count the pre-tokens of all shards on any executor; paths travel to the workers, and arrays back.

    Raises: TokenizerError as `count_file` does, or if a worker dies.
    """
    futures: list[Future[PretokenCounts]] = []
    table = CountTable()
    try:
        futures += [executor.submit(count_shard, shard, special_tokens) for shard in shards]
        for shard, future in zip(shards, futures, strict=True):
            table.add(future.result())
            if advance:
                advance(shard.end - shard.start)
        return table.counts()
    except BrokenProcessPool:
        raise TokenizerError(
            "train_bpe: a worker process died; if this is a script, call train_bpe under "
            "`if __name__ == '__main__':`, and if memory ran out, give a smaller n_workers"
        ) from None
    finally:
        for future in futures:
            future.cancel()


def count_shard(shard: Shard, special_tokens: Sequence[str], advance: Advance | None = None) -> PretokenCounts:
    """Count the pre-tokens of one shard, reading it block by block."""
    table = CountTable()
    _count_into(table, shard, special_tokens, advance)
    return table.counts()


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
        raise unreadable(_WHERE, shard.path, error) from None
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
        for _ in read_text(shard.path, start=start, end=shard.end, where=_WHERE):
            pass
    except TokenizerError as error:
        return error
    return TokenizerError(f"{_WHERE} must not change while it is read, {shard.path} did")
