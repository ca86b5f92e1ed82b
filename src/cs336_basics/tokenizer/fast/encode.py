"""Text to ids in machine code: the ids of the readable `Tokenizer`, whose checks come before this."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import takewhile
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from cs336_basics.tokenizer.fast.cuts import last_cut, special_places
from cs336_basics.tokenizer.fast.merging import Rules
from cs336_basics.tokenizer.fast.scan import special_table, valid_end
from cs336_basics.tokenizer.fast.spans import SLACK
from cs336_basics.tokenizer.fast.workspace import SMALL_BYTES, Workspace, bytes_address
from cs336_basics.tokenizer.pretokenize import windows

Ids: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]

_MOST_PLACES: Final = 1 << 12  # of special tokens, found at a time


class Specials:
    """Special tokens to recognise in a text, and their ids; the longest wins where several begin."""

    def __init__(self, ids: Mapping[str, int]) -> None:
        self.ids = {token.encode(): index for token, index in ids.items()}
        self.longest = max(map(len, self.ids), default=1)
        self.table = special_table(list(ids))


NO_SPECIALS: Final = Specials({})


class Encoder:
    """Ids of text for a vocabulary and merges, as `Tokenizer` has checked them.

    Threads may share it, and work at the same time: each call has a workspace to itself, one that is idle. `n_cached`
    pre-tokens (a power of 2, 8 or more) are remembered in each.
    """

    def __init__(
        self, vocab: Mapping[int, bytes], merges: Sequence[tuple[bytes, bytes]], *, n_cached: int = 1 << 19
    ) -> None:
        ids = {token: index for index, token in vocab.items()}
        self._rules = Rules([(ids[left], ids[right], ids[left + right]) for left, right in merges])
        self._byte_ids = np.array([ids[bytes([byte])] for byte in range(256)], np.int32)
        self._dtype: type[np.unsignedinteger[Any]] = np.uint16 if len(vocab) <= 1 << 16 else np.uint32
        self._n_cached = n_cached
        self._given = vocab, merges
        self._idle: list[Workspace] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Encoder, n_cached=self._n_cached), self._given

    def encode(self, text: str, specials: Specials = NO_SPECIALS) -> list[int]:
        """The ids of a text.

        Raises: UnicodeEncodeError on a lone surrogate.
        """
        encoded = text.encode()
        ids: list[int]
        if len(encoded) > SMALL_BYTES or specials.ids:
            ids = self._encode(encoded, len(encoded), _places(encoded, specials), specials).tolist()
        else:
            workspace = self._take()
            small = workspace.small
            n_bytes = workspace.encode(encoded, 0, len(encoded), workspace.small_address) - workspace.small_address
            ids = small[: n_bytes // small.itemsize].tolist()
            self._idle.append(workspace)
        return ids

    def encode_array(self, text: str | bytes, specials: Specials = NO_SPECIALS) -> Ids:
        """The ids of `encode`, as an array: uint16 where every id of the vocabulary fits, else uint32.

        Bytes are taken as UTF-8, and not copied.

        Raises: UnicodeEncodeError on a lone surrogate, UnicodeDecodeError on bytes that are not UTF-8.
        """
        if isinstance(text, str):
            text = text.encode()
        elif valid_end(bytes_address(text), 0, len(text)) < len(text):
            text.decode()  # raises the error
        return self._encode(text, len(text), _places(text, specials), specials)

    def encode_chunks(self, chunks: Iterable[str], specials: Specials = NO_SPECIALS) -> Iterator[Ids]:
        """The ids of the chunks joined, wherever they are cut, in arrays, each as soon as no later text can change it.

        Memory follows the longest pre-token, and the arrays.

        Raises: UnicodeEncodeError on a lone surrogate.
        """
        return self.encode_blocks((window.encode() for chunk in chunks for window in windows(chunk)), specials)

    def encode_blocks(self, blocks: Iterable[bytes], specials: Specials = NO_SPECIALS) -> Iterator[Ids]:
        """The same for chunks of UTF-8, each of whole characters and none of it wrong.

        What is held back is looked at anew only when as much again has come, so that a pre-token without end costs
        linear time.
        """
        held = b""
        waiting: list[bytes] = []
        n_waiting = 0
        for block in blocks:
            waiting.append(block)
            n_waiting += len(block)
            if n_waiting >= len(held):
                text = b"".join([held, *waiting])
                cut, places = _settled(text, specials)
                if cut:
                    yield self._encode(text, cut, places, specials)
                held, waiting, n_waiting = text[cut:], [], 0
        if text := b"".join([held, *waiting]):
            yield self._encode(text, len(text), _places(text, specials), specials)

    def _take(self) -> Workspace:
        """A workspace that no other call uses."""
        try:
            return self._idle.pop()
        except IndexError:
            return Workspace(self._rules, self._byte_ids, self._dtype, self._n_cached)

    def _encode(self, text: bytes, end: int, places: Iterable[tuple[int, int]], specials: Specials) -> Ids:
        """The ids of text[:end], in which special tokens stand at `places`."""
        out = np.empty(end + SLACK, self._dtype)
        first = stop = out.ctypes.data
        workspace = self._take()
        start = 0
        for special, its_end in places:
            stop = workspace.encode(text, start, special, stop)
            out[(stop - first) // out.itemsize] = specials.ids[text[special:its_end]]
            stop += out.itemsize
            start = its_end
        stop = workspace.encode(text, start, end, stop)
        self._idle.append(workspace)
        out.resize((stop - first) // out.itemsize, refcheck=False)  # gives back what is too much, and copies nothing
        return out


def _places(text: bytes, specials: Specials) -> Iterator[tuple[int, int]]:
    """Where the special tokens of a text begin and end."""
    if not specials.ids:
        return
    places = np.empty((_MOST_PLACES, 2), np.int64)
    n_found, start = _MOST_PLACES, 0
    while n_found == _MOST_PLACES:
        n_found = special_places(
            bytes_address(text), start, len(text), specials.table.ctypes.data, places.ctypes.data, _MOST_PLACES
        )
        yield from places[:n_found].tolist()
        start = int(places[n_found - 1, 1]) if n_found else start


def _settled(text: bytes, specials: Specials) -> tuple[int, list[tuple[int, int]]]:
    """Where to cut a text that may go on, and its special tokens up to there: their ids hold whatever follows."""
    # A special token that begins before `sure` is here to its end, and so is any longer one.
    sure = len(text) - specials.longest + 1
    places = list(takewhile(lambda place: place[0] < sure, _places(text, specials)))
    start = places[-1][1] if places else 0
    return last_cut(bytes_address(text), start, max(start, sure)), places
