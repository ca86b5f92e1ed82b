"""The sampler: pure, uniform with replacement, a permutation without; the oracle is a naive grid of windows."""

import itertools
import math
import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.contracts import ContractError
from cs336_basics.data.errors import DataError
from cs336_basics.data.sampler import sample_starts


def sample(n_tokens: Any = 1000, **options: Any) -> list[int]:
    defaults: dict[str, Any] = {"seed": 0, "step": 0, "batch_size": 8, "context_length": 16}
    return [int(start) for start in sample_starts(n_tokens, **(defaults | options))]


def orders(n_windows: int, n_epochs: int, *, seed: int = 0) -> np.ndarray:
    """The order in which each epoch visits its windows: with a context of 1, starts are window numbers."""
    starts = sample_starts(
        n_windows + 1, seed=seed, step=0, batch_size=n_windows * n_epochs, context_length=1, replacement=False
    )
    return starts.reshape(n_epochs, n_windows)


def surprise(counts: np.ndarray) -> float:
    """How many standard deviations chi-square stands above its mean when all cells are equally likely."""
    expected = counts.sum() / counts.size
    assert expected >= 5
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    return (chi_square - (counts.size - 1)) / math.sqrt(2 * (counts.size - 1))


# Purity

GOLDEN: list[tuple[dict[str, Any], list[int]]] = [
    ({}, [35, 122, 249, 300, 795, 717, 23, 108]),
    ({"seed": 1, "step": 2}, [505, 346, 915, 794, 355, 712, 501, 642]),
    ({"seed": 2**64 - 1, "step": 2**64 - 1}, [550, 24, 521, 885, 598, 966, 232, 892]),
    (
        {"n_tokens": 10**15, "step": 123456, "context_length": 1024},
        [
            371619564002581,
            395669605946004,
            644549262490653,
            761455551377933,
            394861041629570,
            931630308047469,
            953508552896636,
            600752703802110,
        ],
    ),
    ({"replacement": False}, [881, 161, 129, 769, 705, 17, 945, 49]),
    ({"seed": 1, "step": 2, "replacement": False}, [713, 25, 185, 57, 377, 233, 585, 937]),
    ({"step": 7, "replacement": False}, [497, 321, 417, 65, 305, 145, 787, 931]),
    ({"seed": 2**64 - 1, "step": 2**64 - 1, "replacement": False}, [47, 175, 863, 607, 171, 43, 411, 379]),
    (
        {"n_tokens": 10**15, "step": 123456, "context_length": 1024, "replacement": False},
        [
            67412145501841,
            683776116585105,
            556721062096529,
            572625476867729,
            817599777424017,
            665572942176913,
            655031546303121,
            827670256643729,
        ],
    ),
    ({"n_tokens": 40, "context_length": 8, "replacement": False}, [1, 25, 9, 17, 19, 27, 3, 11]),
]


@pytest.mark.parametrize(("options", "starts"), GOLDEN)
def test_golden_values(options: dict[str, Any], starts: list[int]) -> None:
    assert sample(**options) == starts


def test_another_process_draws_the_same() -> None:
    code = (
        "from cs336_basics.data.sampler import sample_starts as s;"
        "print([s(9999, seed=5, step=t, batch_size=7, context_length=9, replacement=r).tolist()"
        " for t in (0, 3, 10**12) for r in (True, False)])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = [
        sample(9999, seed=5, step=step, batch_size=7, context_length=9, replacement=replacement)
        for step in (0, 3, 10**12)
        for replacement in (True, False)
    ]
    assert run.stdout == f"{here}\n"


@pytest.mark.parametrize("replacement", [True, False])
def test_the_past_and_the_global_generator_do_not_matter(replacement: bool) -> None:
    unbroken = [sample(step=step, replacement=replacement) for step in range(50)]
    np.random.seed(1)
    assert [sample(step=step, replacement=replacement) for step in reversed(range(50))] == unbroken[::-1]


