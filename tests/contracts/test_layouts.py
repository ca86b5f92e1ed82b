"""Each layout holds the same values, and is the layout it is named for."""

import pytest
import torch

from cs336_basics.contracts.law.layouts import LAYOUTS, contiguous, expanded

TENSORS = [
    torch.randn(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
    torch.arange(6).reshape(2, 3),
    torch.tensor([[True, False], [True, True]]),
    torch.tensor(2.5),
    torch.empty(0, 3),
]


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("x", TENSORS, ids=lambda x: str(tuple(x.shape)))
def test_the_values_are_the_same(name: str, x: torch.Tensor) -> None:
    laid = LAYOUTS[name](x)
    assert laid.dtype == x.dtype
    assert torch.equal(laid, x)
    assert laid.data_ptr() != x.data_ptr() or x.numel() == 0 or name == "transposed"


def test_the_layouts_are_what_they_say() -> None:
    x = TENSORS[0]
    transposed, stepped, offset = (LAYOUTS[name](x) for name in ("transposed", "stepped", "offset"))
    assert transposed.stride() == (1, 2, 6)
    assert not stepped.is_contiguous()
    assert stepped.untyped_storage().nbytes() == 8 * x.untyped_storage().nbytes()
    assert offset.is_contiguous()
    assert offset.storage_offset() == 2


def test_what_lies_between_shows_where_it_is_read() -> None:
    whole = LAYOUTS["stepped"](TENSORS[0])._base
    assert whole is not None
    assert int(whole.isnan().sum()) == whole.numel() - TENSORS[0].numel()


def test_expanded_has_a_stride_of_0_and_equal_entries() -> None:
    x = expanded(TENSORS[0], 7)  # axis 7 % 3
    assert x.stride(1) == 0
    assert torch.equal(x, TENSORS[0][:, :1].expand(2, 3, 4))
    assert contiguous(x).stride() == (12, 4, 1)
    assert expanded(TENSORS[3], 1) is TENSORS[3]
