"""What the programs about shapes call, in a file of its own: its shapes must come through mypy's cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from jaxtyping import Bool, Float, Float32, Float64, Int
from torch import Tensor

from cs336_basics.contracts import contract

T = TypeVar("T")

Vector = Float[Tensor, "d"]


class Pair(NamedTuple):
    keys: Float[Tensor, "*batch seq d_k"]
    values: Float[Tensor, "*batch seq d_v"]


@dataclass(frozen=True)
class Weights:
    up: Float[Tensor, "d_ff d_model"]
    down: Float[Tensor, "d_model d_ff"]
    name: str = ""


class Map(Protocol):
    def __call__(self, x: Float[Tensor, "*batch d_in"]) -> Float[Tensor, "*batch d_out"]: ...


class Layer:
    weight: Float[Tensor, "d_out d_in"]

    def __init__(self, weight: Float[Tensor, "d_out d_in"]) -> None:
        self.weight = weight

    @contract
    def forward(self, x: Float[Tensor, "*batch d_in"], *, seq: int = 1) -> Float[Tensor, "*batch d_in"]:
        return x * seq

    @property
    def bias(self) -> Float[Tensor, "d_out"]:
        return self.weight[:, 0]

    @staticmethod
    @contract
    def transposed(weight: Float[Tensor, "d_out d_in"]) -> Float[Tensor, "d_in d_out"]:
        return weight.mT


@contract
def linear(x: Float[Tensor, "*batch d_in"], weight: Float[Tensor, "d_out d_in"]) -> Float[Tensor, "*batch d_out"]:
    return x @ weight.mT


@contract
def attend(
    q: Float[Tensor, "*batch queries d_k"],
    k: Float[Tensor, "*batch keys d_k"],
    v: Float[Tensor, "*batch keys d_v"],
    mask: Bool[Tensor, "*#batch #queries keys"] | None = None,
) -> Float[Tensor, "*batch queries d_v"]:
    return (q @ k.mT) @ v if mask is None else q @ k.mT.masked_fill(mask, 0) @ v


@contract
def embed(ids: Int[Tensor, "*batch"], weight: Float[Tensor, "vocab d_model"]) -> Float[Tensor, "*batch d_model"]:
    return weight[ids]


@contract
def split(x: Float[Tensor, "*batch seq heads*d_k"], *, heads: int) -> Float[Tensor, "*batch heads seq d_k"]:
    return x.reshape(*x.shape[:-1], heads, -1).transpose(-3, -2)


@contract
def merge(x: Float[Tensor, "*batch heads seq d_v"]) -> Float[Tensor, "*batch seq heads*d_v"]:
    return x.transpose(-3, -2).flatten(-2)


@contract
def shift(x: Float[Tensor, "*batch seq+1 d"]) -> tuple[Float[Tensor, "*batch seq d"], Float[Tensor, "*batch seq d"]]:
    return x[..., :-1, :], x[..., 1:, :]


@contract
def loss(
    logits: Float[Tensor, "*batch vocab"], targets: Int[Tensor, "*batch"]
) -> Float32[Tensor, ""] | Float64[Tensor, ""]:
    return logits.gather(-1, targets.unsqueeze(-1)).mean()


@contract
def tables(positions: int, *, half: int) -> tuple[Float[Tensor, "positions half"], Float[Tensor, "positions half"]]:
    raise NotImplementedError


@contract
def turn(
    x: Float[Tensor, "*batch seq 2*half"], cos: Float[Tensor, "positions half"], sin: Float[Tensor, "positions half"]
) -> Float[Tensor, "*batch seq 2*half"]:
    return x * cos * sin


@contract
def picture(x: Float[Tensor, "3 height width"]) -> Float[Tensor, "4 height width"]:
    return x


@contract
def matrix(x: Float[Tensor, "rows cols"]) -> Float[Tensor, "cols rows"]:
    return x.mT


@contract
def square(x: Float[Tensor, "n n"]) -> Float[Tensor, "n"]:
    return x[0]


@contract
def same(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return x


@contract
def anything(x: Float[Tensor, "... d"], y: Float[Tensor, "_ d"]) -> Float[Tensor, "d"]:
    return x.sum() + y[0]


@contract
def dot(x: Vector, y: Vector) -> Float[Tensor, ""]:
    return x @ y


@contract
def pair(x: Float[Tensor, "*batch seq d_model"]) -> Pair:
    return Pair(x, x)


@contract
def use(pair: Pair, q: Float[Tensor, "*batch queries d_k"]) -> Float[Tensor, "*batch queries d_v"]:
    return attend(q, pair.keys, pair.values)


@contract
def mean(tensors: Sequence[Float[Tensor, "rows cols"]]) -> Float[Tensor, "rows cols"]:
    return sum(tensors, start=tensors[0])


@contract
def added(*tensors: Float[Tensor, "rows cols"]) -> Float[Tensor, "rows cols"]:
    return mean(tensors)


def identity(x: T) -> T:
    return x


def unknown() -> Tensor:
    raise NotImplementedError
