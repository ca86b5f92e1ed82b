"""Wrong functions, each a plausible bug, with the law that must be the one to catch it."""

import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from jaxtyping import Bool, Float, Float32, Int, Int64
from torch import Tensor

from cs336_basics.contracts import LawError, laws
from cs336_basics.contracts.law.trial import Law

BROKEN: list[tuple[Law, Callable[..., Any]]] = []


def breaks(law: Law) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def enter(fn: Callable[..., Any]) -> Callable[..., Any]:
        BROKEN.append((law, fn))
        return fn

    return enter


X = Float[Tensor, "*batch seq d_model"]
CALLS: list[int] = []
Logits = Float[Tensor, "*batch vocab"]


@breaks("batch")
def mean_over_the_batch(x: X) -> X:
    return x - x.mean()


@breaks("batch")
def max_over_everything(logits: Logits) -> Logits:
    """A softmax whose rows share one maximum: right, until a row lies a thousand below another."""
    weights = torch.exp(logits - logits.max()) if logits.numel() else logits
    return weights / weights.sum(-1, keepdim=True)


@breaks("batch")
def norm_of_the_whole_tensor(x: X) -> X:
    return x / (x.square().sum().sqrt() + 1)


@breaks("vmap")
def scale_read_by_item(x: X) -> X:
    return x * (2.0 if x.numel() and x.sum().item() > 0 else 1.0)


@breaks("batch")
def cumulative_over_the_first_axis(x: X) -> X:
    return x.cumsum(0)


@breaks("batch")
def first_row_for_all(x: X, weight: Float[Tensor, "d_model"]) -> X:
    gate = x.flatten(0, -2)[:1] if x.numel() else x
    return x * weight + (gate if x.numel() else 0.0)


@breaks("batch")
def heads_and_batch_scrambled(x: Float[Tensor, "*batch heads seq d_k"]) -> Float[Tensor, "*batch seq heads*d_k"]:
    return x.reshape(*x.shape[:-3], x.shape[-2], x.shape[-3] * x.shape[-1]).roll(1, 0)


@breaks("batch")
def dropped_by_position_in_the_batch(x: X) -> X:
    return x.flip(0) if x.ndim > 2 else x


@breaks("batch")
def mask_of_the_first_example(x: X, mask: Bool[Tensor, "*#batch seq"]) -> X:
    """Right where the mask broadcasts; where each example has its own, all use the first one's."""
    first = mask.reshape(-1, mask.shape[-1])[:1].squeeze(0) if mask.numel() else mask
    return x.masked_fill(~first.unsqueeze(-1), 0.0) if mask.numel() else x


@breaks("batch")
def batch_axis_in_the_middle(x: Float[Tensor, "seq *batch d_model"]) -> Float[Tensor, "seq *batch d_model"]:
    return x - x.mean(tuple(range(1, x.ndim - 1)), keepdim=True) if x.ndim > 2 else x


class Cache(NamedTuple):
    keys: Float[Tensor, "*batch cached d_k"]


@breaks("batch")
def wrong_inside_a_record(x: Float[Tensor, "*batch d_k"], cache: Cache) -> tuple[Float[Tensor, "*batch d_k"], Cache]:
    return x, Cache(cache.keys + (x.sum() if x.numel() else 0.0))


@breaks("arguments")
def in_place(x: X) -> X:
    return x.mul_(2)


