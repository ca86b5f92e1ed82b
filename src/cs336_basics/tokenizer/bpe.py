"""Training byte-level BPE: which pairs of tokens to merge, and in which order."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import Any, Final

from cs336_basics.tokenizer.checks import check_path, check_special_tokens, check_whole
from cs336_basics.tokenizer.count import count_file
from cs336_basics.tokenizer.engine import Engine, is_fast
from cs336_basics.tokenizer.errors import TokenizerError
from cs336_basics.tokenizer.text import Advance, text_size

_GAP: Final = -1  # no token: between two words, or merged away
_MIRROR: Final = bytes(255 - byte for byte in range(256))


def train_bpe(
    input_path: str | os.PathLike[str],
    vocab_size: int,
    special_tokens: Sequence[str],
    *,
    n_workers: int = 1,
    executor: Executor | None = None,
    keep: str | os.PathLike[str] | None = None,
    engine: Engine = "auto",
    progress: bool = False,
) -> tuple[dict[int, bytes], list[tuple[bytes, bytes]]]:
    """Learn a byte-level BPE vocabulary of `vocab_size` tokens, and its merges in order, from a UTF-8 text file.

    Ids: the 256 bytes, then one for each merge, then the special tokens (one of a single byte is that byte's
    id). Special tokens cut the text before anything else and take part in no merge. The result depends neither
    on the number of workers nor on the order of documents. A text that runs out of pairs gives a smaller
    vocabulary than asked for.

    `engine` chooses between this code and its twin in numba, which gives the same; `auto` takes the twin where it
    is installed and the text has some MB. `n_workers` processes (threads, of the twin) count the pre-tokens; more
    than one pays from some ten MB on. A script must then call this under `if __name__ == "__main__":`, because
    processes import the script. An `executor` of your own, for so many workers, takes their place: dask's
    `Client.get_executor()` for a cluster on which every machine sees the file. In the folder `keep`, made if need
    be, counts of finished parts of 64 MB are kept, so that a run which was ended goes on from there.
    `progress` draws bars where stderr is a terminal.

    Units: vocab_size in tokens.
    Raises: TokenizerError on a file that is missing, empty or not UTF-8 (with the byte offset), a vocabulary too
        small for bytes and special tokens (with the least that works), special tokens empty or given twice.
    Source: Sennrich et al. 2016, arXiv:1508.07909, over bytes as in GPT-2 (Radford et al. 2019).
    """
    path = check_path(input_path, where="train_bpe: input_path")
    tokens = check_special_tokens(special_tokens, where="train_bpe: special_tokens")
    vocab = [bytes([byte]) for byte in range(256)]
    specials = [token.encode() for token in tokens if token.encode() not in vocab]
    needed = f"256 bytes + {len(specials)} special token{'' if len(specials) == 1 else 's'}"
    check_whole(vocab_size, where=f"train_bpe: vocab_size ({needed})", least=256 + len(specials))
    check_whole(n_workers, where="train_bpe: n_workers", least=1)
    folder = None if keep is None else check_path(keep, where="train_bpe: keep")
    n_merges = vocab_size - 256 - len(specials)
    n_bytes = text_size(path, where="train_bpe: input_path")
    count, merge = _twin() if is_fast(engine, n_bytes, where="train_bpe") else (count_file, merge_counts)
    with _bar(progress, "counting pre-tokens", n_bytes, "B") as advance:
        counts = count(path, tokens, n_workers=n_workers, executor=executor, keep=folder, advance=advance)
    with _bar(progress, "merging pairs", n_merges, "merge") as advance:
        merges = merge(counts, n_merges, advance=advance)
    vocab += [left + right for left, right in merges] + specials
    return dict(enumerate(vocab)), merges


def merge_counts(
    counts: Mapping[bytes, int], n_merges: int, *, advance: Advance | None = None
) -> list[tuple[bytes, bytes]]:
    """Learn up to `n_merges` merges from pre-tokens and how often each occurs.

    Each step merges the pair of neighbouring tokens that occurs most often, everywhere, from left to right.
    Ties go to the lexicographically greatest pair of byte strings. The count of a pair can only fall after the
    merge that made the pair, so an entry of the heap is never too low, and one that is too high goes back with
    its true count when it comes up. Time is n log n in the bytes of the distinct pre-tokens.

    Raises: TokenizerError if n_merges is negative, or a count below 1.

    >>> merge_counts({b"low": 5, b"lower": 2, b"newest": 6, b"widest": 3}, 3)
    [(b's', b't'), (b'e', b'st'), (b'o', b'w')]
    """
    check_whole(n_merges, where="merge_counts: n_merges", least=0)
    if min(counts.values(), default=1) < 1:
        raise TokenizerError(f"merge_counts: counts must be 1 or more, got {min(counts.values())}")
    words = _Words(counts)
    vocab = [bytes([byte]) for byte in range(256)]
    ranks = [_descending(token) for token in vocab]
    heap = [(-count, ranks[left], ranks[right], (left, right)) for (left, right), count in words.pair_counts.items()]
    heapify(heap)
    merges: list[tuple[bytes, bytes]] = []
    while heap and len(merges) < n_merges:
        minus_count, left_rank, right_rank, pair = heappop(heap)
        count = words.pair_counts[pair]
        if count != -minus_count:
            if count:
                heappush(heap, (-count, left_rank, right_rank, pair))
            continue
        left, right = pair
        merges.append((vocab[left], vocab[right]))
        vocab.append(vocab[left] + vocab[right])
        ranks.append(_descending(vocab[-1]))
        for left, right in words.merge(pair, len(vocab) - 1):
            heappush(heap, (-words.pair_counts[left, right], ranks[left], ranks[right], (left, right)))
        if advance:
            advance(1)
    return merges


class _Words:
    """The words in one row of tokens, a gap between them, with the count and the places of every pair.

    Nothing is counted twice: a merge visits only the places of its pair, and passes over one whose tokens have
    changed meanwhile.
    """

    def __init__(self, counts: Mapping[bytes, int]) -> None:
        self.pair_counts: defaultdict[tuple[int, int], int] = defaultdict(int)
        self._tokens, self._weights = [_GAP], [0]
        for word, count in counts.items():
            self._tokens += [*word, _GAP]
            self._weights += [count] * (len(word) + 1)
        row = list(range(len(self._tokens)))  # so that the lists below share their ints
        self._following = row[1:]
        self._preceding = row[:1] + row[:-1]
        self._places: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for place, pair in zip(row, pairwise(self._tokens), strict=False):
            if _GAP not in pair:
                self.pair_counts[pair] += self._weights[place]
                self._places[pair].append(place)

    def merge(self, pair: tuple[int, int], merged: int) -> set[tuple[int, int]]:
        """Merge `pair` everywhere, from left to right, into the token `merged`, and return the pairs it is in."""
        left, right = pair
        tokens, following, preceding = self._tokens, self._following, self._preceding
        pair_counts, places = self.pair_counts, self._places
        born: set[tuple[int, int]] = set()
        # In order from left to right: all copies of a token come about in one such pass, so their pairs do too.
        for place in places.pop(pair):
            gone = following[place]
            if tokens[place] != left or tokens[gone] != right:
                continue
            before, after, weight = preceding[place], following[gone], self._weights[place]
            tokens[place], tokens[gone] = merged, _GAP
            following[place], preceding[after] = after, place
            if tokens[before] != _GAP:
                new = (tokens[before], merged)
                pair_counts[tokens[before], left] -= weight
                pair_counts[new] += weight
                places[new].append(before)
                born.add(new)
            if tokens[after] != _GAP:
                new = (merged, tokens[after])
                pair_counts[right, tokens[after]] -= weight
                pair_counts[new] += weight
                places[new].append(place)
                born.add(new)
        del pair_counts[pair]
        return {new for new in born if pair_counts[new]}


def _descending(token: bytes) -> str:
    """A key that sorts byte strings from the greatest to the least; a prefix comes after what it begins.

    >>> sorted([b"a", b"ab", b"b"], key=_descending)
    [b'b', b'ab', b'a']
    """
    return token.translate(_MIRROR).decode("latin-1") + "\u0100"


def _twin() -> tuple[Callable[..., Any], Callable[..., list[tuple[bytes, bytes]]]]:
    """What stands for `count_file` and `merge_counts` in machine code."""
    from cs336_basics.tokenizer.fast.count import count_file as fast_count_file
    from cs336_basics.tokenizer.fast.learn import learn_counts

    return fast_count_file, learn_counts


@contextmanager
def _bar(progress: bool, what: str, total: int, unit: str) -> Iterator[Advance | None]:
    """A progress bar on stderr, where that is a terminal, and the function that moves it on."""
    if not progress:
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=total, desc=what, unit=unit, unit_scale=True, disable=None) as bar:
        yield bar.update