@given(n_tokens=st.integers(40, 10_000), seed=st.integers(0, 2**64 - 1), step=st.integers(0, 2**60))
@settings(deadline=None, max_examples=100)
def test_seeds_and_steps_differ(n_tokens: int, seed: int, step: int) -> None:
    for replacement in (True, False):
        here = sample(n_tokens, seed=seed, step=step, batch_size=64, context_length=2, replacement=replacement)
        for other in ({"seed": (seed + 1) % 2**64, "step": step}, {"seed": seed, "step": step + 1}):
            assert here != sample(n_tokens, **other, batch_size=64, context_length=2, replacement=replacement)


# With replacement


@pytest.mark.parametrize("n_starts", [2, 7, 64, 1000])
def test_with_replacement_every_start_is_equally_likely(n_starts: int) -> None:
    starts = [sample(n_starts + 15, step=step, batch_size=100, context_length=15) for step in range(1000)]
    counts = np.bincount(np.ravel(starts), minlength=n_starts)
    assert counts.size == n_starts
    assert abs(surprise(counts)) < 4


def test_with_replacement_draws_do_not_depend_on_one_another() -> None:
    starts = np.array([sample(31, step=step, batch_size=20, context_length=16) for step in range(2001)])
    assert starts.max() == 14
    for first, second in [
        (starts[:, :-1], starts[:, 1:]),  # neighbours in a batch
        (starts[:-1], starts[1:]),  # the same row of neighbouring steps
    ]:
        assert abs(surprise(np.bincount((first * 15 + second).ravel(), minlength=225))) < 4


# Without replacement


@given(
    n_tokens=st.integers(2, 300),
    context_length=st.integers(1, 40),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 2**40),
)
@settings(deadline=None, max_examples=200)
def test_an_epoch_visits_a_grid_of_windows_once(n_tokens: int, context_length: int, seed: int, epoch: int) -> None:
    context_length = min(context_length, n_tokens - 1)
    last = n_tokens - context_length - 1
    n_windows = (n_tokens - 1) // context_length
    starts = sample(
        n_tokens, seed=seed, step=epoch, batch_size=n_windows, context_length=context_length, replacement=False
    )
    grids = [[min(offset + k * context_length, last) for k in range(n_windows)] for offset in range(context_length)]
    assert sorted(starts) in grids
    assert len(set(starts)) == n_windows


SIZES = sorted(
    {*range(1, 200), *range(200, 5000, 97), *(side * side + d for side in range(3, 71) for d in (-1, 0, 1)), 5000}
)


@pytest.mark.parametrize("seed", [0, 2**64 - 1])
def test_the_order_is_a_permutation_for_many_sizes(seed: int) -> None:
    for size in SIZES:
        for order in orders(size, 3, seed=seed):
            assert np.array_equal(np.sort(order), np.arange(size)), size


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6])
def test_every_order_of_a_few_windows_is_equally_likely(size: int) -> None:
    found = orders(size, 200 * math.factorial(size))
    number = {order: i for i, order in enumerate(itertools.permutations(range(size)))}
    counts = np.bincount([number[tuple(order)] for order in found.tolist()], minlength=len(number))
    assert abs(surprise(counts)) < 4


