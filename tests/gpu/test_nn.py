"""Every module of `nn` on the device: values and gradients against the same weights in float64 on the CPU."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest
import torch
from torch import Tensor, nn

from cs336_basics.config import ModelConfig
from cs336_basics.nn.attention import MultiHeadSelfAttention, RotaryEmbedding
from cs336_basics.nn.block import TransformerBlock
from cs336_basics.nn.layers import (
    Embedding,
    Identity,
    Linear,
    RMSNorm,
    SiLUFeedForward,
    SwiGLU,
    linear_std,
)
from cs336_basics.nn.model import TransformerLM
from tests.gpu.cases_ops import (
    BLOCK,
    BLOCK_TERMS,
    D_FF,
    D_K,
    D_MODEL,
    GATE,
    HEADS,
    HEADS_ALL,
    MODEL,
    MODEL_TERMS,
    SEQ,
    VOCAB,
)
from tests.gpu.compare import DTYPES, GRADIENT, ON_DEVICE, assert_close, bound, covers, integers, normal

pytestmark = ON_DEVICE

CONFIG: Final = ModelConfig(vocab_size=VOCAB, context_length=16, d_model=D_MODEL, n_layers=2, n_heads=HEADS, d_ff=D_FF)
CONFIGS: Final = {
    "pre-norm": CONFIG,
    "post-norm": replace(CONFIG, norm="post"),
    "no norm": replace(CONFIG, norm="none"),
    "no positions": replace(CONFIG, position="none"),
    "silu": replace(CONFIG, ffn="silu"),
    "tied embeddings": replace(CONFIG, tie_embeddings=True),
    "grouped heads, fused, normalised": replace(CONFIG, n_kv_heads=2, fuse_qkv=True, qk_norm=True),
}


@dataclass(frozen=True, kw_only=True)
class ModuleCase:
    """A module with weights drawn in `dtype` on `device`, and what it is called on; see compare.Case."""

    of: type[nn.Module]
    name: str
    make: Callable[..., nn.Module]  # (device=, dtype=, generator=) -> module
    inputs: Callable[[], tuple[Tensor, ...]]
    roundings: int
    terms: int = 0

    def __post_init__(self) -> None:
        covers(self.of)


def x_inputs() -> tuple[Tensor, ...]:
    return (normal(2, SEQ, D_MODEL),)


def norm(*, device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> nn.Module:
    del generator  # weights of one
    return RMSNorm(D_MODEL, device=device, dtype=dtype)


def attention(*, device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> nn.Module:
    rotary = RotaryEmbedding(D_K, 16, device=device, dtype=dtype)
    return MultiHeadSelfAttention(
        D_MODEL,
        HEADS,
        n_kv_heads=2,
        rotary=rotary,
        qk_norm=True,
        fuse_qkv=True,
        device=device,
        dtype=dtype,
        generator=generator,
    )


def rotary(*, device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> nn.Module:
    del generator
    return RotaryEmbedding(D_K, 40, device=device, dtype=dtype)


def block(config: ModelConfig) -> Callable[..., nn.Module]:
    def make(*, device: torch.device, dtype: torch.dtype, generator: torch.Generator) -> nn.Module:
        tables = RotaryEmbedding(D_K, 16, device=device, dtype=dtype) if config.position == "rope" else None
        return TransformerBlock(config, rotary=tables, device=device, dtype=dtype, generator=generator)

    return make


def model(config: ModelConfig) -> Callable[..., nn.Module]:
    return lambda **options: TransformerLM(config, **options)


MODULES: Final = (
    ModuleCase(
        of=Linear,
        name="Linear",
        make=lambda **o: Linear(D_MODEL, D_FF, **o),
        inputs=x_inputs,
        roundings=2,
        terms=D_MODEL,
    ),
    ModuleCase(
        of=Embedding,
        name="Embedding",
        make=lambda **o: Embedding(VOCAB, D_MODEL, **o),
        inputs=lambda: (integers(VOCAB, 2, SEQ),),
        roundings=1,
    ),
    ModuleCase(of=RMSNorm, name="RMSNorm", make=norm, inputs=x_inputs, roundings=1, terms=D_MODEL),
    ModuleCase(of=Identity, name="Identity", make=lambda **_: Identity(), inputs=x_inputs, roundings=0),
    ModuleCase(
        of=SwiGLU,
        name="SwiGLU",
        make=lambda **o: SwiGLU(D_MODEL, D_FF, **o),
        inputs=x_inputs,
        roundings=GATE,
        terms=D_MODEL + D_FF,
    ),
    ModuleCase(
        of=SiLUFeedForward,
        name="SiLUFeedForward",
        make=lambda **o: SiLUFeedForward(D_MODEL, D_FF, **o),
        inputs=x_inputs,
        roundings=GATE - 1,
        terms=D_MODEL + D_FF,
    ),
    ModuleCase(
        of=RotaryEmbedding,
        name="RotaryEmbedding",
        make=rotary,
        inputs=lambda: (normal(2, HEADS, SEQ, D_K), integers(40, 2, 1, SEQ)),
        roundings=3,
    ),
    ModuleCase(
        of=MultiHeadSelfAttention,
        name="MultiHeadSelfAttention",
        make=attention,
        inputs=x_inputs,
        roundings=HEADS_ALL,
        terms=2 * D_MODEL + D_K + 2 * SEQ,
    ),
    *(
        ModuleCase(
            of=TransformerBlock,
            name=f"block, {name}",
            make=block(config),
            inputs=x_inputs,
            roundings=BLOCK,
            terms=BLOCK_TERMS,
        )
        for name, config in CONFIGS.items()
    ),
    *(
        ModuleCase(
            of=TransformerLM,
            name=f"model, {name}",
            make=model(config),
            inputs=lambda: (integers(VOCAB, 2, SEQ),),
            roundings=MODEL,
            terms=MODEL_TERMS,
        )
        for name, config in CONFIGS.items()
    ),
)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", MODULES, ids=lambda case: case.name)
def test_agrees_with_float64_on_the_cpu(case: ModuleCase, dtype: torch.dtype, gpu_device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    module = case.make(device="cpu", dtype=dtype, generator=generator).to(gpu_device)
    reference = copy.deepcopy(module).to("cpu", torch.float64)
    inputs = [x.to(dtype) if x.is_floating_point() else x for x in case.inputs()]
    found = run(module, [x.to(gpu_device) for x in inputs])
    exact = run(reference, [x.double() if x.is_floating_point() else x for x in inputs])
    assert found.keys() == exact.keys()
    for name, got in found.items():
        factor = GRADIENT if name.startswith("gradient") else 1
        within = bound(dtype, roundings=case.roundings, terms=case.terms, factor=factor)
        assert_close(got, exact[name], device=gpu_device, within=within, what=f"{case.name}, {dtype}, {name}")


def run(module: nn.Module, inputs: list[Tensor]) -> dict[str, Tensor]:
    """The results of a call, and the gradients of weights and inputs."""
    leaves = [x.clone().requires_grad_(x.is_floating_point()) for x in inputs]
    returned = module(*leaves)
    results = flatten(returned)
    named: dict[str, Tensor] = {f"gradient of {name}": weight for name, weight in module.named_parameters()}
    named |= {f"gradient of input {i}": leaf for i, leaf in enumerate(leaves) if leaf.requires_grad}
    weights = [normal(*r.shape, seed=9, dtype=torch.bfloat16).to(r.device, r.dtype) for r in results]
    gradients = torch.autograd.grad(results, list(named.values()), weights)
    found = {f"result {index}": result for index, result in enumerate(results)}
    return found | dict(zip(named, gradients, strict=True))


def flatten(returned: Any) -> list[Tensor]:
    """A module's result and, where it gives one, its cache."""
    return [returned] if isinstance(returned, Tensor) else [part for value in returned for part in flatten(value)]


