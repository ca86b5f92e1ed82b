"""Right functions, as they stand in language models: a law that one of them breaks is a false alarm."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import einops
import pytest
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int, Int64
from torch import Tensor, nn

from cs336_basics.contracts import Axes, contract, laws, require

HELD: list[tuple[Callable[..., Any], dict[str, Any]]] = []


def holds(**values: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def enter(fn: Callable[..., Any]) -> Callable[..., Any]:
        HELD.append((fn, values))
        return fn

    return enter


X = Float[Tensor, "*batch seq d_model"]


@holds()
def a_view(x: Float[Tensor, "*batch seq heads*d_k"], *, heads: int) -> Float[Tensor, "*batch heads seq d_k"]:
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads).movedim(-2, -3)


@holds(heads=2)
def by_einops(x: Float[Tensor, "*batch seq heads*d_k"], *, heads: int) -> Float[Tensor, "*batch heads seq d_k"]:
    return einops.rearrange(x, "... s (h d) -> ... h s d", h=heads)


@holds()
def by_einsum(x: X, weight: Float[Tensor, "d_out d_model"]) -> Float[Tensor, "*batch seq d_out"]:
    return einops.einsum(x, weight, "... s i, o i -> ... s o")


@holds()
def gathers(logits: Float[Tensor, "*batch vocab"], ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    return logits.gather(-1, ids.long().unsqueeze(-1)).squeeze(-1)


@holds()
def scatters(ids: Int[Tensor, "*batch"], like: Float[Tensor, "vocab"]) -> Float[Tensor, "*batch vocab"]:
    rows = like.new_zeros((*ids.shape, like.shape[0]))
    return rows.scatter(-1, ids.long().unsqueeze(-1), 1.0)


@holds()
def chunked(x: X, weight: Float[Tensor, "d_out d_model"]) -> Float[Tensor, "*batch seq d_out"]:
    return torch.cat([part @ weight.mT for part in torch.split(x, 2, dim=-2)], dim=-2)


class Cache(NamedTuple):
    keys: Float[Tensor, "*batch cached d_k"]


GrownCache = Annotated[Cache, Axes(cached="cached+seq")]


@holds()
def cached(k: Float[Tensor, "*batch seq d_k"], cache: Cache | None = None) -> Cache | GrownCache:
    return Cache(k if cache is None else torch.cat((cache.keys, k), dim=-2))


@dataclass(frozen=True)
class Gates:
    up: Float[Tensor, "d_ff d_model"]
    gate: Float[Tensor, "d_ff d_model"] | None


@holds()
def by_dataclass(x: X, gates: Gates) -> Float[Tensor, "*batch seq d_ff"]:
    up = x @ gates.up.mT
    return up if gates.gate is None else up * torch.sigmoid(x @ gates.gate.mT)


@holds()
def by_config(x: X, *, kind: Literal["rms", "layer", "none"], keep: bool = True, eps: float = 1e-5) -> X:
    if kind == "layer":
        x = x - x.mean(-1, keepdim=True)
    if kind == "none":
        return x if keep else x * 0
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


@holds()
def widens_inside(x: X) -> X:
    """The batched product may be blocked otherwise: within float32's rounding, not float64's."""
    return (x.float() @ x.float().mT @ x.float()).to(x.dtype)


@holds()
def masked(x: X, mask: Bool[Tensor, "*#batch seq"] | None = None) -> X:
    return x if mask is None else torch.where(mask.unsqueeze(-1), x, 0.0)


@holds()
def keeps_a_precise_loss(
    logits: Float[Tensor, "*batch vocab"],
) -> Float32[Tensor, "*batch"] | Float64[Tensor, "*batch"]:
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).logsumexp(-1)


@holds()
def a_mean_on_purpose(x: X) -> Float[Tensor, ""]:
    return x.sum() / max(x.numel(), 1)


@holds()
def index_grid(x: Float[Tensor, "*batch queries keys"]) -> Float[Tensor, "*batch queries keys"]:
    causal = torch.arange(x.shape[-1]) <= torch.arange(x.shape[-2]).unsqueeze(-1)
    return x.masked_fill(~causal, -torch.inf)


@holds()
def batch_in_the_middle(x: Float[Tensor, "seq *batch d_model"]) -> Float[Tensor, "d_model *batch seq"]:
    return x.transpose(0, -1).cumsum(-1)


@holds(generator=torch.Generator().manual_seed(5))
def draws(
    logits: Float[Tensor, "*batch vocab"], *, generator: torch.Generator | None = None
) -> Int64[Tensor, "*batch"]:
    rows = logits.double().clamp(-50, 50).softmax(-1).reshape(-1, logits.shape[-1]).contiguous()
    return torch.multinomial(rows, 1, generator=generator).reshape(logits.shape[:-1])


@holds()
def a_container(parts: list[X], *more: Float[Tensor, "*batch seq d_model"]) -> list[X]:
    return [part * 2 for part in (*parts, *more)]


@holds()
def a_mapping(parts: dict[str, Float[Tensor, "*batch d_model"]]) -> dict[str, Float[Tensor, "*batch d_model"]]:
    return {name: part.neg() for name, part in parts.items()}


@holds(half="d_k//2", d_k=6)
@contract
def halves(x: Float[Tensor, "*batch d_k"], cos: Float[Tensor, "half"]) -> Float[Tensor, "*batch d_k"]:
    require(2 * cos.shape[0] == x.shape[-1], "halves: cos must be half as wide as x")
    even, odd = x.reshape(*x.shape[:-1], cos.shape[0], 2).unbind(-1)
    return torch.stack((even * cos, odd * cos), dim=-1).flatten(-2)


@holds()
def needs_a_position(x: Float[Tensor, "*batch seq"]) -> Float[Tensor, "*batch"]:
    require(x.shape[-1] > 1, "needs_a_position: x must have two")
    return x[..., 1:].amax(-1)


@holds(ids="vocab-1", seq=3)
def shifted(
    ids: Int[Tensor, "*batch seq"], table: Float[Tensor, "vocab d_model"]
) -> Float[Tensor, "*batch seq d_model"]:
    return table[ids.long() + 1]


@holds(weight=torch.eye(3)[:2])
def a_given_weight(x: X, weight: Float[Tensor, "d_out d_model"]) -> Float[Tensor, "*batch seq d_out"]:
    return x @ weight.mT


@holds(cache=lambda sizes: Cache(torch.ones(*sizes["batch"], 4, sizes["d_k"])))
def a_made_record(q: Float[Tensor, "*batch d_k"], cache: Cache) -> Float[Tensor, "*batch cached"]:
    return (cache.keys * q.unsqueeze(-2)).sum(-1)


@holds()
def recurrent(x: X) -> X:
    state, states = torch.zeros_like(x[..., 0, :]), []
    for step in x.unbind(-2):
        state = 0.5 * state + step
        states.append(state)
    return torch.stack(states, dim=-2)


@holds()
def top_two(logits: Float[Tensor, "*batch vocab"]) -> tuple[Float[Tensor, "*batch k"], Int64[Tensor, "*batch k"]]:
    values, places = logits.sort(dim=-1, descending=True, stable=True)
    return values[..., :2], places[..., :2]


@pytest.mark.parametrize(("fn", "values"), HELD, ids=lambda value: getattr(value, "__name__", ""))
def test_no_false_alarm(fn: Callable[..., Any], values: dict[str, Any]) -> None:
    laws(fn, **values)


@pytest.mark.slow
@pytest.mark.parametrize(("fn", "values"), HELD, ids=lambda value: getattr(value, "__name__", ""))
def test_no_false_alarm_among_many(fn: Callable[..., Any], values: dict[str, Any]) -> None:
    laws(fn, examples=100, **values)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 6)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_ff"]:
        return torch.tanh(self.inner(x))


def test_a_module_is_held_in_its_own_dtype() -> None:
    laws(Block(), d_model=4, d_ff=6)
    laws(Block().bfloat16().forward, d_model=4)