@breaks("arguments")
def in_place_through_a_view(x: X) -> X:
    half = x[..., : x.shape[-1] // 2 + 1]
    half += 1
    return x.clone()


@breaks("arguments")
def in_place_behind_autograd(x: X) -> X:
    x.data.clamp_(-0.1, 0.1)
    return x.clone()


@breaks("arguments")
def in_place_without_effect(x: X) -> X:
    return x.add_(0)


@breaks("arguments")
def transposed_where_it_lies(x: Float[Tensor, "rows cols"]) -> Float[Tensor, "cols rows"]:
    return x.t_()


@breaks("arguments")
def takes_from_a_list(states: list[X]) -> X:
    return states.pop()


@breaks("arguments")
def cache_written_in_place(x: Float[Tensor, "*batch d_k"], cache: Cache) -> Cache:
    if cache.keys.shape[-2]:
        cache.keys[..., -1, :] = x
    return Cache(cache.keys.clone())


@breaks("deterministic")
def hidden_dropout(x: X) -> X:
    return x * (torch.rand(x.shape) > 0.1)


@breaks("deterministic")
def reseeded(x: X) -> X:
    torch.manual_seed(0)
    return x + torch.rand(())


@breaks("deterministic")
def python_random(x: X) -> X:
    return x * random.random()


@breaks("deterministic")
def counts_its_calls(x: X) -> X:
    CALLS.append(1)
    return x * len(CALLS)


@breaks("deterministic")
def memory_never_written(x: X) -> X:
    return x + torch.empty(1024, dtype=x.dtype).random_(to=1000).mean()


@breaks("strides")
def view_of_its_argument(x: X) -> Float[Tensor, "*batch seq*d_model"]:
    return x.view(*x.shape[:-2], x.shape[-2] * x.shape[-1])


@breaks("strides")
def reads_the_storage(x: Float[Tensor, "seq"]) -> Float[Tensor, "seq"]:
    stored = torch.empty(0, dtype=x.dtype).set_(x.untyped_storage())
    return stored[: x.shape[0]].clone()


@breaks("strides")
def strided_windows_of_the_base(x: Float[Tensor, "seq"]) -> Float[Tensor, "seq"]:
    return x.as_strided((x.shape[0],), (1,)) * 2


@breaks("strides")
def believes_in_contiguity(x: Float[Tensor, "rows cols"]) -> Float[Tensor, "rows cols"]:
    return x if x.is_contiguous() else -x


@breaks("strides")
def offset_forgotten(x: Float[Tensor, "seq"]) -> Float[Tensor, "seq"]:
    return torch.as_strided(x, x.shape, x.stride(), storage_offset=0).clone()


@breaks("vmap")
def reads_a_value(x: X) -> X:
    return x * 1.0 if bool((x == x).all()) else x * 0.0


@breaks("vmap")
def writes_into_a_plain_tensor(x: X) -> X:
    out = torch.zeros(x.shape, dtype=x.dtype)
    out += x
    return out


@breaks("vmap")
def goes_through_numpy(x: X) -> X:
    return torch.from_numpy(x.float().numpy() * 2).to(x.dtype)


@breaks("vmap")
def shape_by_values(ids: Int[Tensor, "*batch seq"]) -> Int64[Tensor, "*batch"]:
    return torch.tensor(ids.sum(-1).tolist(), dtype=torch.int64).reshape(ids.shape[:-1])


@breaks("dtype")
def float32_leak(x: X) -> X:
    return x + torch.ones(x.shape[-1])


@breaks("dtype")
def forgets_to_go_back(x: X) -> X:
    return x.float().softmax(-1) if x.dtype != torch.float64 else x.softmax(-1)


@breaks("dtype")
def table_of_the_default_dtype(x: X, weight: Float[Tensor, "d_model d_model"]) -> X:
    table = torch.eye(x.shape[-1]) if x.dtype != torch.float64 else torch.eye(x.shape[-1], dtype=x.dtype)
    return (x * 1) @ (weight @ table)


@breaks("dtype")
def widens_ids(ids: Int[Tensor, "*batch seq"]) -> Int[Tensor, "*batch seq"]:
    return ids + torch.zeros((1,), dtype=torch.int64)


@breaks("dtype")
def promised_float32(x: X) -> Float32[Tensor, "*batch"]:
    return x.sum((-1, -2)).to(torch.float32 if x.dtype == torch.float64 else x.dtype)


@breaks("call")
def squeezed(x: X) -> X:
    return x.squeeze()


@breaks("call")
def loses_an_axis(x: X) -> X:
    return x.sum(-1)


@breaks("call")
def wrong_axis_of_two(x: Float[Tensor, "*batch queries keys"]) -> Float[Tensor, "*batch queries"]:
    return x.sum(-2)


@breaks("call")
def only_with_a_batch(x: Float[Tensor, "*batch d_model"], weight: Float[Tensor, "d_model"]) -> Float[Tensor, "*batch"]:
    return torch.bmm(x.flatten(0, -2).unsqueeze(1), weight.expand(x.shape[0], -1).unsqueeze(-1)).reshape(x.shape[:-1])


@breaks("call")
def ids_unshifted(
    ids: Int[Tensor, "*batch"], weight: Float[Tensor, "vocab d_model"]
) -> Float[Tensor, "*batch d_model"]:
    return weight[ids.long() + 1]


@pytest.mark.parametrize(("law", "fn"), BROKEN, ids=lambda value: getattr(value, "__name__", value))
def test_the_law_catches(law: Law, fn: Callable[..., Any]) -> None:
    with pytest.raises(LawError) as caught:
        laws(fn)
    assert caught.value.law == law, caught.value
    assert caught.value.function == fn.__name__
    assert f"{fn.__name__} breaks the law {law!r}" in str(caught.value)
    assert (caught.value.axis is not None) == (law in ("batch", "vmap"))


def test_each_law_has_three_bugs() -> None:
    caught = [law for law, _ in BROKEN]
    assert all(
        caught.count(law) >= 3 for law in ("batch", "arguments", "deterministic", "strides", "vmap", "dtype", "call")
    )


@pytest.fixture(autouse=True)
def _repeatable() -> Iterator[None]:
    random.seed(0)
    with torch.random.fork_rng(devices=[]):
        yield
