"""A program whose calls mypy must accept with its plugin for shapes: right ones, and those that nobody can decide.

Nothing here runs. What is only right by luck of the sizes is in `rejected_shapes.py`.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar, cast

import einops
import torch
from einops import rearrange, reduce, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cs336_basics.contracts import contract
from cs336_basics.ops.attention import causal_mask, scaled_dot_product_attention
from tests.typing.shapes import (
    Layer,
    Map,
    Pair,
    Vector,
    Weights,
    added,
    anything,
    attend,
    dot,
    embed,
    identity,
    linear,
    loss,
    matrix,
    mean,
    merge,
    pair,
    picture,
    same,
    shift,
    split,
    square,
    tables,
    turn,
    unknown,
    use,
)

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T", bound=Tensor)


def right_shapes(
    x: Float[Tensor, "*batch seq d_model"],
    ids: Int[Tensor, "*batch seq"],
    up: Float[Tensor, "d_ff d_model"],
    down: Float[Tensor, "d_model d_ff"],
    v: Float[Tensor, "d_model"],
) -> Tensor:
    hidden = linear(x, up)
    y = linear(hidden, down) + x
    loss(y, ids)
    loss(linear(y, up), ids)
    embed(ids, up)
    same(same(y))
    linear(v, up)
    dot(v, v)
    linear(x, weight=matrix(down))
    return linear(weight=down, x=hidden)


def variadics(
    x: Float[Tensor, "*batch seq d"],
    many: Float[Tensor, "*shape"],
    some: Float[Tensor, "... d"],
    w: Float[Tensor, "e d"],
) -> None:
    same(many)
    linear(some, w)
    linear(linear(some, w), matrix(w))
    attend(x, x, x)
    attend(some, some, some)
    anything(x, w)
    loss(linear(x, w), unknown())
    merge(some)
    matrix(some)


def broadcasting(
    q: Float[Tensor, "*batch queries d_k"],
    k: Float[Tensor, "*batch keys d_k"],
    mask: Bool[Tensor, "queries keys"],
    row: Bool[Tensor, "*batch 1 keys"],
    wide: Bool[Tensor, "1 1 keys"],
) -> None:
    attend(q, k, k, mask)
    attend(q, k, k, row)
    attend(q, k, k, wide)
    attend(q, k, k, None)
    attend(q, k, k, causal_mask(q.shape[-2], k.shape[-2]))
    scaled_dot_product_attention(q, k, k, mask, is_causal=True)


def sizes_computed(
    x: Float[Tensor, "*batch seq d_model"], halves: Float[Tensor, "*batch seq 2*half"], heads: int
) -> None:
    merged = merge(split(x, heads=heads))
    attend(merged, x, x)
    attend(merge(split(x, heads=4)), x, x)
    first, second = shift(x)
    attend(first, second, second)
    cos, sin = tables(x.shape[-2], half=heads)
    turn(halves, cos, sin)
    turn(x, cos, sin)
    turn(x, *tables(3, half=x.shape[-1] // 2))
    picture(torch.zeros(3, 8, 8))
    square(tables(9, half=9)[0])
    square(matrix(tables(9, half=9)[0]))


def not_known(x: Tensor, y: Any, w: Float[Tensor, "e d"], maybe: Float[Tensor, "d"] | None) -> None:
    linear(x, w)
    linear(y, w)
    linear(w, x)
    linear(unknown(), w)
    linear(x @ w, w)
    linear(torch.relu(w), w)
    if maybe is not None:
        linear(maybe, w)


def reassigned(x: Float[Tensor, "a b"], up: Float[Tensor, "c b"], turned: bool) -> None:
    if turned:
        x = matrix(x)
    linear(x, up)
    linear(x, matrix(x))
    y = x if turned else matrix(x)
    linear(y, up)
    z = up
    for _ in range(3):
        linear(z, matrix(up))
        z = matrix(z)
    linear(z, matrix(up))
    try:
        z = up
    except ValueError:
        z = matrix(up)
    matrix(z)
    linear(z, up)
    z = up
    linear(z, up)
    z = linear(z, up)
    linear(z, z)
    up.unsqueeze_(0)
    square(up)


def early(x: Float[Tensor, "a b"], turned: bool) -> Float[Tensor, "b a"]:
    if not turned:
        x = matrix(x)
        raise ValueError(x)
    return matrix(x)


def sizes_compared(x: Float[Tensor, "a b"], *, a: int = 1) -> None:
    if x.shape[0] == x.shape[1]:
        square(x)
    if a == 3:
        rearrange(x, "3 b -> b")


def ranks_compared(x: Float[Tensor, "*batch d"]) -> None:
    if x.ndim == 2:
        matrix(x)


def functions_within(x: Float[Tensor, "a b"], w: Float[Tensor, "c b"]) -> None:
    outer = same(x)

    def inner(y: Float[Tensor, "b a"]) -> Tensor:
        linear(x, y)
        return linear(outer, y)

    def later() -> Tensor:
        return linear(outer, w)

    inner(matrix(x))
    later()
    calls: list[Callable[[Tensor], Tensor]] = [lambda t: linear(t, w), lambda t: linear(x, w) + t]
    sorted([x, w], key=lambda t: float(square(t).sum()))
    [call(x) for call in calls]
    [linear(x, w) for x in (x, w)]


def decorated(fn: F) -> F:
    return fn


@decorated
@functools.cache
def cached(x: Float[Tensor, "a b"]) -> Float[Tensor, "b a"]:
    return x.mT


@decorated
@contract
def bare(x: Float[Tensor, "a b"]) -> Float[Tensor, "b a"]:
    return x.mT


def decorators(x: Float[Tensor, "p q"], w: Float[Tensor, "q p"]) -> None:
    attend(bare(x), w, w)
    cached(x)
    functools.partial(linear, weight=w)(w)
    torch.compile(linear)(x, x)
    list(map(matrix, [x, w]))


def fields(
    p: Pair, weights: Weights, q: Float[Tensor, "*batch queries d_k"], x: Float[Tensor, "*batch seq d_model"]
) -> None:
    attend(q, p.keys, p.values)
    attend(q, *p)
    use(p, q)
    keys, values = p
    attend(q, keys, values)
    made = pair(x)
    attend(x, made.keys, made.values)
    attend(made[0], made[1], made.keys)
    use(Pair(x, x), x)
    use(Pair(unknown(), x), unknown())
    linear(linear(x, weights.up), weights.down)
    linear(x, Weights(up=weights.up, down=weights.down, name="w").up)


class Holder(nn.Module, Generic[T]):
    table: Float[Tensor, "vocab d_model"]

    def __init__(self, weight: T, layer: Layer) -> None:
        super().__init__()
        self.weight, self.layer = weight, layer
        self.made = linear(weight, layer.weight)
        self.inner = nn.Linear(3, 4)

    def forward(self, ids: Int[Tensor, "*batch seq"], x: Float[Tensor, "*batch seq d_model"]) -> Iterator[Tensor]:
        yield embed(ids, self.table)
        yield linear(x, self.table)
        yield linear(x, self.weight)
        yield linear(self.layer.forward(x, seq=2), self.layer.weight)
        yield linear(self.inner(x), self.made)
        yield linear(self.layer.bias, Layer.transposed(self.layer.weight))


def generics(
    x: Float[Tensor, "a b"], w: Float[Tensor, "c b"], xs: list[Float[Tensor, "a b"]], maps: Map, t: Vector
) -> None:
    linear(identity(x), matrix(x))
    linear(identity(w), x)
    mean(xs)
    mean([x, x, *xs])
    mean((x, unknown()))
    added(x, *xs, x)
    added(*xs)
    linear(max(x, w), x)
    linear(min([x, w], key=len), x)
    linear(xs[0], w)
    for y in xs:
        linear(y, w)
    for y in (x, w):
        linear(y, x)
    maps(maps(x))
    dot(t, x.reshape(-1))
    anyone: Any = matrix(x)
    linear(cast(Float[Tensor, "c b"], anyone), w)
    if (made := linear(x, w)) is not None:
        linear(made, matrix(w))


def patterns(
    x: Float[Tensor, "*batch seq d_model"],
    y: Float[Tensor, "a b"],
    heads: int,
    w: Float[Tensor, "c b"],
    img: Float[Tensor, "3 h w"],
) -> None:
    rearrange(x, "... s (h d) -> ... h s d", h=heads)
    attend(rearrange(split(x, heads=heads), "... h s d -> ... s (h d)"), x, x)
    attend(rearrange(rearrange(x, "... s (h d) -> ... h s d", h=4), "... h s d -> ... s (h d)"), x, x)
    linear(rearrange(y, "i j -> j i"), matrix(y))
    linear(y, repeat(y[0], "j -> i j", i=5))
    dot(reduce(y, "i j -> j", "mean"), reduce(w, "i j -> j", "sum"))
    square(einops.einsum(y, w, w, y, "i j, k j, l m, n m -> i n"))
    linear(einops.einsum(y, w, "a b, c b -> a c"), matrix(w))
    einops.einsum(x, unknown(), w, "... i, j i, k l -> ... j k")
    picture(rearrange(img, "c h w -> c w h"))
    picture(repeat(y, "h w -> c h w", c=3))
    rearrange([y, y], "n i j -> i (n j)")
    matrix(reduce(img, "c (h 2) (w 2) -> h w", "max"))
    rearrange(unknown(), "b s d -> d s b")
    rearrange(y, "".join(["i j", "->", "j i"]))
    rearrange(y, "i j -> i 1 j ()")
