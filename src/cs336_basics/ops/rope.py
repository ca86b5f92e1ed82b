"""Rotary position embedding: a position is an angle, and only differences of angles are seen."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cs336_basics.contracts import ContractError, contract, require
from cs336_basics.ops._dtype import at_least_float32


@contract(held_by="proof")
def rope_tables(
    positions: int,
    d_k: int,
    *,
    theta: float = 10_000.0,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[Float[Tensor, "positions d_k//2"], Float[Tensor, "positions d_k//2"]]:
    """cos and sin of p · theta^(-2j / d_k) for every position p and pair j.

    Shapes: -> cos (positions, d_k / 2), sin (positions, d_k / 2), in dtype.
    Units:  theta is the base of the wavelengths; pair j turns once in 2π · theta^(2j / d_k) positions.
    Raises: ContractError if positions < 1, d_k is not even and positive, theta <= 0, or dtype is not a float.
    Source: Su et al. 2021, arXiv:2104.09864. Angles in float64 (on the CPU, since some devices have none):
        float32 angles are wrong by 0.02 at position 131,072.

    >>> cos, sin = rope_tables(2, 4)
    >>> cos
    tensor([[1.0000, 1.0000],
            [0.5403, 0.9999]])
    """
    require(positions >= 1, "rope_tables: positions must be at least 1, got {}", positions)
    require(d_k >= 2 and d_k % 2 == 0, "rope_tables: d_k must be even and positive, got {}", d_k)
    require(theta > 0, "rope_tables: theta must be above 0, got {}", theta)
    require(dtype.is_floating_point, "rope_tables: dtype must be a floating-point one, got {}", dtype)
    frequencies = theta ** -(torch.arange(0, d_k, 2, dtype=torch.float64, device="cpu") / d_k)
    angles = torch.outer(torch.arange(positions, dtype=torch.float64, device="cpu"), frequencies)
    target = torch.empty(0, device=device).device  # None: the default device
    return angles.cos().to(dtype).to(target), angles.sin().to(dtype).to(target)


@contract(held_by="proof")
def rope(
    x: Float[Tensor, "*batch seq 2*half"],
    cos: Float[Tensor, "positions half"],
    sin: Float[Tensor, "positions half"],
    token_positions: Int[Tensor, "*#batch seq"],
) -> Float[Tensor, "*batch seq 2*half"]:
    """Turn each pair (x[2j], x[2j+1]) of the vector at position p by the angle p · theta^(-2j / d_k).

    Shapes: x (*batch, seq, d_k), tables (positions, d_k / 2), token_positions (*batch, seq) or broadcastable
        to it -> (*batch, seq, d_k), in x's dtype; computed in float32 at least.
    Raises: ContractError on shape or dtype, so if the tables are not d_k / 2 wide, and on the CPU for a position
        outside the tables (on a GPU: a device-side assertion).
    Source: Su et al. 2021, arXiv:2104.09864, interleaved pairs; checkpoints in the half-split writing
        (GPT-NeoX, Hugging Face's Llama) need their query and key rows permuted.
    """
    flat = token_positions.reshape(-1).long()
    table_shape = (*token_positions.shape, cos.shape[-1])
    try:
        c, s = (table.index_select(0, flat).reshape(table_shape) for table in (cos, sin))
    except IndexError as error:
        raise ContractError(
            f"rope: token_positions must be in [0, {cos.shape[0]}), the rows of the tables: {error}"
        ) from None
    wide = at_least_float32(x)
    # Not by slices with a step: their gradient is a scatter, which compiled code does one number at a time.
    even, odd = wide.reshape(*wide.shape[:-1], cos.shape[-1], 2).unbind(-1)
    turned = torch.stack((even * c - odd * s, even * s + odd * c), dim=-1)
    return turned.flatten(-2).to(x.dtype)
