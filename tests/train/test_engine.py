"""The engine: whatever a config chooses, the same losses, the same weights under the same names."""

import shutil
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from cs336_basics import kernels, ops
from cs336_basics.config import ConfigError, RunConfig, TrainConfig
from cs336_basics.train import engine
from cs336_basics.train.step import loss_fn, train_step
from tests.train.runs import config
from tests.train.tiny import MODEL, each_optimizer, tiny_batch, tiny_model

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"tie_embeddings": True},
    "grouped, fused": {"n_kv_heads": 2, "fuse_qkv": True},
    "post-norm, qk-norm, no rope": {"norm": "post", "qk_norm": True, "position": "none", "ffn": "silu"},
}


def run_config(variant: str = "plain", *, optimizer: str = "adamw", **changes: Any) -> RunConfig:
    return replace(config(optimizer=optimizer, **changes), model=replace(MODEL, **VARIANTS[variant]))


def twenty_steps(
    settings: RunConfig,
    *,
    specification: bool = False,
    dtype: torch.dtype = torch.float32,
    autocast: torch.dtype | None = None,
) -> tuple[list[float], dict[str, Tensor]]:
    """Losses and last weights; those of the specification by a model and a loss that no engine made."""
    if specification:
        model = tiny_model(settings.model).to(dtype)
        loss = loss_fn(model, z_loss=settings.train.z_loss)
    else:
        model = engine.build_model(settings, generator=torch.Generator().manual_seed(0)).to(dtype)
        loss, _ = engine.build_losses(model, settings.train)
    optimizer = engine.build_update(model, settings)
    for group in optimizer.param_groups:  # Muon's bfloat16 would round both sides of a comparison
        group.update({"ns_dtype": dtype} if "ns_dtype" in group else {})
    losses = []
    for step in range(20):
        result = train_step(loss, optimizer, tiny_batch(seed=step), lr=1e-2, max_grad_norm=1.0, autocast=autocast)
        losses.append(float(result.loss))
    return losses, model.state_dict()


def assert_near(ours: dict[str, Tensor], theirs: dict[str, Tensor], atol: float) -> None:
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        torch.testing.assert_close(value, theirs[key], rtol=0, atol=atol)


# Equal


@each_optimizer
@pytest.mark.parametrize("variant", VARIANTS)
def test_twenty_steps_equal_the_specification(variant: str, name: str) -> None:
    settings = run_config(variant, optimizer=name, z_loss=1e-3)
    ours, weights = twenty_steps(settings, dtype=torch.float64)
    theirs, expected = twenty_steps(settings, dtype=torch.float64, specification=True)
    # train_step sums losses in float32.
    assert ours == pytest.approx(theirs, rel=1e-6)
    assert_near(weights, expected, 1e-9)


@pytest.mark.parametrize(
    ("autocast", "loss_rtol", "weight_atol"),
    # AdamW's step is lr whatever the size of a gradient: where rounding decides the sign, a weight is two lr off.
    [(None, 1e-5, 1e-3), (torch.bfloat16, 5e-3, 0.2)],
)
def test_twenty_steps_in_narrow_dtypes(autocast: torch.dtype | None, loss_rtol: float, weight_atol: float) -> None:
    ours, weights = twenty_steps(run_config(), autocast=autocast)
    theirs, expected = twenty_steps(run_config(), autocast=autocast, specification=True)
    assert ours == pytest.approx(theirs, rel=loss_rtol)
    assert_near(weights, expected, weight_atol)


needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))), reason="torch.compile on a CPU needs a C++ compiler"
)


@pytest.mark.slow
@needs_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # the compiler's own
@pytest.mark.parametrize(("autocast", "loss_rtol"), [(None, 1e-5), (torch.bfloat16, 5e-3)])
@pytest.mark.parametrize("kernels", [True, False])
def test_twenty_compiled_steps(kernels: bool, autocast: torch.dtype | None, loss_rtol: float) -> None:
    torch.compiler.reset()
    ours, weights = twenty_steps(run_config(compile=True, kernels=kernels), autocast=autocast)
    theirs, expected = twenty_steps(run_config(), autocast=autocast, specification=True)
    assert ours == pytest.approx(theirs, rel=loss_rtol)
    assert_near(weights, expected, 1e-3 if autocast is None else 0.2)


# What the config chooses


@pytest.mark.parametrize(("chosen", "room"), [(True, kernels), (False, ops)])
def test_the_config_chooses_the_room(chosen: bool, room: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    for part, name in (("attention", "scaled_dot_product_attention"), ("loss", "linear_cross_entropy")):
        for place in (kernels, ops):
            module = getattr(place, part)
            inner = getattr(module, name)

            def watch(*args: Any, inner: Any = inner, place: Any = place, name: str = name, **options: Any) -> Any:
                called.append(f"{place.__name__}.{name}")
                return inner(*args, **options)

            monkeypatch.setattr(module, name, watch)
    settings = run_config(kernels=chosen)
    model = engine.build_model(settings)
    for loss in engine.build_losses(model, settings.train):
        loss(*tiny_batch())
    names = [f"{room.__name__}.scaled_dot_product_attention"] * 2 + [f"{room.__name__}.linear_cross_entropy"]
    assert called == names * 2


def test_a_short_context_compiled_in_bfloat16_has_its_attention_whole() -> None:
    def attention_of(settings: RunConfig) -> Any:
        block: Any = engine.build_model(settings).layers[0]
        return block.attn.attention_fn

    whole = run_config(compile=True, dtype="bfloat16")
    assert attention_of(whole) is ops.attention.scaled_dot_product_attention
    longer = replace(whole, model=replace(MODEL, context_length=engine.SHORT + 1))
    for settings in (run_config(compile=True), run_config(dtype="bfloat16"), longer):
        assert attention_of(settings) is kernels.attention.scaled_dot_product_attention


def test_the_loss_to_report_has_no_z_loss() -> None:
    settings = run_config(z_loss=0.1)
    model = engine.build_model(settings)
    trained, reported = (float(loss(*tiny_batch()).detach()) for loss in engine.build_losses(model, settings.train))
    assert trained > reported + 0.1
    assert reported == pytest.approx(float(loss_fn(model)(*tiny_batch()).detach()), rel=1e-6)


def test_compiling_without_a_compiler_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    settings = run_config(compile=True)
    with pytest.raises(ConfigError, match=r"^train\.compile must be false where there is no C\+\+ compiler"):
        engine.build_losses(engine.build_model(settings), settings.train)


@pytest.mark.parametrize("level", ["highest", "high", "medium"])
def test_matmul_precision_lasts_as_long_as_its_block(level: Any) -> None:
    before = torch.get_float32_matmul_precision()
    with engine.matmul_precision(TrainConfig(matmul_precision=level)):
        assert torch.get_float32_matmul_precision() == level
    assert torch.get_float32_matmul_precision() == before == "highest"
