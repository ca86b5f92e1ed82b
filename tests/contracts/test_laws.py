"""What `laws` says, what it is given, and what it leaves alone; the laws themselves: test_laws_broken and _held."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import strategies as st
from jaxtyping import Float, Int
from torch import Tensor

from cs336_basics.contracts import ContractError, LawError, contract, laws, require


def mean_over_rows(x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    return x - x.mean() if x.numel() else x


def test_the_error_names_law_axis_and_the_simplest_example() -> None:
    with pytest.raises(LawError) as caught:
        laws(mean_over_rows)
    error = caught.value
    assert (error.law, error.function, error.axis) == ("batch", "mean_over_rows", "0 of *batch")
    assert isinstance(error, ContractError)
    assert isinstance(error, AssertionError)
    assert re.fullmatch(
        r"mean_over_rows breaks the law 'batch' on axis 0 of \*batch: for index 0 alone, the result differs by \S+ "
        r"where rounding allows \S+; example: x=tensor float64\(2, 1\); seed \d+",
        str(error),
    )


def test_the_same_examples_at_every_run() -> None:
    def message() -> str:
        with pytest.raises(LawError) as caught:
            laws(mean_over_rows)
        return str(caught.value)

    assert message() == message()


def test_the_decorated_function_and_the_bare_one_are_judged_alike() -> None:
    with pytest.raises(LawError, match="breaks the law 'batch'"):
        laws(contract(mean_over_rows))


def test_leaves_random_numbers_and_files_alone(tmp_path: Path) -> None:
    program = "from cs336_basics.contracts import laws; from cs336_basics.ops.linear import linear; laws(linear)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []
    before = torch.get_rng_state()
    laws(first)
    assert torch.equal(torch.get_rng_state(), before)


def first(x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch"]:
    return x[..., 0]


class Box(NamedTuple):
    inner: Float[Tensor, "*batch d_model"]


def halves(x: Float[Tensor, "*batch d_k"], half: Float[Tensor, "half"]) -> Float[Tensor, "*batch d_k"]:
    require(x.shape[-1] == 2 * half.shape[0], "halves: half must be half as wide")
    return x * half.repeat(2)


def picked(ids: Int[Tensor, "*batch"], table: Float[Tensor, "n_rows d_model"]) -> Float[Tensor, "*batch d_model"]:
    return table[ids.long() + table.shape[0] - 3]


def applied(x: Float[Tensor, "*batch d_model"], fn: Callable[[Tensor], Tensor]) -> Float[Tensor, "*batch d_model"]:
    return fn(x)


def scaled(x: Float[Tensor, "*batch d_model"], *, by: int) -> Float[Tensor, "*batch d_model"]:
    assert by in (3, 4)
    return x * by


def with_box(x: Float[Tensor, "*batch d_model"], box: Box) -> Float[Tensor, "*batch d_model"]:
    return x + box.inner


def exact(x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    assert x.shape[-1] == 7
    return x


def of_batch(x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    assert x.ndim <= 3
    return x


@pytest.mark.parametrize(
    ("fn", "values"),
    [
        (halves, {"d_k": "2*half"}),
        (halves, {"half": "d_k//2", "d_k": 4}),
        (halves, {"half": "d_k//2", "d_k": st.sampled_from([2, 6])}),
        (halves, {"half": torch.ones(3), "d_k": "2*half"}),
        (picked, {"n_rows": 5, "ids": 3}),
        (picked, {"n_rows": 4, "ids": "n_rows-1"}),
        (applied, {"fn": torch.exp}),
        (scaled, {"by": 3}),
        (scaled, {"by": st.sampled_from([3, 4])}),
        (with_box, {"box": lambda sizes: Box(torch.ones(*sizes["batch"], sizes["d_model"]))}),
        (exact, {"d_model": 7}),
        (exact, {"x": lambda sizes: torch.ones(*sizes["batch"], 7)}),
        (of_batch, {"batch": (2, 3)}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_values_are_taken_as_given(fn: Callable[..., Any], values: dict[str, Any]) -> None:
    laws(fn, **values)


@pytest.mark.parametrize(
    ("fn", "values", "message"),
    [
        (applied, {}, "applied: fn must be given a value, as in fn=..., since nothing stands for Callable by itself"),
        (halves, {"d_q": 3}, "laws: halves has no parameter and no axis 'd_q'"),
        (halves, {"half": "d_k//2", "d_k": "2*half"}, "the size of .* is given in terms of itself"),
        (halves, {"half": "d_k//"}, "shape 'd_k//' cannot be read at position"),
        (halves, {"d_k": 5}, "halves accepts only 0 of .* It last said: halves: half must be half as wide"),
        (scaled, {"by": "three"}, "laws: scaled has no parameter and no axis 'three'"),
        (scaled, {"by": None}, "scaled: by must be int"),
        (with_box, {"box": torch.ones(2)}, "with_box: box must be Box"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_values_that_will_not_do_are_refused(fn: Callable[..., Any], values: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractError, match=message) as caught:
        laws(fn, **values)
    assert not isinstance(caught.value, LawError)


def listed(tensors: list[Tensor]) -> Float[Tensor, ""]:
    return torch.stack(tensors).sum()


def test_a_tensor_without_a_shape_must_be_given() -> None:
    with pytest.raises(ContractError, match=r"listed: tensors must be given a value.* a Tensor without a shape"):
        laws(listed)
    laws(listed, tensors=[torch.ones(2)])


def test_more_examples_find_what_is_rare() -> None:
    def rare(x: Float[Tensor, "*batch seq d_model"]) -> Float[Tensor, "*batch seq d_model"]:
        return x - x.mean() if x.shape == (3, 4, 2) else x

    laws(rare, examples=9)
    with pytest.raises(LawError, match=r"3, 4, 2\)"):
        laws(rare, examples=1000)


def test_an_error_inside_is_kept_as_the_cause() -> None:
    def divides(x: Float[Tensor, "*batch d_model"], *, by: int) -> Float[Tensor, "*batch d_model"]:
        return x * (1 // by)

    with pytest.raises(LawError, match="raises ZeroDivisionError") as caught:
        laws(divides, by=0)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
