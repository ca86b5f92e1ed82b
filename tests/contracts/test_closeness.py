"""Sameness of bits, and how far rounding may go."""

import pytest
import torch

from cs336_basics.contracts.law.closeness import coarsest, difference, inside, same_bits

EPS = 2.0**-52


def test_bits_are_bits() -> None:
    nan = torch.tensor([float("nan"), 1.0])
    assert same_bits(nan, nan.clone())
    assert not same_bits(torch.tensor(0.0), torch.tensor(-0.0))
    assert not same_bits(torch.tensor(1.0), torch.tensor(1.0, dtype=torch.float64))
    assert not same_bits(torch.ones(2), torch.ones(2, 1))
    assert same_bits(torch.eye(3)[:, 1], torch.eye(3)[1])
    assert same_bits(torch.tensor(True), torch.tensor(True))
    assert same_bits(torch.ones(1, 1).as_strided((1, 1), (7, 7)), torch.ones(1, 1))


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("got", "want", "largest"),
    [
        (f64(1.0, float("inf"), float("nan")), f64(1.0, float("inf"), float("nan")), 1.0),
        (f64(1.0 + 200 * EPS), f64(1.0), 1.0),
        (f64(1e6 + 1e-8), f64(1e6), 1.0),
        (f64(1.0 + 1e-8), f64(1.0), 1000.0),
        (torch.tensor([1, 2]), torch.tensor([1, 2]), 1.0),
    ],
)
def test_rounding_is_no_difference(got: torch.Tensor, want: torch.Tensor, largest: float) -> None:
    assert difference(got, want, eps=EPS, largest=largest) is None


@pytest.mark.parametrize(
    ("got", "want", "words"),
    [
        (f64(1.0 + 1e-10), f64(1.0), "differs by 1e-10 where rounding allows 5.68e-14"),
        (f64(float("inf")), f64(1.0), "differs by inf"),
        (f64(float("-inf")), f64(float("inf")), "differs by inf"),
        (f64(1.0), f64(float("inf")), "differs by inf"),
        (f64(float("nan")), f64(1.0), "differs by inf"),
        (f64(1.0), f64(float("nan")), "differs by inf"),
        (f64(1.0), f64(1.0, 1.0), r"has shape (1,), not (2,)"),
        (f64(1.0).float(), f64(1.0), "is float32, not float64"),
        (torch.tensor([1, 3]), torch.tensor([1, 2]), "differs in 1 of 2 entries"),
        (torch.tensor([True]), torch.tensor([False]), "differs in 1 of 1 entries"),
        (torch.tensor([1 + 2j]), torch.tensor([1 + 3j]), "differs by 1"),
    ],
)
def test_a_difference_is_told(got: torch.Tensor, want: torch.Tensor, words: str) -> None:
    found = difference(got, want, eps=EPS, largest=1.0)
    assert found is not None
    assert words in found


def test_the_narrowest_dtype_on_the_way_is_found() -> None:
    x = torch.ones(3, dtype=torch.float64)
    assert coarsest(lambda: x + 1) == EPS
    assert coarsest(lambda: (x.float() + 1).double()) == 2.0**-23
    assert coarsest(lambda: x.bfloat16().sum().double()) == 2.0**-7


def test_everything_inside() -> None:
    value = [1, (2, {"a": 3})]
    assert [part for part in inside(value) if isinstance(part, int)] == [1, 2, 3]
