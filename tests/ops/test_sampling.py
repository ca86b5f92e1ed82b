"""The filters against a plain list program, and the draws against their distribution."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cs336_basics.contracts import ContractError
from cs336_basics.ops.sampling import keep_min_p, keep_top_k, keep_top_p, sample
from cs336_basics.ops.softmax import softmax
from tests.ops.numerics import DTYPES, assert_batches, assert_compiles, assert_gradients, assert_strides, mp, normal

dtypes = st.sampled_from(DTYPES)
rows = st.lists(st.floats(-20, 20, width=16), min_size=1, max_size=12)
tied_rows = st.lists(st.integers(-2, 2).map(float), min_size=1, max_size=12)


def kept(filtered: Tensor) -> list[int]:
    """The ids a filter left in a row."""
    return [i for i, value in enumerate(filtered.tolist()) if value != -math.inf]


def by_likelihood(logits: list[float]) -> list[int]:
    return sorted(range(len(logits)), key=lambda i: (-logits[i], i))


def probabilities(
    logits: list[float],
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> list[float]:
    """What `sample` draws from, as a plain program over lists in float64."""
    weights = [math.exp((x - max(logits)) / temperature) for x in logits]
    order = by_likelihood(logits)
    if top_k is not None:
        order = order[:top_k]
    if top_p is not None:
        total, some = sum(weights[i] for i in order), 0.0
        nucleus = []
        for i in order:
            if some < top_p * total:
                nucleus.append(i)
            some += weights[i]
        order = nucleus
    if min_p is not None:
        order = [i for i in order if weights[i] >= min_p * weights[order[0]]]
    total = sum(weights[i] for i in order)
    return [weights[i] / total if i in order else 0.0 for i in range(len(logits))]


@given(values=st.one_of(rows, tied_rows), k=st.integers(1, 14), dtype=dtypes)
@settings(deadline=None, max_examples=60)
def test_top_k_keeps_exactly_k_the_lower_id_of_equals(values: list[float], k: int, dtype: torch.dtype) -> None:
    logits = torch.tensor(values, dtype=dtype)
    filtered = keep_top_k(logits, k=k)
    assert filtered.dtype == dtype
    assert kept(filtered) == sorted(by_likelihood(logits.tolist())[:k])
    assert torch.equal(filtered[kept(filtered)], logits[kept(filtered)])
    assert torch.equal(keep_top_k(filtered, k=k), filtered)


@given(values=st.one_of(rows, tied_rows), p=st.floats(1e-6, 1 - 1e-6), dtype=dtypes)
@settings(deadline=None, max_examples=100)
def test_top_p_is_the_smallest_set_and_never_empty(values: list[float], p: float, dtype: torch.dtype) -> None:
    logits = torch.tensor(values, dtype=dtype)
    filtered = keep_top_p(logits, p=p)
    assert filtered.dtype == dtype
    ids = kept(filtered)
    assert ids
    assert sorted(by_likelihood(logits.tolist())[: len(ids)]) == ids
    chances = torch.softmax(logits.double(), 0)[ids]
    # Sums of up to twelve float32 probabilities, each within the budget of softmax: 2e-6 in all.
    slack = 32 * 2.0**-24
    assert chances.sum() >= p - slack
    assert chances.sum() - chances.min() < p + slack
    assert torch.equal(filtered[ids], logits[ids])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_top_p_stops_where_the_sum_is_exactly_p(n: int, dtype: torch.dtype) -> None:
    # n equal logits have probability 1/n without rounding: k of them reach k/n, and no more are needed.
    for k in range(1, n + 1):
        assert kept(keep_top_p(torch.zeros(n, dtype=dtype), p=k / n)) == list(range(k))
        assert kept(keep_top_p(torch.zeros(n, dtype=dtype), p=(k - 0.5) / n)) == list(range(k))


@given(values=st.one_of(rows, tied_rows), min_p=st.floats(0, 1), dtype=dtypes)
@settings(deadline=None, max_examples=60)
def test_min_p_keeps_what_is_likely_enough(values: list[float], min_p: float, dtype: torch.dtype) -> None:
    logits = torch.tensor(values, dtype=dtype)
    filtered = keep_min_p(logits, min_p=min_p)
    assert filtered.dtype == dtype
    ids = kept(filtered)
    assert logits.argmax().item() in ids
    for i, ratio in enumerate((logits.double() - logits.double().max()).exp().tolist()):
        # The logarithm of min_p is rounded, and so is its sum with a logit of at most 20.
        if abs(ratio - min_p) > 1e-5 * min_p:
            assert (i in ids) == (ratio >= min_p)
    assert torch.equal(filtered[ids], logits[ids])
    assert torch.equal(keep_min_p(filtered, min_p=min_p), filtered)


def test_min_p_keeps_equals_and_the_exact_ratio() -> None:
    assert kept(keep_min_p(torch.tensor([1.0, 2.0, 2.0]), min_p=1.0)) == [1, 2]
    assert kept(keep_min_p(torch.tensor([0.0, math.log(0.5)]), min_p=0.5)) == [0, 1]
    assert kept(keep_min_p(torch.tensor([0.0, math.log(0.5)]), min_p=0.5001)) == [0]


@given(values=rows.map(set).map(list), k=st.integers(1, 12), p=st.floats(0.01, 0.99), min_p=st.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_filters_compose(values: list[float], k: int, p: float, min_p: float) -> None:
    logits = torch.tensor(values, dtype=torch.float64)
    composed = keep_min_p(keep_top_p(keep_top_k(logits, k=k), p=p), min_p=min_p)
    expected = probabilities(values, top_k=k, top_p=p, min_p=min_p)
    torch.testing.assert_close(softmax(composed).tolist(), expected, rtol=1e-12, atol=1e-12)
    assert kept(composed)


def test_neutral_filters_keep_everything() -> None:
    logits = normal(3, 5)
    assert torch.equal(keep_top_k(logits, k=5), logits)
    assert torch.equal(keep_top_k(logits, k=99), logits)
    assert torch.equal(keep_top_p(logits, p=1), logits)
    assert torch.equal(keep_min_p(logits, min_p=0), logits)


DRAWS = 100_000
SIGNIFICANCE = 1e-3  # the seed is fixed, so this is decided once; a wrong distribution gives far less
LOGITS = [0.3, -1.2, 2.0, 1.9, 0.3, -0.5, 1.1, -2.0]


def chance_of(ids: Tensor, expected: list[float]) -> float:
    """Pearson's chi-square test: the chance of counts at least this far from what is expected."""
    counts = torch.bincount(ids, minlength=len(expected)).tolist()
    cells = [(n, p * ids.numel()) for n, p in zip(counts, expected, strict=True) if p > 0]
    assert sum(n for n, _ in cells) == ids.numel(), "an id was drawn that is left out"
    chi_square = sum((n - e) ** 2 / e for n, e in cells)
    return float(mp.gammainc((len(cells) - 1) / 2, chi_square / 2, regularized=True)) if len(cells) > 1 else 1.0