@covers(linear_std)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_weights_drawn_on_the_device_have_the_stated_distribution(dtype: torch.dtype, gpu_device: torch.device) -> None:
    generator = torch.Generator(gpu_device).manual_seed(0)
    weight = Linear(300, 500, device=gpu_device, dtype=dtype, generator=generator).weight
    table = Embedding(400, 300, device=gpu_device, dtype=dtype, generator=generator).weight
    # Cutting a normal distribution at three standard deviations leaves 0.9866 of one; 120,000 draws tell it to 0.3 %.
    for drawn, std in ((weight, linear_std(300, 500)), (table, 1.0)):
        assert drawn.device == gpu_device
        assert drawn.dtype == dtype
        wide = drawn.detach().double()
        assert abs(wide.std().item() / (0.9866 * std) - 1) < 0.015
        assert abs(wide.mean().item()) < 0.015 * std
        assert 2.5 * std < wide.abs().max().item() <= 3 * std * (1 + 2**-8)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_model_made_on_the_device_stays_there(config: ModelConfig, gpu_device: torch.device) -> None:
    model = TransformerLM(config, device=gpu_device, dtype=torch.bfloat16)
    tensors = [*model.parameters(), *model.buffers()]
    logits, cache = model.extend(torch.zeros(1, 3, dtype=torch.int64, device=gpu_device))
    assert {tensor.device for tensor in (*tensors, logits, *flatten(cache))} == {gpu_device}


def test_moving_a_model_keeps_the_rotary_tables_exact(gpu_device: torch.device) -> None:
    made_there = RotaryEmbedding(D_K, 4096, device=gpu_device)
    moved = RotaryEmbedding(D_K, 4096).to(gpu_device, torch.bfloat16)
    for name, table in moved.named_buffers():
        assert table.device == gpu_device
        assert torch.equal(table, made_there.get_buffer(name))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_cache_gives_what_the_whole_sequence_gives(dtype: torch.dtype, gpu_device: torch.device) -> None:
    model = TransformerLM(CONFIG, dtype=dtype, generator=torch.Generator().manual_seed(0)).to(gpu_device)
    ids = integers(VOCAB, 2, SEQ).to(gpu_device)
    with torch.no_grad():
        whole = model(ids)
        first, cache = model.extend(ids[:, :7])
        parts = [first]
        for at in range(7, SEQ):
            logits, cache = model.extend(ids[:, at : at + 1], cache)
            parts.append(logits)
    within = bound(dtype, roundings=MODEL, terms=MODEL_TERMS, factor=2)
    assert_close(
        torch.cat(parts, dim=1), whole.double().cpu(), device=gpu_device, within=within, what=f"cached, {dtype}"
    )
