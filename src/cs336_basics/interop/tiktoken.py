"""A tokenizer trained here, as tiktoken's encoding, and the other way round."""

from cs336_basics.tokenizer import Tokenizer, TokenizerError
from cs336_basics.tokenizer.merge import merge_ids
from cs336_basics.tokenizer.pretokenize import GPT2_PATTERN

try:
    import tiktoken
except ImportError as error:
    raise ImportError("cs336_basics.interop.tiktoken needs tiktoken: pip install 'cs336-basics[interop]'") from error


def to_tiktoken(tokenizer: Tokenizer, *, name: str = "cs336") -> tiktoken.Encoding:
    """The same tokenizer as a tiktoken.Encoding: `encode(text, allowed_special="all")` gives the same ids.

    tiktoken merges the pair whose result has the lowest rank, so ids must grow with merges, as those of
    `train_bpe` do.

    Raises: TokenizerError where the ids of merged tokens do not stand in the order of the merges.
    """
    specials = {token: tokenizer.special_id(token) for token in tokenizer.special_tokens}
    ids = {token: index for index, token in tokenizer.vocab.items()}
    merged = [ids[left + right] for left, right in tokenizer.merges]
    if merged != sorted(merged):
        raise TokenizerError("to_tiktoken: tokenizer must have ids in the order of its merges; tiktoken has no other")
    ranks = {token: index for token, index in ids.items() if index not in specials.values()}
    return tiktoken.Encoding(name, pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens=specials)


def from_tiktoken(encoding: tiktoken.Encoding) -> Tokenizer:
    """A tokenizer with the ids of a tiktoken encoding that uses GPT-2's pattern.

    tiktoken keeps no merges: that of a token are the last two parts it is built from by lower ranks.

    Raises: TokenizerError for another pattern, or where a token is no merge of two earlier ones.
    """
    if encoding._pat_str != GPT2_PATTERN and not _same_language(encoding._pat_str):
        raise TokenizerError(f"from_tiktoken: encoding must use GPT-2's pattern, got {encoding._pat_str!r}")
    ranks = encoding._mergeable_ranks
    by_rank = sorted(ranks, key=ranks.__getitem__)
    merges: list[tuple[bytes, bytes]] = []
    rules: list[tuple[int, int, int]] = []
    order: dict[tuple[int, int], int] = {}
    for token in by_rank:
        if len(token) == 1:
            continue
        parts = merge_ids([ranks[bytes([byte])] for byte in token], order, rules)
        if len(parts) != 2:
            raise TokenizerError(
                f"from_tiktoken: {token!r} must be a merge of two earlier tokens, got {len(parts)} parts"
            )
        left, right = (encoding.decode_single_token_bytes(part) for part in parts)
        order[parts[0], parts[1]] = len(rules)
        rules.append((parts[0], parts[1], ranks[token]))
        merges.append((left, right))
    vocab = {index: token for token, index in ranks.items()}
    vocab |= {index: token.encode() for token, index in encoding._special_tokens.items()}
    return Tokenizer(vocab, merges, sorted(encoding._special_tokens, key=encoding._special_tokens.__getitem__))


def _same_language(pattern: str) -> bool:
    """GPT-2's pattern as tiktoken writes it: possessive, and with the contractions in another order."""
    return pattern == r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