def draw(seed: int, *, dtype: torch.dtype = torch.float32, **options: Any) -> Tensor:
    logits = torch.tensor(LOGITS, dtype=dtype).expand(DRAWS, -1)
    return sample(logits, generator=torch.Generator().manual_seed(seed), **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 3.0},
        {"top_k": 3},
        {"top_p": 0.8},
        {"min_p": 0.15},
        {"temperature": 1.5, "top_k": 6, "top_p": 0.9, "min_p": 0.2},
        {"temperature": 0.7, "top_k": 4, "top_p": 0.99},
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_chi_square(options: dict[str, Any], dtype: torch.dtype) -> None:
    assert chance_of(draw(336, dtype=dtype, **options), probabilities(LOGITS, **options)) > SIGNIFICANCE


def test_chi_square_sees_a_temperature_wrong_by_a_twentieth() -> None:
    assert chance_of(draw(336, temperature=1.05), probabilities(LOGITS)) < 1e-9


def test_rows_are_drawn_independently() -> None:
    ids = draw(336).reshape(-1, 2)
    one = probabilities(LOGITS)
    assert chance_of(ids[:, 0] * len(one) + ids[:, 1], [a * b for a in one for b in one]) > SIGNIFICANCE


def test_temperature_comes_before_the_filters_and_top_k_before_top_p() -> None:
    # Squared, 0.6 and 0.4 are 0.69 and 0.31; of the first two of four, 0.4 is 0.57.
    assert sample(torch.tensor([0.6, 0.4]).log().expand(1000, 2), temperature=0.5, top_p=0.65).eq(0).all()
    assert sample(torch.tensor([0.4, 0.3, 0.2, 0.1]).log().expand(1000, 4), top_k=2, top_p=0.55).eq(0).all()


@given(values=st.lists(st.floats(-1e4, 1e4, width=16), min_size=1, max_size=12), dtype=dtypes)
@settings(deadline=None, max_examples=40)
def test_temperature_zero_is_argmax_and_so_is_its_limit(values: list[float], dtype: torch.dtype) -> None:
    logits = torch.tensor(values, dtype=dtype)
    best = logits.argmax().item()
    assert sample(logits, temperature=0).item() == best == logits.tolist().index(max(logits.tolist()))
    for temperature in (1e-12, 1e-38, 1e-46, 5e-324):
        drawn = sample(logits, temperature=temperature).item()
        assert logits[int(drawn)] == logits[int(best)]


def test_extreme_logits_do_not_overflow() -> None:
    for dtype in DTYPES:
        largest = torch.finfo(dtype).max
        logits = torch.tensor([-largest, largest, -math.inf], dtype=dtype)
        for temperature in (0.0, 5e-324, 1e-3, 1.0):
            assert sample(logits, temperature=temperature, top_k=2, top_p=0.9, min_p=0.1).item() == 1


