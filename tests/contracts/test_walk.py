"""Values with their annotations: every tensor found, one index of an axis taken wherever it stands."""

from typing import NamedTuple

import pytest
import torch
from jaxtyping import Bool, Float, Float32, Float64
from torch import Tensor

from cs336_basics.contracts.law.walk import BatchAxis, leaves, position, rebuild, select
from cs336_basics.contracts.signature import read


class Pair(NamedTuple):
    left: Float[Tensor, "*batch d_k"]
    right: Float[Tensor, "d_k"] | None
    steps: int


SPEC = read(tuple[list[Float[Tensor, "*batch seq"]], Pair, dict[str, Bool[Tensor, "seq"]], int])
VALUE = ([torch.zeros(2, 3), torch.ones(3)], Pair(torch.ones(4, 5), None, 7), {"a": torch.tensor([True])}, 9)


def test_every_tensor_is_found_with_its_path() -> None:
    found = leaves(SPEC, VALUE, "x")
    assert [leaf.path for leaf in found] == ["x[0][0]", "x[0][1]", "x[1].left", "x[2]['a']"]
    assert found[2].tensor is VALUE[1].left
    assert [leaf.spec.shape.text for leaf in found] == ["*batch seq", "*batch seq", "*batch d_k", "seq"]


def test_rebuilt_in_new_containers_and_nothing_else_changed() -> None:
    lists, pair, flags, count = rebuild(
        SPEC, VALUE, lambda leaf: ~leaf.tensor if leaf.tensor.dtype == torch.bool else 5
    )
    assert lists == [5, 5]
    assert pair == Pair(5, None, 7)  # type: ignore[arg-type]  # what it was changed to
    assert not flags["a"]
    assert count == 9
    assert VALUE[2]["a"].all()


def test_a_union_tells_which_and_what_else_it_might_have_been() -> None:
    spec = read(Float32[Tensor, ""] | Float64[Tensor, ""] | None)
    (leaf,) = leaves(spec, torch.zeros((), dtype=torch.float64))
    assert leaf.spec.dtypes == ("float64",)
    assert len(leaf.options) == 2
    assert leaves(spec, None) == []
    assert leaves(spec, torch.zeros((), dtype=torch.int64)) == []


@pytest.mark.parametrize(
    ("text", "shape", "place", "expected"),
    [
        ("*batch seq", (2, 3, 4), 0, 0),
        ("*batch seq", (2, 3, 4), 1, 1),
        ("seq *batch d_k", (4, 2, 3, 5), 1, 2),
        ("seq d_k *batch", (4, 5, 2, 3), 0, 2),
        ("*#batch seq", (3, 4), 1, 0),
        ("*#batch seq", (3, 4), 0, None),
        ("*#batch seq", (4,), 1, None),
        ("seq", (4,), 0, None),
    ],
)
def test_where_a_batch_axis_stands(text: str, shape: tuple[int, ...], place: int, expected: int | None) -> None:
    (leaf,) = leaves(read(Float[Tensor, text]), torch.zeros(shape))
    assert position(leaf, BatchAxis("batch", place, 2, (2, 3)[place])) == expected


def test_one_index_of_an_axis() -> None:
    x = torch.arange(24.0).reshape(2, 3, 4)
    (leaf,) = leaves(read(Float[Tensor, "*batch seq"]), x)
    assert torch.equal(select(leaf, BatchAxis("batch", 1, 2, 3), 2), x[:, 2])
    (leaf,) = leaves(read(Float[Tensor, "*#batch seq"]), x[:, :1])
    assert torch.equal(select(leaf, BatchAxis("batch", 1, 2, 3), 2), x[:, 0])  # it broadcasts
    (leaf,) = leaves(read(Float[Tensor, "seq"]), x[0, 0])
    assert select(leaf, BatchAxis("batch", 1, 2, 3), 2) is leaf.tensor
