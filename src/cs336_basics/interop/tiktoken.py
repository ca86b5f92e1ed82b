"""A tokenizer trained here, as tiktoken's encoding, and the other way round."""

from collections.abc import Mapping
from itertools import pairwise

from cs336_basics.tokenizer import Tokenizer, TokenizerError
from cs336_basics.tokenizer.merge import merge_ids
from cs336_basics.tokenizer.pretokenize import GPT2_PATTERN

try:
    import tiktoken
except ImportError as error:
    raise ImportError("cs336_basics.interop.tiktoken needs tiktoken: pip install 'cs336-basics[interop]'") from error


def to_tiktoken(tokenizer: Tokenizer, *, name: str = "cs336") -> tiktoken.Encoding:
    """The same tokenizer as a tiktoken.Encoding: `encode(text, allowed_special="all")` gives the same ids.

    tiktoken knows no pairs: it merges whichever two neighbours make the token of the lowest id. That is the same
    where ids grow with the merges and each token is reached by one merge, which the merges before it lead up to,
    as those of `train_bpe` are.

    Raises: TokenizerError where the ids of merged tokens do not stand in the order of the merges, and naming a token
        that tiktoken would reach by other pairs: one of no merge, of two, or of one that its own bytes do not take.
    """
    specials = {token: tokenizer.special_id(token) for token in tokenizer.special_tokens}
    ids = {token: index for index, token in tokenizer.vocab.items()}
    merged = [left + right for left, right in tokenizer.merges]
    if any(ids[first] > ids[second] for first, second in pairwise(merged)):
        raise TokenizerError("to_tiktoken: tokenizer must have ids in the order of its merges; tiktoken has no other")
    seen: set[bytes] = set()
    path = _Path(ids)
    for (left, right), token in zip(tokenizer.merges, merged, strict=True):
        if token in seen:
            raise TokenizerError(f"to_tiktoken: {token!r} must come of one merge, got another, {left!r} + {right!r}")
        parts = path.parts(token)
        if parts != [ids[left], ids[right]]:
            taken = " + ".join(repr(tokenizer.vocab[part]) for part in parts)
            raise TokenizerError(
                f"to_tiktoken: {token!r} must be reached by its merge, {left!r} + {right!r}, but those before it make "
                f"{taken} of its bytes; tiktoken would still merge it"
            )
        seen.add(token)
        path.add(parts, ids[token])
    ranks = {token: index for token, index in ids.items() if len(token) == 1 or token in seen}
    for token, index in ids.items():
        if token not in ranks and index not in specials.values():
            raise TokenizerError(f"to_tiktoken: {token!r} must come of a merge, got none; tiktoken would make one up")
    return tiktoken.Encoding(name, pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens=specials)


def from_tiktoken(encoding: tiktoken.Encoding) -> Tokenizer:
    """A tokenizer with the ids of a tiktoken encoding that uses GPT-2's pattern.

    tiktoken keeps no merges: that of a token are the last two parts it is built from by lower ranks.

    Raises: TokenizerError for another pattern, a single byte that is missing, or where a token is no merge of two
        earlier ones.
    """
    if encoding._pat_str != GPT2_PATTERN and not _same_language(encoding._pat_str):
        raise TokenizerError(f"from_tiktoken: encoding must use GPT-2's pattern, got {encoding._pat_str!r}")
    ranks = encoding._mergeable_ranks
    for byte in range(256):
        if bytes([byte]) not in ranks:
            raise TokenizerError(
                f"from_tiktoken: encoding must have all 256 single bytes as tokens, {bytes([byte])!r} is missing"
            )
    vocab = {index: token for token, index in ranks.items()}
    merges: list[tuple[bytes, bytes]] = []
    path = _Path(ranks)
    for token in sorted((token for token in ranks if len(token) > 1), key=ranks.__getitem__):
        parts = path.parts(token)
        if len(parts) != 2:
            raise TokenizerError(
                f"from_tiktoken: {token!r} must be a merge of two earlier tokens, got {len(parts)} parts"
            )
        merges.append((vocab[parts[0]], vocab[parts[1]]))
        path.add(parts, ranks[token])
    vocab |= {index: token.encode() for token, index in encoding._special_tokens.items()}
    return Tokenizer(vocab, merges, sorted(encoding._special_tokens, key=encoding._special_tokens.__getitem__))


class _Path:
    """What the merges so far make of the bytes of a token."""

    def __init__(self, ids: Mapping[bytes, int]) -> None:
        self._byte_ids = [ids[bytes([byte])] for byte in range(256)]
        self._rules: list[tuple[int, int, int]] = []
        self._ranks: dict[tuple[int, int], int] = {}

    def parts(self, token: bytes) -> list[int]:
        return merge_ids([self._byte_ids[byte] for byte in token], self._ranks, self._rules)

    def add(self, pair: list[int], merged: int) -> None:
        left, right = pair
        self._ranks[left, right] = len(self._rules)
        self._rules.append((left, right, merged))


def _same_language(pattern: str) -> bool:
    """GPT-2's pattern as tiktoken writes it: possessive, and with the contractions in another order."""
    return pattern == r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
