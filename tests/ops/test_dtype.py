"""The rules of precision."""

import pytest
import torch

from cs336_basics.contracts import ContractError
from cs336_basics.ops._dtype import at_least_float32, require_one_dtype


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_dtypes_become_float32(dtype: torch.dtype) -> None:
    x = torch.tensor([0.5, -2.0]).to(dtype)
    wide = at_least_float32(x)
    assert wide.dtype == torch.float32
    assert wide.tolist() == [0.5, -2.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wide_dtypes_stay_and_are_not_copied(dtype: torch.dtype) -> None:
    x = torch.zeros(2, dtype=dtype)
    assert at_least_float32(x) is x


def test_two_dtypes_are_refused_outside_autocast() -> None:
    x, y = torch.zeros(1), torch.zeros(1, dtype=torch.bfloat16)
    require_one_dtype("f: y must have x's dtype {}, got {}", x, x)
    with pytest.raises(ContractError, match=r"^f: y must have x's dtype torch.float32, got torch.bfloat16$"):
        require_one_dtype("f: y must have x's dtype {}, got {}", x, y)
    with torch.autocast("cpu", torch.bfloat16):
        require_one_dtype("f: y must have x's dtype {}, got {}", x, y)