@pytest.mark.parametrize("size", [7, 16, 17, 36])
def test_every_pair_of_windows_is_equally_likely_at_the_front(size: int) -> None:
    found = orders(size, 8 * size * size)
    for place in (0, size // 2, size - 1):
        assert abs(surprise(np.bincount(found[:, place], minlength=size))) < 4
    pairs = np.bincount(found[:, 0] * size + found[:, 1], minlength=size * size)
    assert abs(surprise(np.delete(pairs, np.arange(size) * (size + 1)))) < 4  # a window never follows itself


def test_seeds_and_epochs_order_the_windows_differently() -> None:
    found = np.concatenate([orders(100, 20, seed=seed) for seed in range(20)])
    assert len({tuple(order) for order in found.tolist()}) == 400
    # Two random orders agree at one place in all, on average.
    agreements = [(a == b).sum() for a, b in itertools.combinations(found, 2)]
    assert 0.95 < np.mean(agreements) < 1.05


def test_every_start_is_seen_as_epochs_go_by() -> None:
    n_tokens, context_length = 50, 8
    n_windows = (n_tokens - 1) // context_length
    starts = sample(n_tokens, batch_size=n_windows * 4000, context_length=context_length, replacement=False)
    counts = np.bincount(starts, minlength=n_tokens - context_length)
    assert counts.size == n_tokens - context_length
    # The offset is uniform, so each start of the first windows begins one in context_length epochs.
    first = counts[: (n_windows - 1) * context_length]
    assert first.min() > 400
    assert abs(surprise(first[:context_length])) < 4


@given(
    n_tokens=st.integers(2, 200),
    context_length=st.integers(1, 12),
    batch_size=st.integers(1, 50),
    step=st.integers(0, 10**6),
)
@settings(deadline=None, max_examples=100)
def test_batches_cut_one_endless_order(n_tokens: int, context_length: int, batch_size: int, step: int) -> None:
    """The last partial batch of an epoch flows on into the next, and the batch size changes no order."""
    options: dict[str, Any] = {"context_length": min(context_length, n_tokens - 1), "replacement": False}
    batch = sample(n_tokens, step=step, batch_size=batch_size, **options)
    singles = [sample(n_tokens, step=step * batch_size + i, batch_size=1, **options) for i in range(batch_size)]
    assert batch == list(itertools.chain.from_iterable(singles))


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize("step", [0, 10**12, 2**64 - 1])
def test_a_huge_corpus_takes_no_memory(replacement: bool, step: int) -> None:
    options: dict[str, Any] = {"seed": 2**64 - 1, "step": step, "context_length": 1024, "replacement": replacement}
    sample(10**15, **options)  # what is imported at a first call is not the sampler's
    tracemalloc.start()
    starts = sample(10**15, batch_size=512, **options)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300_000
    assert len(set(starts)) == 512
    assert min(starts) >= 0
    assert 0.9e15 < max(starts) < 10**15 - 1024


def test_the_shortest_corpus_has_one_window() -> None:
    for replacement in (True, False):
        assert sample(17, replacement=replacement) == [0] * 8
        assert sample(2, context_length=1, replacement=replacement) == [0] * 8


# Bad input


@pytest.mark.parametrize("replacement", [True, False])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_tokens": 16}, r"dataset must hold at least context_length \+ 1 = 17 tokens, got 16; lower context_len"),
        ({"n_tokens": 0}, r"dataset must hold at least context_length \+ 1 = 17 tokens, got 0"),
        ({"batch_size": 0}, "batch_size must be 1 or more, got 0"),
        ({"context_length": 0}, "context_length must be 1 or more, got 0"),
        ({"seed": -1}, r"seed must lie in 0 to 2\^64 - 1, got -1"),
        ({"seed": 2**64}, r"seed must lie in 0 to 2\^64 - 1, got 18446744073709551616"),
        ({"step": -1}, r"step must lie in 0 to 2\^64 - 1, got -1"),
        ({"step": 2**64}, r"step must lie in 0 to 2\^64 - 1, got 18446744073709551616"),
    ],
)
def test_bad_values_are_named(options: dict[str, Any], message: str, replacement: bool) -> None:
    with pytest.raises(DataError, match=f"^sample_starts: {message}"):
        sample(**options, replacement=replacement)


@pytest.mark.parametrize("name", ["n_tokens", "seed", "step", "batch_size", "context_length", "replacement"])
def test_wrong_types_are_named(name: str) -> None:
    with pytest.raises(ContractError, match=rf"^sample_starts: {name} must be (int|bool).*, got str '1'"):
        sample(**{name: "1"})
