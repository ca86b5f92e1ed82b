"""A large file in parts: where it may be cut, the parts on any executor, and what is finished kept on disk."""

import hashlib
import json
import mmap
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import suppress
from itertools import islice, pairwise
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from cs336_basics.files import whole_file
from cs336_basics.tokenizer.errors import TokenizerError
from cs336_basics.tokenizer.text import Advance

T = TypeVar("T")

LEAST_SHARD_BYTES: Final = 1 << 20  # below, starting a process costs more than it saves
KEPT_SHARD_BYTES: Final = 1 << 26  # the size of shards that are kept: it must not follow the number of workers
_SHARDS_PER_WORKER: Final = 4  # so that one slow shard does not leave the other workers idle
_DIGEST_BYTES: Final = 32
_PART: Final = re.compile(r"\.?[0-9a-f]{64}\.part(\..*\.tmp)?")  # and what a kill leaves of one

# A character that is no white space, then a space or a newline: a pre-token that holds the one ends before the other,
# and none looks behind itself. U+3000 and those of U+1000 to U+2FFF are left out: some of them are white space.
_WORD_END: Final = rb"(?:[!-~]|[\xc3-\xdf].|[\xe0\xe3-\xef]..(?<!\xe3\x80\x80)|[\xf0-\xf4]...)(?=[ \n])"


class Shard(NamedTuple):
    """A part of a file, in bytes, at whose ends no pre-token and no special token is cut."""

    path: Path
    start: int
    end: int


def shards_of(
    path: Path, size: int, special_tokens: Sequence[str], *, n_workers: int, executor: Executor | None, kept: bool
) -> list[Shard]:
    """The shards of a file of `size` bytes for so many workers, one for a single one of our own; of one size in all
    runs if they are to be kept."""
    if kept:
        n_shards = -(-size // KEPT_SHARD_BYTES)
    else:
        n_shards = min(max(n_workers * _SHARDS_PER_WORKER, size // KEPT_SHARD_BYTES), size // LEAST_SHARD_BYTES)
    if n_shards < 2 or (n_workers == 1 and executor is None and not kept):
        return [Shard(path, 0, size)]
    return find_shards(path, n_shards, special_tokens)


def find_shards(path: Path, n_shards: int, special_tokens: Sequence[str]) -> list[Shard]:
    """Cut a file into at most `n_shards` parts of about one size, each cut just before a special token or white space.

    The pre-tokens of the parts are those of the whole file. A file with no such place is one shard.
    """
    tokens = [token.encode() for token in special_tokens]
    places = re.compile(b"|".join([*(b"(?=%s)" % re.escape(token) for token in tokens), _WORD_END]), re.DOTALL)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        size = len(text)
        cuts = [0]
        for n in range(1, n_shards):
            cuts.append(_find_cut(text, places, tokens, max(cuts[-1] + 1, size * n // n_shards)))
            if cuts[-1] == size:
                break
        else:
            cuts.append(size)
    return [Shard(path, start, end) for start, end in pairwise(cuts)]


def _find_cut(text: mmap.mmap, places: re.Pattern[bytes], tokens: Sequence[bytes], start: int) -> int:
    """The first place from `start` on that no special token reaches across."""
    for match in places.finditer(text, start):
        cut = match.end()
        # One that begins earlier and ends later might win in the whole text, and this cut would undo it.
        if all(text.find(token, max(0, cut - len(token) + 1), cut + len(token) - 1) < 0 for token in tokens):
            return cut
    return len(text)


def run_shards(
    work: Callable[[Shard], T],
    shards: Sequence[Shard],
    executor: Executor,
    *,
    n_workers: int = 1,
    advance: Advance | None = None,
) -> Iterator[T]:
    """The results of `work` on each shard, in order; what is still to be done when one fails is called off.

    No more than a few shards for each worker are begun before their results are taken, so that these do not pile up.

    Raises: TokenizerError if a worker dies, and whatever `work` raises.
    """

    def begin(shard: Shard) -> tuple[Shard, Future[T]]:
        try:
            return shard, executor.submit(work, shard)
        except BrokenExecutor:
            raise
        except RuntimeError as error:  # after shutdown, for one
            raise TokenizerError(f"executor must take work, got {executor!r} ({error})") from None

    waiting = iter(shards)
    begun: deque[tuple[Shard, Future[T]]] = deque()
    try:
        while True:
            begun += map(begin, islice(waiting, 3 * n_workers - len(begun)))
            if not begun:
                return
            shard, future = begun.popleft()
            result = future.result()
            if advance:
                advance(shard.end - shard.start)
            yield result
    except Exception as error:
        if isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker":  # the latter is dask's
            raise TokenizerError(
                "n_workers: a worker process died; if this is a script, make the call under "
                "`if __name__ == '__main__':`, and if memory ran out, give a smaller number"
            ) from None
        raise
    finally:
        for _, future in begun:
            future.cancel()


def kept(folder: Path | None, shard: Shard, what: str, make: Callable[[], bytes]) -> bytes:
    """What `make` gives for a shard, or what it gave in an earlier run that kept it in `folder`.

    It is made anew if the file or `what` (all else that the result depends on) has changed, or its file is damaged.
    What cannot be kept, since the disk is full or another run has removed the folder, is given all the same.
    """
    if folder is None:
        return make()
    found = shard.path.stat()
    about = [str(shard.path.resolve()), found.st_size, found.st_mtime_ns, shard.start, shard.end, what]
    path = folder / f"{hashlib.sha256(json.dumps(about).encode()).hexdigest()}.part"
    content = b""
    with suppress(OSError):
        content = path.read_bytes()
    digest, body = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest:
        body = make()
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with whole_file(path) as file:
                file.write(hashlib.sha256(body).digest() + body)
    return body


def forget(folder: Path) -> None:
    """Remove what `kept` has kept in a folder, or left half written by a kill, and the folder if it is then empty."""
    with suppress(OSError):  # another run may be doing the same
        for path in folder.iterdir():
            if _PART.fullmatch(path.name):
                path.unlink(missing_ok=True)
        folder.rmdir()