def test_the_generator_is_the_only_source_of_chance() -> None:
    logits = normal(50, 9)
    generator = torch.Generator().manual_seed(1)
    state, world = generator.get_state(), torch.get_rng_state()
    first = sample(logits, generator=generator)
    assert not torch.equal(generator.get_state(), state)
    assert torch.equal(torch.get_rng_state(), world)
    assert torch.equal(sample(logits, generator=torch.Generator().manual_seed(1)), first)
    state = generator.get_state()
    sample(logits, generator=generator, temperature=0.0)
    assert torch.equal(generator.get_state(), state)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("batch", [(), (0,), (3,), (2, 3), (2, 0)])
def test_any_batch(batch: tuple[int, ...], temperature: float) -> None:
    ids = sample(normal(*batch, 5), temperature=temperature, top_k=4, top_p=0.9, min_p=0.01)
    assert ids.shape == batch
    assert ids.dtype == torch.int64


FILTERS: Any = [(keep_top_k, {"k": 2}), (keep_top_p, {"p": 0.7}), (keep_min_p, {"min_p": 0.3})]


@pytest.mark.parametrize(("fn", "options"), FILTERS)
def test_laws_of_filters(fn: Callable[..., Tensor], options: dict[str, Any]) -> None:
    logits = normal(2, 3, 5, seed=4)
    # Through exp, since the differences of -inf are no numbers.
    assert_gradients(lambda x: fn(x, **options).exp(), logits, second=True)
    assert_batches(fn, logits, **options)
    assert_strides(fn, logits, **options)
    assert_compiles(fn, logits, **options)


def test_laws_of_sample() -> None:
    logits = normal(2, 3, 5, seed=4)
    assert_batches(sample, logits, temperature=0.0)
    assert_strides(sample, logits, temperature=0.0)
    assert_compiles(sample, logits, temperature=0.0)
    options: dict[str, Any] = {"temperature": 0.5, "top_k": 4, "top_p": 0.9, "min_p": 0.01}

    def seeded(fn: Callable[..., Tensor]) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            return fn(logits.expand(100, 2, 3, 5), **options)

    torch._dynamo.reset()
    # Dynamo takes no generator as an argument: the global one is drawn from.
    assert torch.equal(seeded(torch.compile(sample, fullgraph=True, backend="eager")), seeded(sample))
    mapped = torch.func.vmap(lambda row: sample(row, **options), randomness="different")(logits)
    assert mapped.shape == (2, 3)


X = normal(2, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        *[
            (lambda fn=fn, x=x, o=options: fn(x, **o), f"^{fn.__name__}: {message}")
            for fn, options in [*FILTERS, (sample, {}), (sample, {"temperature": 0.0})]
            for x, message in [
                (torch.arange(3), r"logits must be Float.*int64\(3,\)$"),
                (torch.tensor(1.0), r"logits must be .*'\*batch vocab'.*float32\(\)$"),
                (torch.zeros(2, 0), r"logits must hold at least one token$"),
            ]
        ],
        (lambda: keep_top_k(X, k=0), r"^keep_top_k: k must be at least 1, got 0$"),
        (lambda: keep_top_k(X, k=1.5), r"^keep_top_k: k must be int.*float 1.5$"),  # type: ignore[arg-type]  # the bad input
        (lambda: keep_top_p(X, p=0), r"^keep_top_p: p must be in \(0, 1\], got 0$"),
        (lambda: keep_top_p(X, p=1.01), r"^keep_top_p: p must be in \(0, 1\], got 1.01$"),
        (lambda: keep_top_p(X, p=math.nan), r"^keep_top_p: p must be in \(0, 1\], got nan$"),
        (lambda: keep_min_p(X, min_p=-0.1), r"^keep_min_p: min_p must be in \[0, 1\], got -0.1$"),
        (lambda: keep_min_p(X, min_p=2), r"^keep_min_p: min_p must be in \[0, 1\], got 2$"),
        (lambda: keep_min_p(X, min_p=math.nan), r"^keep_min_p: min_p must be in \[0, 1\], got nan$"),
        (lambda: sample(X, temperature=-1.0), r"^sample: temperature must be at least 0 and finite, got -1.0$"),
        (lambda: sample(X, temperature=math.inf), r"^sample: temperature must be at least 0 and finite, got inf$"),
        (lambda: sample(X, temperature=math.nan), r"^sample: temperature must be at least 0 and finite, got nan$"),
        (lambda: sample(X, top_k=0), r"^keep_top_k: k must be at least 1, got 0$"),
        (lambda: sample(X, top_p=0.0), r"^keep_top_p: p must be in \(0, 1\], got 0.0$"),
        (lambda: sample(X, min_p=1.5), r"^keep_min_p: min_p must be in \[0, 1\], got 1.5$"),
        (lambda: sample(X, generator=1), r"^sample: generator must be .*Generator.*int 1$"),  # type: ignore[arg-type]  # the bad input
        (lambda: sample(X * math.nan), r"^sample: logits must have a finite largest entry in every row"),
        (lambda: sample(X - math.inf), r"^sample: logits must have a finite largest entry in every row"),
        (lambda: sample(torch.tensor([0.0, math.inf])), r"^sample: logits must have a finite largest entry"),
    ],
)
def test_refusals(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        call()
