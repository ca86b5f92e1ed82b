"""rope as a product of complex numbers, the group law of turns, and tables exact at far positions."""

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cs336_basics.contracts import ContractError
from cs336_basics.ops.rope import rope, rope_tables
from tests.ops.numerics import (
    DTYPES,
    INT_DTYPES,
    assert_batches,
    assert_compiles,
    assert_gradients,
    assert_strides,
    exact,
    mp,
    normal,
)

FAR = 131_071
D_K = 8
places = st.integers(0, FAR // 2)


@functools.cache
def tables(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Made once: they reach to FAR."""
    return rope_tables(FAR + 1, D_K, dtype=dtype)


def turn(x: Tensor, *positions: int) -> Tensor:
    return rope(x, *tables(), torch.tensor(positions))


@pytest.mark.parametrize("theta", [10_000.0, 500_000.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d_k", [2, 64])
def test_tables_are_exact_at_far_positions(dtype: torch.dtype, theta: float, d_k: int) -> None:
    cos, sin = rope_tables(FAR + 1, d_k, theta=theta, dtype=dtype)
    assert cos.shape == sin.shape == (FAR + 1, d_k // 2)
    assert cos.dtype == sin.dtype == dtype
    for position in (0, 1, 2047, 65_536, FAR):
        for pair in range(d_k // 2):
            angle = position * mp.mpf(theta) ** (mp.mpf(-2 * pair) / d_k)
            # The frequency and its product with the position are rounded in float64, to two ULPs of the angle at most.
            # In a float32 table that is nothing beside half an ULP (2^-25 below 1) of the entry itself.
            bound = 2 * angle * 2.0**-52 + torch.finfo(dtype).eps / 2 * (0.501 if dtype == torch.float32 else 1)
            assert abs(exact(cos[position, pair])[0] - mp.cos(angle)) <= bound
            assert abs(exact(sin[position, pair])[0] - mp.sin(angle)) <= bound


@pytest.mark.parametrize("dtype", DTYPES)
def test_turns_interleaved_pairs_like_complex_numbers(dtype: torch.dtype) -> None:
    x, positions = normal(3, 5, D_K, dtype=dtype), torch.tensor([0, 1, 7, 1000, FAR])
    turned = rope(x, *tables(torch.float64 if dtype == torch.float64 else torch.float32), positions)
    assert turned.dtype == dtype
    angles = torch.outer(positions.double(), 10_000.0 ** -(torch.arange(0, D_K, 2).double() / D_K))
    pairs = torch.view_as_complex(x.double().reshape(3, 5, D_K // 2, 2))
    truth = torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)
    # Two products, a sum, and float32 angles: two ULPs of the pair's length (for float64, of far angles, 4e-11).
    length = pairs.abs().repeat_interleave(2, dim=-1)
    bound = length * (2 * torch.finfo(dtype).eps + (4e-11 if dtype == torch.float64 else 0))
    assert ((turned.double() - truth).abs() <= bound).all()


def test_one_pair_by_hand() -> None:
    # A quarter turn sends (1, 0) to (0, 1), and leaves the other pair alone.
    cos, sin = torch.tensor([[1.0, 1.0], [0.0, 1.0]]), torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    x = torch.tensor([[1.0, 0.0, 2.0, 3.0]])
    assert rope(x, cos, sin, torch.tensor([1])).tolist() == [[0.0, 1.0, 2.0, 3.0]]
    assert rope(x, cos, sin, torch.tensor([0])).tolist() == x.tolist()


@given(seed=st.integers(0, 2**32), position=st.integers(0, FAR), dtype=st.sampled_from(DTYPES))
@settings(deadline=None, max_examples=40)
def test_keeps_the_norm(seed: int, position: int, dtype: torch.dtype) -> None:
    x = normal(2, 1, D_K, seed=seed, dtype=dtype)
    turned = rope(x, *tables(), torch.tensor([position]))
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(turned.double().norm(dim=-1), x.double().norm(dim=-1), rtol=4 * eps, atol=0)


@given(seed=st.integers(0, 2**32), a=places, b=places)
@settings(deadline=None, max_examples=40)
def test_two_turns_are_one_by_the_sum(seed: int, a: int, b: int) -> None:
    x = normal(1, D_K, seed=seed)
    torch.testing.assert_close(turn(turn(x, a), b), turn(x, a + b), rtol=0, atol=1e-10)


@given(seed=st.integers(0, 2**32), a=places, b=places, shift=places)
@settings(deadline=None, max_examples=40)
def test_only_relative_positions_matter(seed: int, a: int, b: int, shift: int) -> None:
    q, k = normal(1, D_K, seed=seed), normal(1, D_K, seed=seed + 1)
    here = (turn(q, a) * turn(k, b)).sum()
    there = (turn(q, a + shift) * turn(k, b + shift)).sum()
    torch.testing.assert_close(there, here, rtol=0, atol=1e-9)


def test_only_relative_positions_matter_in_float32() -> None:
    q, k = (normal(4, 2, D_K, seed=seed, dtype=torch.float32) for seed in (1, 2))
    cos, sin = tables(torch.float32)

    def score(shift: int) -> Tensor:
        positions = torch.tensor([FAR - 9 - shift, FAR - shift])
        return (rope(q, cos, sin, positions)[:, 0] * rope(k, cos, sin, positions)[:, 1]).sum(-1)

    # Float32 tables of float64 angles lose about 4e-6 here; float32 angles would lose 0.02.
    torch.testing.assert_close(score(0), score(FAR - 9), rtol=0, atol=1e-5)


def test_positions_are_arbitrary_and_broadcast() -> None:
    x = normal(2, 3, 4, D_K)
    positions = torch.tensor([9, 0, FAR, 9])
    each = torch.stack([turn(x[..., i : i + 1, :], p) for i, p in enumerate(positions.tolist())], dim=-2).squeeze(-3)
    assert torch.equal(rope(x, *tables(), positions), each)
    for lead in ((2, 3), (1, 3), (2, 1), (3,), (1,)):
        assert torch.equal(rope(x, *tables(), positions.expand(*lead, 4)), each)
    per_batch = torch.stack((positions, positions.flip(0))).unsqueeze(1)
    got = rope(x, *tables(), per_batch)
    assert torch.equal(got[0], each[0])
    assert torch.equal(got[1], rope(x[1], *tables(), positions.flip(0)))


@pytest.mark.parametrize("dtype", INT_DTYPES)
def test_any_signed_integer_is_a_position(dtype: torch.dtype) -> None:
    x, positions = normal(3, D_K), torch.tensor([0, 5, 100])
    assert torch.equal(rope(x, *tables(), positions.to(dtype)), rope(x, *tables(), positions))


def test_theta_sets_the_longest_wavelength() -> None:
    # Pair j turns once in 2π · theta^(2j / d_k) positions.
    cos, sin = rope_tables(101, 4, theta=(100 / (2 * torch.pi)) ** 2, dtype=torch.float64)
    torch.testing.assert_close(cos[100, 1].item(), 1.0, rtol=0, atol=1e-12)
    torch.testing.assert_close(sin[25, 1].item(), 1.0, rtol=0, atol=1e-12)
    torch.testing.assert_close(rope_tables(1, 2)[0], torch.ones(1, 1), rtol=0, atol=0)


def test_laws() -> None:
    x, positions = normal(2, 3, D_K), torch.tensor([4, 0, 4])
    cos, sin = (table[:5].clone() for table in tables())
    assert_gradients(lambda x, c, s: rope(x, c, s, positions), x, cos, sin, second=True)
    assert_batches(rope, x, cos, sin, positions.expand(2, 3), mapped=(True, False, False, True))
    assert_batches(rope, x, cos, sin, positions, mapped=(True, False, False, False))
    assert_strides(rope, x, cos, sin, positions)
    assert_compiles(rope, x, cos, sin, positions)
    assert_compiles(rope_tables, 5, D_K)
    assert rope(x[:, :0], cos, sin, positions[:0]).shape == (2, 0, D_K)


COS, SIN = rope_tables(8, 4, dtype=torch.float64)
X = normal(2, 3, 4)
P = torch.arange(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rope_tables(0, 4), r"^rope_tables: positions must be at least 1, got 0$"),
        (lambda: rope_tables(4, 3), r"^rope_tables: d_k must be even and positive, got 3$"),
        (lambda: rope_tables(4, 0), r"^rope_tables: d_k must be even and positive, got 0$"),
        (lambda: rope_tables(4, 4, theta=0.0), r"^rope_tables: theta must be above 0, got 0.0$"),
        (lambda: rope_tables(4, 4, theta=float("nan")), r"^rope_tables: theta must be above 0, got nan$"),
        (
            lambda: rope_tables(4, 4, dtype=torch.int64),
            r"^rope_tables: dtype must be a floating-point one, got .*64",
        ),
        (lambda: rope_tables(4.0, 4), r"^rope_tables: positions must be int.*float 4.0$"),  # type: ignore[arg-type]  # the bad input
        (lambda: rope(X.long(), COS, SIN, P), r"^rope: x must be Float.*int64\(2, 3, 4\)$"),
        (lambda: rope(X[0, 0], COS, SIN, P), r"^rope: x must be .*'\*batch seq 2\*half'.*\(4,\)$"),
        (lambda: rope(X[..., :2], COS, SIN, P), r"^rope: cos must be .* where half=1.*\(8, 2\)$"),
        (lambda: rope(X[..., :3], COS, SIN, P), r"^rope: x must be .*2\*half.*, 3\)$"),
        (lambda: rope(X, COS, SIN[:7], P), r"^rope: sin must be .*positions=8.*\(7, 2\)$"),
        (lambda: rope(X, COS.mT, SIN, P), r"^rope: cos must be .*'positions half'.* half=2.*\(2, 8\)$"),
        (lambda: rope(X, COS, SIN, P.double()), r"^rope: token_positions must be Int.*float64\(3,\)$"),
        (lambda: rope(X, COS, SIN, P[:2]), r"^rope: token_positions must be .*seq=3.*int64\(2,\)$"),
        (lambda: rope(X, COS, SIN, P.expand(5, 3)), r"^rope: token_positions must be .*'\*#batch seq'.*\(5, 3\)$"),
        (lambda: rope(X[0], COS, SIN, P.expand(5, 3)), r"^rope: token_positions must be .*'\*#batch seq'.*\(5, 3\)$"),
        (lambda: rope(X, COS, SIN, P + 6), r"^rope: token_positions must be in \[0, 8\), the rows of the tables"),
        (lambda: rope(X, COS, SIN, P - 1), r"^rope: token_positions must be in \[0, 8\), the rows of the tables"),
    ],
)
def test_refusals(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        call()
