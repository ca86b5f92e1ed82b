"""Text to ids by one tokenizer's merges: what `Tokenizer` asks for once a text has been checked."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from cs336_basics.tokenizer.merge import merge_ids
from cs336_basics.tokenizer.pretokenize import Pretokenizer, windows

if TYPE_CHECKING:
    import numpy as np

    IdArray: TypeAlias = np.ndarray[tuple[int], np.dtype[np.unsignedinteger[Any]]]
else:
    IdArray = Any  # numpy is loaded where an array is made, not before

_BLOCK_IDS: Final = 1 << 16
_CACHED_PRETOKENS: Final = 1 << 15
_CACHED_LENGTH: Final = 32  # characters; longer pre-tokens hardly ever come back


class MergeTable(NamedTuple):
    """The merges as ids: the id of each byte, `rules[rank]` = (left, right, merged), `ranks[left, right]` = rank."""

    byte_ids: Sequence[int]
    rules: Sequence[tuple[int, int, int]]
    ranks: Mapping[tuple[int, int], int]


def merge_table(ids: Mapping[bytes, int], merges: Iterable[tuple[bytes, bytes]]) -> MergeTable:
    """The table of a vocabulary (token to id) and merges in order of rank."""
    rules = [(ids[left], ids[right], ids[left + right]) for left, right in merges]
    ranks = {(left, right): rank for rank, (left, right, _) in enumerate(rules)}
    return MergeTable([ids[bytes([byte])] for byte in range(256)], rules, ranks)


class Encoder:
    """Gives the ids of a text, in which the tokens of `special_ids` are taken as such and no others.

    Memory is bounded. Threads may share an encoder, and a forked process may go on with its copy: nothing is locked,
    and whatever they do at once to the pre-tokens remembered, each lookup finds the right ids or works them out.
    """

    def __init__(self, table: MergeTable, special_ids: Mapping[str, int]) -> None:
        self._pretokenizer = Pretokenizer(tuple(special_ids))
        self._ids = _PretokenIds(table, special_ids)

    def encode(self, text: str) -> list[int]:
        """The ids of a whole text."""
        return list(chain.from_iterable(map(self._ids.__getitem__, self._pretokenizer.split(text))))

    def encode_array(self, text: str, dtype: "type[np.unsignedinteger[Any]]") -> IdArray:
        """The ids of a whole text as an array, in memory that follows the array."""
        import numpy as np

        return np.fromiter(self.stream(windows(text)), dtype)

    def blocks(self, chunks: Iterable[str], dtype: "type[np.unsignedinteger[Any]]") -> Iterator[IdArray]:
        """The ids of the chunks joined, in arrays and in constant memory."""
        import numpy as np

        ids = self.stream(chunks)
        while (block := np.fromiter(islice(ids, _BLOCK_IDS), dtype)).size:
            yield block

    def stream(self, chunks: Iterable[str]) -> Iterator[int]:
        """The ids of the chunks joined, lazily and in constant memory."""
        pretokens = chain.from_iterable(self._pretokenizer.stream(chunks))
        return chain.from_iterable(map(self._ids.__getitem__, pretokens))


class _PretokenIds(dict[str, Sequence[int]]):
    """The ids of pre-tokens: remembered where short, worked out where missing, all forgotten when full."""

    def __init__(self, table: MergeTable, special_ids: Mapping[str, int]) -> None:
        self._table = table
        self._special_ids = special_ids

    def __missing__(self, pretoken: str) -> Sequence[int]:
        if pretoken in self._special_ids:
            found: Sequence[int] = (self._special_ids[pretoken],)
        else:
            byte_ids, rules, ranks = self._table
            found = tuple(merge_ids([byte_ids[byte] for byte in pretoken.encode()], ranks, rules))
        if len(pretoken) <= _CACHED_LENGTH:
            if len(self) >= _CACHED_PRETOKENS:
                self.clear()  # one step, where taking out some would trip over other threads
            self[pretoken] = found
        return found
