"""Merging one pre-token: the definition, and time that never explodes."""

import random
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.tokenizer import Tokenizer
from cs336_basics.tokenizer.encode import merge_table
from cs336_basics.tokenizer.merge import merge_ids
from cs336_basics.tokenizer.pretokenize import Pretokenizer

MEGABYTE = 1_000_000


def naive_merge(parts: list[bytes], merges: list[tuple[bytes, bytes]]) -> list[bytes]:
    """GPT-2's loop: find the pair of the lowest rank, merge it everywhere from left to right, begin again."""
    while known := [pair for pair in pairwise(parts) if pair in merges]:
        best = min(known, key=merges.index)
        merged: list[bytes] = []
        while parts:
            if tuple(parts[:2]) == best:
                merged.append(b"".join(best))
                parts = parts[2:]
            else:
                merged.append(parts[0])
                parts = parts[1:]
        parts = merged
    return parts


@st.composite
def merge_lists(draw: st.DrawFn) -> list[tuple[bytes, bytes]]:
    """Any merges whose parts exist by then, in any order, so one token may come about in several ways."""
    tokens = [b"a", b"b", b"c"]
    merges: list[tuple[bytes, bytes]] = []
    for _ in range(draw(st.integers(0, 12))):
        pair = draw(st.tuples(st.sampled_from(tokens), st.sampled_from(tokens)))
        if pair not in merges and len(b"".join(pair)) <= 6:
            merges.append(pair)
            tokens.append(b"".join(pair))
    return draw(st.permutations(merges))


@given(merge_lists(), st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=24))
@settings(deadline=None, max_examples=200)
def test_merge_ids_is_the_definition(merges: list[tuple[bytes, bytes]], parts: list[bytes]) -> None:
    ids: dict[bytes, int] = {}
    for token in [b"a", b"b", b"c", *(left + right for left, right in merges)]:
        ids.setdefault(token, len(ids))
    rules = [(ids[left], ids[right], ids[left + right]) for left, right in merges]
    ranks = {(left, right): rank for rank, (left, right, _) in enumerate(rules)}
    found = merge_ids([ids[part] for part in parts], ranks, rules)
    assert found == [ids[token] for token in naive_merge(parts, merges)]


def test_a_rule_is_applied_everywhere_before_a_lower_rank_it_makes_possible() -> None:
    """`abc` comes about at rank 1 and then fits rank 0; at the second place rank 1 still goes first."""
    merges = [(b"abc", b"ab"), (b"ab", b"c"), (b"a", b"b")]
    parts = [bytes([byte]) for byte in b"abcabc"]
    assert naive_merge(parts, merges) == [b"abc", b"abc"]
    tokenizer = Tokenizer({**{b: bytes([b]) for b in range(256)}, 256: b"ab", 257: b"abc", 258: b"abcab"}, merges)
    assert tokenizer.encode("abcabc") == [257, 257]


def _random_letters(alphabet: Callable[[random.Random], str], size: int) -> str:
    rng = random.Random(0)
    return "".join(alphabet(rng) for _ in range(size))


HOSTILE: dict[str, Callable[[int], str]] = {
    "one letter": lambda size: "a" * size,
    "spaces": lambda size: " " * size,
    "newlines, then a letter": lambda size: "\n" * size + "a",
    "random letters": lambda size: _random_letters(lambda rng: chr(rng.randint(97, 122)), size),
    "random CJK": lambda size: _random_letters(lambda rng: chr(rng.randint(0x4E00, 0x9FFF)), size // 3),
    "combining marks": lambda size: "e" + "\u0301" * (size // 2),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_megabyte_is_encoded_and_counted_in_seconds(kind: str, small: Tokenizer) -> None:
    """0.2 to 1 s each; a scan of the whole word for each merge would take hours."""
    text = HOSTILE[kind](MEGABYTE)
    start = time.process_time()
    ids = small.encode(text)
    counts = Counter(pretoken for part in Pretokenizer().stream([text]) for pretoken in part)
    assert time.process_time() - start < 10
    assert small.decode(ids) == text
    assert sum(len(pretoken) * count for pretoken, count in counts.items()) == len(text)


class Counting(dict[tuple[int, int], int]):
    """Ranks that count how often they are asked for."""

    asked = 0

    def get(self, pair: tuple[int, int]) -> int | None:  # type: ignore[override]  # as merge_ids calls it
        self.asked += 1
        return super().get(pair)


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_steps_grow_as_the_text_does(kind: str, small: Tokenizer) -> None:
    """Steps, not seconds: each byte is looked up once, and each merge looks up two pairs and takes a byte away."""
    ids = {token: index for index, token in small.vocab.items()}
    _, rules, ranks = merge_table(ids, small.merges)
    for size in (1000, 16_000):
        counting = Counting(ranks)
        row = list(HOSTILE[kind](size).encode())
        merged = merge_ids(row, counting, rules)
        assert counting.asked <= len(row) - 1 + 2 * (len(row) - len(merged))
