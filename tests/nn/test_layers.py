"""Layers without structure: each is its operation with weights, and the weights start as stated."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cs336_basics.contracts import ContractError
from cs336_basics.nn import Embedding, Linear, RMSNorm, SiLUFeedForward, SwiGLU
from cs336_basics.nn.layers import Identity, linear_std
from cs336_basics.ops.feed_forward import silu_feed_forward, swiglu
from cs336_basics.ops.linear import embedding, linear
from cs336_basics.ops.norm import rms_norm

BATCHES = pytest.mark.parametrize("batch", [(), (4,), (2, 0), (2, 3)], ids=str)

# Cutting a normal distribution at three standard deviations leaves this much of its standard deviation.
CUT = math.sqrt(1 - 6 * math.exp(-4.5) / math.sqrt(2 * math.pi) / math.erf(3 / math.sqrt(2)))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@BATCHES
def test_linear_is_its_operation(batch: tuple[int, ...]) -> None:
    layer, x = Linear(5, 7), torch.randn(*batch, 5)
    assert torch.equal(layer(x), linear(x, layer.weight))


@BATCHES
def test_embedding_is_its_operation(batch: tuple[int, ...]) -> None:
    layer, ids = Embedding(11, 5), torch.randint(11, batch)
    assert torch.equal(layer(ids), embedding(ids, layer.weight))


@BATCHES
@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_rms_norm_is_its_operation(batch: tuple[int, ...], eps: float) -> None:
    layer, x = RMSNorm(5, eps=eps), torch.randn(*batch, 5)
    nn.init.normal_(layer.weight)
    assert torch.equal(layer(x), rms_norm(x, layer.weight, eps=eps))


@BATCHES
def test_swiglu_is_its_operation(batch: tuple[int, ...]) -> None:
    layer, x = SwiGLU(5, 7), torch.randn(*batch, 5)
    assert torch.equal(layer(x), swiglu(x, layer.w1.weight, layer.w2.weight, layer.w3.weight))


@BATCHES
def test_silu_feed_forward_is_its_operation(batch: tuple[int, ...]) -> None:
    layer, x = SiLUFeedForward(5, 7), torch.randn(*batch, 5)
    assert torch.equal(layer(x), silu_feed_forward(x, layer.w1.weight, layer.w2.weight))


def test_identity_returns_what_it_is_given() -> None:
    x = torch.randn(2, 3)
    assert Identity()(x) is x
    assert not Identity().state_dict()


SHAPES: dict[str, tuple[Callable[..., nn.Module], dict[str, tuple[int, ...]]]] = {
    "linear": (lambda **to: Linear(5, 7, **to), {"weight": (7, 5)}),
    "embedding": (lambda **to: Embedding(5, 7, **to), {"weight": (5, 7)}),
    "rms_norm": (lambda **to: RMSNorm(5, **to), {"weight": (5,)}),
    "swiglu": (
        lambda **to: SwiGLU(5, 7, **to),
        {"w1.weight": (7, 5), "w2.weight": (5, 7), "w3.weight": (7, 5)},
    ),
    "silu": (lambda **to: SiLUFeedForward(5, 7, **to), {"w1.weight": (7, 5), "w2.weight": (5, 7)}),
}


@pytest.mark.parametrize("case", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_owns_weights_of_these_shapes_where_it_is_told(case: str, dtype: torch.dtype) -> None:
    build, shapes = SHAPES[case]
    state = build(device="meta", dtype=dtype).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == shapes
    assert all(value.dtype == dtype and value.device.type == "meta" for value in state.values())
    layer = build(dtype=dtype)
    assert all(parameter.requires_grad for parameter in layer.parameters())
    assert build(dtype=dtype).load_state_dict(layer.state_dict()).missing_keys == []


def test_linear_starts_from_a_truncated_normal_of_variance_2_over_in_plus_out() -> None:
    assert linear_std(300, 700) == math.sqrt(2 / 1000)
    _check_truncated_normal(Linear(300, 700).weight, math.sqrt(2 / 1000))
    layer = SwiGLU(300, 700)
    for part in (layer.w1, layer.w2, layer.w3):
        _check_truncated_normal(part.weight, math.sqrt(2 / 1000))


def test_embedding_starts_from_a_truncated_normal_of_variance_1() -> None:
    _check_truncated_normal(Embedding(700, 300).weight, 1.0)
    _check_truncated_normal(Embedding(700, 300, std=0.1).weight, 0.1)


def test_rms_norm_starts_at_one() -> None:
    assert torch.equal(RMSNorm(5).weight, torch.ones(5))


@pytest.mark.parametrize("case", ["linear", "embedding", "swiglu", "silu"])
def test_the_generator_decides_the_weights(case: str) -> None:
    build, _ = SHAPES[case]
    before = torch.get_rng_state()
    first, again, other = (build(generator=torch.Generator().manual_seed(seed)).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before), "the global generator must stay as it was"
    for name, value in first.items():
        assert torch.equal(value, again[name])
        assert not torch.equal(value, other[name])
    assert len({float(value.flatten()[0]) for value in first.values()}) == len(first), "each weight has its own draw"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Linear(0, 3), "Linear: d_in and d_out must be at least 1, got 0 and 3"),
        (lambda: Linear(3, -1), "Linear: d_in and d_out must be at least 1, got 3 and -1"),
        (lambda: Embedding(0, 3), "Embedding: vocab_size and d_model must be at least 1, got 0 and 3"),
        (lambda: RMSNorm(0), "RMSNorm: d_model must be at least 1, got 0"),
        (lambda: RMSNorm(3, eps=-1e-5), "RMSNorm: eps must be at least 0, got -1e-05"),
        (lambda: SwiGLU(3, 0), "Linear: d_in and d_out must be at least 1, got 3 and 0"),
        (lambda: Linear(5, 7)(torch.ones(2, 4)), "linear: weight must be Float[Tensor, 'd_out d_in'] where d_in=4"),
        (lambda: Linear(5, 7)(torch.ones(2, 5).long()), ": x must be Float[Tensor, '*batch d_in']"),
        (lambda: Linear(5, 7)(torch.ones(())), ": x must be Float[Tensor, '*batch d_in']"),
        (lambda: Embedding(5, 7)(torch.ones(2)), ": ids must be Int[Tensor, '*batch']"),
        (lambda: Embedding(5, 7)(torch.tensor([5])), "embedding: ids must be in [0, 5)"),
        (lambda: Embedding(5, 7)(torch.tensor([-1])), "embedding: ids must be in [0, 5)"),
        (lambda: RMSNorm(5)(torch.ones(2, 4)), "rms_norm: weight must be Float[Tensor, 'd_model'] where d_model=4"),
        (lambda: SwiGLU(5, 7)(torch.ones(2, 4)), "swiglu: w1 must be Float[Tensor, 'd_ff d_model'] where d_model=4"),
        (lambda: SiLUFeedForward(5, 7)(torch.ones(4)), "silu_feed_forward: w1 must be Float[Tensor, 'd_ff d_model']"),
    ],
)
def test_refuses(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ContractError) as caught:
        build()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (Linear(5, 7), "Linear(d_in=5, d_out=7)"),
        (Embedding(5, 7), "Embedding(vocab_size=5, d_model=7)"),
        (RMSNorm(5), "RMSNorm(d_model=5, eps=1e-05)"),
    ],
)
def test_says_its_sizes(layer: nn.Module, text: str) -> None:
    assert repr(layer) == text


def _check_truncated_normal(weight: Tensor, std: float) -> None:
    """Bounds, mean, deviation and two quantiles, each within five standard errors of 210,000 draws."""
    w = (weight.detach() / std).double()
    n = w.numel()
    assert n == 210_000
    assert 2.9 < w.abs().max() <= 3 + 1e-6
    assert abs(w.mean()) < 5 / math.sqrt(n)
    assert abs(w.std() / CUT - 1) < 5 / math.sqrt(2 * n)
    for bound in (1, 2):
        share = math.erf(bound / math.sqrt(2)) / math.erf(3 / math.sqrt(2))
        assert abs((w.abs() < bound).double().mean() - share) < 5 * math.sqrt(share * (1 - share) / n)
