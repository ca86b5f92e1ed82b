"""What is drawn: shapes that agree by name, in bounds, the same again from the same plan."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Bool, Float, Float32, Float64, Int
from torch import Tensor

from cs336_basics.contracts.cases import cases
from cs336_basics.contracts.checks.authority import judge
from cs336_basics.contracts.law.example import Dtypes, Example
from cs336_basics.contracts.law.strategies import examples
from cs336_basics.contracts.signature import read_signature


def everything(
    x: Float[Tensor, "*batch seq heads*d_k"],
    mask: Bool[Tensor, "*#batch #seq"],
    ids: Int[Tensor, "*batch"],
    table: Float[Tensor, "vocab 2 seq+1"],
    state: Float32[Tensor, "d_k"] | Float64[Tensor, "d_k"],
    extra: Float[Tensor, "d_k"] | None = None,
    *,
    heads: int,
) -> Float[Tensor, "*batch"]:
    raise NotImplementedError


SIGNATURE = read_signature(everything)
CALLS = st.sampled_from(cases(SIGNATURE)).flatmap(lambda case: examples(SIGNATURE, case, {}))


@given(CALLS, st.sampled_from(["float64", "float32", "bfloat16", "float16"]))
@settings(max_examples=60, deadline=None)
def test_arguments_fit_the_annotations_in_every_dtype(example: Example, floating: str) -> None:
    arguments = example.arguments(Dtypes(floating, "int8"))
    judge(SIGNATURE, (), arguments)
    assert str(arguments["x"].dtype) == f"torch.{floating}"
    assert arguments["state"].dtype == (torch.float64 if floating == "float64" else torch.float32)
    assert arguments["ids"].dtype == torch.int8
    assert arguments["heads"] >= 1
    assert bool(((arguments["ids"] >= 0) & (arguments["ids"] < arguments["table"].shape[0])).all())
    assert bool(arguments["x"].isfinite().all())


@given(CALLS)
@settings(max_examples=20, deadline=None)
def test_the_same_plan_makes_equal_arguments(example: Example) -> None:
    first, second = example.arguments(), example.arguments()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in ("x", "mask", "ids", "table"))
    assert first["x"] is not second["x"]
    assert first["extra"] is None or not torch.equal(first["extra"], first["state"])
    assert example.text() == example.text()


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_the_rank_asked_for(rank: int) -> None:
    @given(examples(SIGNATURE, cases(SIGNATURE)[0], {}, rank))
    @settings(max_examples=10, deadline=None)
    def check(example: Example) -> None:
        assert len(example.several["batch"]) == rank
        assert example.arguments()["x"].ndim == rank + 2

    check()


@pytest.mark.parametrize(
    ("values", "holds"),
    [
        ({"d_k": 3}, lambda call: call["state"].shape == (3,)),
        ({"heads": 2, "d_k": "heads+1"}, lambda call: call["x"].shape[-1] == 6),
        ({"batch": (2, 0)}, lambda call: call["ids"].shape == (2, 0)),
        ({"ids": 1}, lambda call: not call["ids"].any()),
        ({"extra": torch.ones(4)}, lambda call: call["state"].shape == (4,)),
        ({"x": lambda sizes: torch.ones(*sizes["batch"], 3, 6), "heads": 2}, lambda call: call["table"].shape[-1] == 4),
    ],
)
def test_values_fix_sizes(values: dict[str, Any], holds: Any) -> None:
    @given(examples(SIGNATURE, cases(SIGNATURE, values)[0], values))
    @settings(max_examples=15, deadline=None)
    def check(example: Example) -> None:
        assert holds(example.arguments())

    check()


def test_wild_values_are_drawn_too_and_every_batch_size() -> None:
    wild: set[bool] = set()
    sizes: set[int] = set()

    @given(examples(SIGNATURE, cases(SIGNATURE)[0], {}, 1))
    @settings(max_examples=100, deadline=None, derandomize=True)
    def check(example: Example) -> None:
        wild.add(bool((example.arguments()["table"].abs() > 100).any()))
        sizes.update(example.several["batch"])

    check()
    assert wild == {False, True}
    assert sizes == {0, 1, 2, 3, 4}
