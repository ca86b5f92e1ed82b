"""Both ways to merge a pre-token are the readable one, for any rules, and take the time that they should."""

import random
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from cs336_basics.tokenizer.fast.long_merging import merge_long, new_places, new_ranks
from cs336_basics.tokenizer.fast.merging import SHORT, Rules, merge_short, rank_of
from cs336_basics.tokenizer.merge import merge_ids

Rule = tuple[int, int, int]


# Python cannot call the two; and what is kept on disk would not notice a change.
@njit(cache=False)
def call_rank_of(rules: int, table: int, shift: int, left: int, right: int) -> int:
    return rank_of(rules, table, shift, left, right)


@njit(cache=False)
def call_merge_short(
    rules: int, table: int, shift: int, byte_ids: int, scratch: int, address: int, n_bytes: int, id_bytes: int, out: int
) -> int:
    return merge_short(rules, table, shift, byte_ids, scratch, address, n_bytes, id_bytes, out)


def short(rules: Rules, pretoken: bytes, id_bytes: int = 4) -> list[int]:
    """The ids that `merge_short` writes, if byte i has id i."""
    text = np.frombuffer(pretoken, np.uint8)
    byte_ids = np.arange(256, dtype=np.int32)
    scratch = np.empty(2 * SHORT, np.int32)
    out = np.empty(SHORT, np.uint16 if id_bytes == 2 else np.uint32)
    tables = rules.rules.ctypes.data, rules.table.ctypes.data, rules.shift
    memory = byte_ids.ctypes.data, scratch.ctypes.data
    stop = call_merge_short(*tables, *memory, text.ctypes.data, len(text), id_bytes, out.ctypes.data)
    found: list[int] = out[: (stop - out.ctypes.data) // id_bytes].tolist()
    return found


def long(rules: Rules, pretoken: bytes) -> list[int]:
    """The ids that `merge_long` leaves, if byte i has id i."""
    ids = np.frombuffer(pretoken, np.uint8).astype(np.int32)
    places, ranks = new_places(len(ids)), new_ranks(rules)
    tables = rules.rules.ctypes.data, rules.table.ctypes.data, rules.shift
    n_ids = merge_long(*tables, ranks.ctypes.data, rules.n_rules, places.ctypes.data, ids.ctypes.data, len(ids))
    lists = slice(0, 2 * rules.n_rules, 2)  # the first place of each: none, once all is done
    assert (ranks[lists] == new_ranks(rules)[lists]).all()
    left: list[int] = ids[:n_ids].tolist()
    return left


def readable(rules: Sequence[Rule], pretoken: bytes) -> list[int]:
    ranks = {(left, right): rank for rank, (left, right, _) in enumerate(rules)}
    return merge_ids(list(pretoken), ranks, rules)


@st.composite
def rule_lists(draw: st.DrawFn, *, in_order: bool) -> list[Rule]:
    """Rules over the bytes a and b; a token may come about in several ways, ids are in no order."""
    tokens = [b"a", b"b"]
    pairs: list[tuple[bytes, bytes]] = []
    for _ in range(draw(st.integers(0, 14))):
        pair = draw(st.tuples(st.sampled_from(tokens), st.sampled_from(tokens)))
        if pair not in pairs and len(b"".join(pair)) <= 9 and not (in_order and b"".join(pair) in tokens):
            pairs.append(pair)
            tokens.append(b"".join(pair))
    if not in_order:
        pairs = draw(st.permutations(pairs))
    made = list(dict.fromkeys(left + right for left, right in pairs))
    numbers = draw(st.permutations(range(256, 256 + len(made))))
    ids = {b"a": ord("a"), b"b": ord("b"), **dict(zip(made, numbers, strict=True))}
    return [(ids[left], ids[right], ids[left + right]) for left, right in pairs]


@given(rule_lists(in_order=True), st.lists(st.sampled_from(b"ab"), min_size=1, max_size=SHORT).map(bytes))
@settings(deadline=None, max_examples=400)
def test_rules_in_order(given_rules: list[Rule], pretoken: bytes) -> None:
    rules = Rules(given_rules)
    assert rules.in_order
    expected = readable(given_rules, pretoken)
    assert short(rules, pretoken) == short(rules, pretoken, 2) == long(rules, pretoken) == expected


@given(rule_lists(in_order=False), st.lists(st.sampled_from(b"ab"), min_size=1, max_size=200).map(bytes))
@settings(deadline=None, max_examples=400)
def test_rules_in_any_order(given_rules: list[Rule], pretoken: bytes) -> None:
    assert long(Rules(given_rules), pretoken) == readable(given_rules, pretoken)


def test_a_rule_is_applied_everywhere_before_a_lower_rank_it_makes_possible() -> None:
    """One rule at a time, the lowest first, is something else: [258, 98] here."""
    rules = [(257, 97, 258), (97, 98, 257)]
    assert not Rules(rules).in_order
    assert long(Rules(rules), b"abab") == readable(rules, b"abab") == [257, 257]
    again = [(97, 97, 257), (257, 98, 258), (97, 257, 258)]  # one token in two ways
    assert not Rules([again[1], again[2], again[0]]).in_order


def test_ranks_of_many_rules() -> None:
    """A table with every kind of collision: each rule is found, and no other pair."""
    choose = random.Random(2)
    pairs = list({(choose.randrange(1 << 16), choose.randrange(1 << 30)) for _ in range(50_000)})
    rules = Rules([(left, right, rank) for rank, (left, right) in enumerate(pairs)])
    tables = rules.rules.ctypes.data, rules.table.ctypes.data, rules.shift
    assert [call_rank_of(*tables, *pair) for pair in pairs[::7]] == list(range(0, len(pairs), 7))
    known = set(pairs)
    for left, right in pairs[::50]:
        for pair in ((left, right + 1), (left + 1, right), (right, left)):
            assert (call_rank_of(*tables, *pair) == -1) == (pair not in known)


@pytest.mark.parametrize("n_ids", [1, 2, 63, 64])
def test_pretokens_of_one_letter(n_ids: int) -> None:
    rules = [(97, 97, 256), (256, 256, 257), (257, 257, 258), (258, 258, 259)]
    expected = readable(rules, b"a" * n_ids)
    assert short(Rules(rules), b"a" * n_ids) == long(Rules(rules), b"a" * n_ids) == expected


def test_time_grows_with_length_and_no_faster() -> None:
    """Random letters under all merges of two and of four: 2 MB take little more than four times what 500 kB take."""
    letters = bytes(range(97, 113))
    pairs = [(left, right, 1000 + 16 * left + right) for left in letters for right in letters]
    made = [merged for _, _, merged in pairs]
    choose = random.Random(1)
    fours = [(*choose.choices(made, k=2), 0) for _ in range(10_000)]
    rules = Rules(pairs + [(left, right, 10_000 + n) for n, (left, right, _) in enumerate(dict.fromkeys(fours))])

    def seconds(n_bytes: int) -> float:
        pretoken = bytes(choose.choices(letters, k=n_bytes))
        start = time.process_time()
        long(rules, pretoken)
        return time.process_time() - start

    seconds(1000)
    assert seconds(2_000_000) < 12 * max(seconds(500_000), 0.05)
