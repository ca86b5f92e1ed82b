"""Encoding a text file, in one process or in many, in memory that does not follow its size."""

import multiprocessing
import os
import pickle
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import Any, Final

from cs336_basics.contracts import describe
from cs336_basics.tokenizer.checks import check_executor, check_keep, check_path, check_whole
from cs336_basics.tokenizer.codec import Tokenizer
from cs336_basics.tokenizer.encode import IdArray
from cs336_basics.tokenizer.engine import is_fast
from cs336_basics.tokenizer.errors import TokenizerError
from cs336_basics.tokenizer.shards import Shard, kept, run_shards, shards_of
from cs336_basics.tokenizer.text import Advance, read_bytes, text_size

_WHERE: Final = "encode_file: path"


def encode_file(
    tokenizer: Tokenizer,
    path: str | os.PathLike[str],
    *,
    n_workers: int = 1,
    executor: Executor | None = None,
    keep: str | os.PathLike[str] | None = None,
    advance: Advance | None = None,
) -> Iterator[IdArray]:
    """The ids of a UTF-8 text file in arrays, in order; its special tokens are taken as such.

    `n_workers` threads (processes, of the readable engine) encode parts of the file. An `executor` of your own, for
    so many workers, takes their place. In the folder `keep`, made if need be, the ids of finished parts of 64 MB are
    kept, so that a run which was ended goes on from there. `advance` is told of bytes encoded. The ids depend on none
    of this.

    Raises: TokenizerError if the file is missing, empty or not UTF-8 (with the offset), or a worker dies.
    """
    if not isinstance(tokenizer, Tokenizer):
        raise TokenizerError(f"encode_file: tokenizer must be a Tokenizer, got {describe(tokenizer)}")
    file = check_path(path, where=_WHERE)
    check_whole(n_workers, where="encode_file: n_workers", least=1)
    folder = check_keep(keep, where="encode_file: keep")
    check_executor(executor, where="encode_file: executor")
    size = text_size(file, where=_WHERE)
    shards = shards_of(
        file, size, tokenizer.special_tokens, n_workers=n_workers, executor=executor, kept=folder is not None
    )
    if executor is None and folder is None and len(shards) == 1:
        return _blocks(tokenizer, shards[0], size, advance)
    return _encoded(tokenizer, shards, size, n_workers, executor, folder, advance)


def _encoded(
    tokenizer: Tokenizer,
    shards: list[Shard],
    size: int,
    n_workers: int,
    executor: Executor | None,
    folder: Path | None,
    advance: Advance | None,
) -> Iterator[IdArray]:
    what = f"ids, 1, {tokenizer.fingerprint()}" if folder else ""
    work = partial(_encode_shard, sent=_Sent(tokenizer), size=size, folder=folder, what=what)
    if executor is not None:
        yield from run_shards(work, shards, executor, n_workers=n_workers, advance=advance)
    elif n_workers == 1 or is_fast(tokenizer.engine, size, where="encode_file"):
        tell = partial(work, advance=_one_at_a_time(advance))
        with ThreadPoolExecutor(n_workers) as threads:
            yield from run_shards(tell, shards, threads, n_workers=n_workers)
    else:
        with ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn")) as processes:
            yield from run_shards(work, shards, processes, n_workers=n_workers, advance=advance)


class _Sent:
    """A tokenizer that is pickled once, however many shards it is sent with, and made once in each process."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._pickled = b""

    def __reduce__(self) -> tuple[Any, ...]:
        self._pickled = self._pickled or pickle.dumps(self.tokenizer)
        return _received, (self._pickled,)


@lru_cache(maxsize=2)
def _received(pickled: bytes) -> _Sent:
    return _Sent(pickle.loads(pickled))  # noqa: S301  # it came inside the pickle of this very call


def _encode_shard(
    shard: Shard, *, sent: _Sent, size: int, folder: Path | None, what: str, advance: Advance | None = None
) -> IdArray:
    import numpy as np

    tokenizer = sent.tokenizer
    made = False

    def make() -> bytes:
        nonlocal made
        made = True
        return b"".join(block.data for block in _blocks(tokenizer, shard, size, advance))

    dtype: type[np.unsignedinteger[Any]] = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
    ids: IdArray = np.frombuffer(kept(folder, shard, what, make), dtype)
    if advance and not made:
        advance(shard.end - shard.start)
    return ids


def _blocks(tokenizer: Tokenizer, shard: Shard, size: int, advance: Advance | None) -> Iterator[IdArray]:
    blocks = read_bytes(shard.path, start=shard.start, end=shard.end, advance=advance, where=_WHERE)
    specials = frozenset(tokenizer.special_tokens)
    return tokenizer._coder.file_blocks(blocks, specials, size, start=shard.start, path=shard.path, where=_WHERE)


def _one_at_a_time(advance: Advance | None) -> Advance | None:
    """The same for threads to call."""
    if advance is None:
        return None
    lock = Lock()

    def tell(n_bytes: int) -> None:
        with lock:
            advance(n_bytes)

    return tell
