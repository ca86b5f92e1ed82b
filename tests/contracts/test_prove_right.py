"""`prove` on right functions, of every kind that a language model has: a false alarm is a bug."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import einops
import pytest
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int, Int64
from torch import Tensor

from cs336_basics.contracts import Axes, contract, prove, require

F = torch.nn.functional
RIGHT: list[Callable[..., Any]] = []


def right(function: Callable[..., Any]) -> Callable[..., Any]:
    RIGHT.append(function)
    return function


@right
def outer_product(a: Float[Tensor, "rows"], b: Float[Tensor, "cols"]) -> Float[Tensor, "rows cols"]:
    return a[:, None] * b


@right
def outer_product_with_itself(a: Float[Tensor, "rows"]) -> Float[Tensor, "rows rows"]:
    return torch.outer(a, a)


@right
def all_pairs_on_purpose(a: Float[Tensor, "rows"]) -> Float[Tensor, ""]:
    return (a[:, None] - a[None, :]).abs().mean()


@right
def all_pairs_by_transposing(a: Float[Tensor, "rows"]) -> Float[Tensor, ""]:
    column = a.unsqueeze(-1)
    return (column - column.T).abs().mean()


@right
def centred(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return x - x.flatten().amax(0)


@right
def pairs_by_name(a: Float[Tensor, "rows"]) -> Float[Tensor, ""]:
    left, top = einops.rearrange(a, "n -> n 1"), einops.rearrange(a, "n -> 1 n")
    return (left.float() - top).abs().mean().to(a.dtype)


@right
def causal(seq: int) -> Bool[Tensor, "seq seq"]:
    return torch.arange(seq)[:, None] >= torch.arange(seq)


@right
def index_grid(x: Float[Tensor, "*batch seq d_k"]) -> Float[Tensor, "*batch seq d_k"]:
    at = torch.arange(x.shape[-2], device=x.device)
    return (x @ x.mT).masked_fill(at[:, None] < at, 0) @ x


@right
def grid_of_ones(x: Float[Tensor, "seq d_k"]) -> Float[Tensor, "seq d_k"]:
    at = torch.ones_like(x[:, 0]).cumsum(0)
    return x * (at[:, None] >= at).sum(1, keepdim=True)


@right
def documents_apart(
    x: Float[Tensor, "*batch seq d_k"], document: Int[Tensor, "*batch seq"]
) -> Float[Tensor, "*batch seq d_k"]:
    same = document.unsqueeze(-1) == document.unsqueeze(-2)
    return (x @ x.mT).masked_fill(~same, 0) @ x


@right
def heads_apart(x: Float[Tensor, "*batch seq heads*d_k"], *, heads: int) -> Float[Tensor, "*batch heads seq d_k"]:
    return x.unflatten(-1, (heads, -1)).transpose(-3, -2)  # type: ignore[no-any-return,no-untyped-call]  # torch's


@right
def heads_together(x: Float[Tensor, "*batch heads seq d_v"]) -> Float[Tensor, "*batch seq heads*d_v"]:
    return einops.rearrange(x, "... h s d -> ... s (h d)")


@right
def by_einsum(x: Float[Tensor, "*batch d_in"], w: Float[Tensor, "d_out d_in"]) -> Float[Tensor, "*batch d_out"]:
    return torch.einsum("...i,oi->...o", x, w)


@right
def gated(x: Float[Tensor, "*batch 2*d_ff"]) -> Float[Tensor, "*batch d_ff"]:
    gate, value = x.chunk(2, dim=-1)
    return torch.sigmoid(gate) * value


@right
def three_in_one(x: Float[Tensor, "*batch 3*d_k"]) -> Float[Tensor, "*batch d_k"]:
    q, k, v = x.split(x.shape[-1] // 3, dim=-1)  # type: ignore[no-untyped-call]  # torch's
    return q * k + v  # type: ignore[no-any-return]  # torch's


@right
def quarter_turn(x: Float[Tensor, "*batch 2*half"]) -> Float[Tensor, "*batch 2*half"]:
    even, odd = x[..., ::2], x[..., 1::2]
    return torch.stack((-odd, even), dim=-1).flatten(-2)


@right
def next_tokens(ids: Int[Tensor, "*batch seq+1"]) -> tuple[Int[Tensor, "*batch seq"], Int[Tensor, "*batch seq"]]:
    return ids[..., :-1], ids[..., 1:]


@right
def begun_with_zero(x: Float[Tensor, "*batch seq"]) -> Float[Tensor, "*batch seq+1"]:
    return F.pad(x, (1, 0))


@right
def shifted_in_a_copy(x: Float[Tensor, "*batch seq"]) -> Float[Tensor, "*batch seq"]:
    y = torch.zeros_like(x)
    y[..., 1:] = x[..., :-1]
    return y


@right
def causal_convolution(
    x: Float[Tensor, "batch seq d_k"], w: Float[Tensor, "d_k 1 3"]
) -> Float[Tensor, "batch seq d_k"]:
    return F.conv1d(F.pad(x.mT, (2, 0)), w, groups=w.shape[0]).mT


@right
def loss(
    logits: Float[Tensor, "*batch vocab"], targets: Int[Tensor, "*batch"]
) -> Float32[Tensor, ""] | Float64[Tensor, ""]:
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return (torch.logsumexp(wide, -1) - wide.gather(-1, targets.long()[..., None]).squeeze(-1)).mean()


@right
def chosen(x: Float[Tensor, "*batch seq d_k"], at: Int64[Tensor, "*batch"]) -> Float[Tensor, "*batch d_k"]:
    return torch.take_along_dim(x, at[..., None, None], dim=-2).squeeze(-2)


@right
def rows(ids: Int64[Tensor, "*batch seq"], table: Float[Tensor, "vocab d_k"]) -> Float[Tensor, "*batch seq d_k"]:
    return table[ids]


@right
def scattered(
    x: Float[Tensor, "*batch seq"], ids: Int64[Tensor, "*batch seq"], *, vocab: int
) -> Float[Tensor, "*batch vocab"]:
    return x.new_zeros(*x.shape[:-1], vocab).scatter_add(-1, ids, x)


@right
def layer_norm(x: Float[Tensor, "*batch d_k"], w: Float[Tensor, "d_k"]) -> Float[Tensor, "*batch d_k"]:
    return F.layer_norm(x, (x.shape[-1],), w)


@right
def in_groups(x: Float[Tensor, "*batch d_model"], *, heads: int) -> Float[Tensor, "*batch d_model"]:
    require(x.shape[-1] % heads == 0, "in_groups: heads must divide {}", x.shape[-1])
    grouped = x.unflatten(-1, (heads, x.shape[-1] // heads))  # type: ignore[no-untyped-call]  # torch's
    return (grouped - grouped.mean(-1, keepdim=True)).flatten(-2)  # type: ignore[no-any-return]  # torch's


@right
def masked(
    x: Float[Tensor, "*batch queries keys"], mask: Bool[Tensor, "*#batch queries #keys"] | None = None
) -> Float[Tensor, "*batch queries keys"]:
    return x if mask is None else x.masked_fill(~mask, 0)


@right
def configured(
    x: Float[Tensor, "*batch d_k"], *, norm: Literal["none", "rms"] = "none", negate: bool = False, scale: float = 1.0
) -> Float[Tensor, "*batch d_k"]:
    if norm == "rms":
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)
    return -x * scale if negate else x * scale


class Cache(NamedTuple):
    keys: Float[Tensor, "*batch cached d_k"]
    steps: int


Grown = Annotated[Cache, Axes(cached="cached+seq")]


@right
def cached(x: Float[Tensor, "*batch seq d_k"], cache: Cache | None = None) -> tuple[Float[Tensor, "*batch d_k"], Grown]:
    keys = x if cache is None else torch.cat((cache.keys, x), dim=-2)
    return keys.mean(-2), Cache(keys, 1)


@right
def noise_of_its_own(
    x: Float[Tensor, "*batch"], *, generator: torch.Generator | None = None
) -> Float[Tensor, "*batch"]:
    return x + torch.randn(x.shape, dtype=x.dtype, device=x.device, generator=generator)


@right
def written_in_a_copy(x: Float[Tensor, "*batch seq"]) -> Float[Tensor, "*batch seq"]:
    y = x.clone().add_(1)
    y[..., :1] = 0
    return y


@right
def many(xs: list[Float[Tensor, "*batch d_k"]], *more: Float[Tensor, "*batch d_v"]) -> Float[Tensor, "*batch d_k"]:
    return torch.stack(xs).sum(0) + torch.cat(more, dim=-1).sum(-1, keepdim=True)


@right
def any_tensors(xs: tuple[Tensor, ...], *, weights: dict[str, Float[Tensor, "d_k"]]) -> Float[Tensor, "d_k"]:
    return sum(weights.values(), weights["a"].new_zeros(())) + len(xs)


@right
def scaled_by_its_width(x: Float[Tensor, "*batch d_k"]) -> Float[Tensor, "*batch d_k"]:
    return x * x.shape[-1] ** -0.5 / x.shape[-1]  # type: ignore[no-any-return]  # torch's


@right
def mapped(x: Float[Tensor, "batch d_k"], w: Float[Tensor, "d_k"]) -> Float[Tensor, "batch"]:
    return torch.func.vmap(lambda row: (row * w).sum())(x)  # type: ignore[no-any-return]  # torch's


@right
def gradient(x: Float[Tensor, "*batch d_k"]) -> Float[Tensor, "*batch d_k"]:
    result: Tensor = torch.func.grad(lambda y: y.square().sum())(x)
    return result


@right
def rotary_by_complex_numbers(x: Float32[Tensor, "*batch seq 2*half"]) -> Float32[Tensor, "*batch seq 2*half"]:
    half = x.shape[-1] // 2
    angle = torch.arange(x.shape[-2], device=x.device)[:, None] * torch.linspace(0, 1, half, device=x.device)
    turns = torch.polar(torch.ones_like(angle), angle)
    return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (half, 2))) * turns).flatten(-2)  # type: ignore[no-untyped-call]  # torch's


@right
@contract
def decorated(x: Float[Tensor, "*batch seq"], *, heads: int = 1) -> Float[Tensor, "*batch seq"]:
    return x * heads


@pytest.mark.parametrize("function", RIGHT, ids=lambda function: function.__name__)
def test_is_proved(function: Callable[..., Any]) -> None:
    proof = prove(function)
    assert proof.ok, str(proof)
    assert proof.cases >= 1
