"""Configs: what they refuse and how they say it, defaults, and the way to TOML and back."""

import dataclasses
import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.config import (
    ConfigError,
    DataConfig,
    ModelConfig,
    OptimizerConfig,
    RunConfig,
    TrainConfig,
    default_d_ff,
    from_dict,
    load_config,
    to_dict,
    to_toml,
)

NAN, INF = math.nan, math.inf
CLASSES = (ModelConfig, OptimizerConfig, TrainConfig, DataConfig, RunConfig)

# Each rule of __post_init__: the fields, and the whole message after the field's name.
REFUSED: list[tuple[type[Any], dict[str, Any], str]] = [
    (ModelConfig, {"vocab_size": 0}, "vocab_size must be at least 1, got 0"),
    (ModelConfig, {"context_length": 0}, "context_length must be at least 1, got 0"),
    (ModelConfig, {"d_model": -4}, "d_model must be at least 1, got -4"),
    (ModelConfig, {"n_layers": 0}, "n_layers must be at least 1, got 0"),
    (ModelConfig, {"n_heads": 0}, "n_heads must be at least 1, got 0"),
    (ModelConfig, {"n_heads": 7}, "n_heads must be a divisor of d_model = 512, got 7"),
    (ModelConfig, {"n_kv_heads": 3}, "n_kv_heads must be a divisor of n_heads = 16, got 3"),
    (ModelConfig, {"n_kv_heads": 0}, "n_kv_heads must be a divisor of n_heads = 16, got 0"),
    (
        ModelConfig,
        {"d_model": 9, "n_heads": 3},
        "n_heads must be a number that makes d_model / n_heads even, as rotary pairs need, got 3",
    ),
    (ModelConfig, {"d_ff": 0}, "d_ff must be at least 1, got 0"),
    (ModelConfig, {"rope_theta": 0}, "rope_theta must be above 0, got 0.0"),
    (ModelConfig, {"norm_eps": -1e-9}, "norm_eps must be at least 0, got -1e-09"),
    (ModelConfig, {"norm": "Pre"}, "norm must be one of 'pre', 'post', 'none', got 'Pre'"),
    (ModelConfig, {"norm": ["pre"]}, "norm must be one of 'pre', 'post', 'none', got ['pre']"),
    (ModelConfig, {"position": "alibi"}, "position must be one of 'rope', 'none', got 'alibi'"),
    (ModelConfig, {"ffn": None}, "ffn must be one of 'swiglu', 'silu', got None"),
    (OptimizerConfig, {"name": "lion"}, "name must be one of 'adamw', 'muon', 'sgd', got 'lion'"),
    (OptimizerConfig, {"schedule": "flat"}, "schedule must be one of 'cosine', 'linear', 'wsd', got 'flat'"),
    (OptimizerConfig, {"lr": -1e-3}, "lr must be at least 0 and finite, got -0.001"),
    (OptimizerConfig, {"beta1": 1.0}, "beta1 must be in [0, 1), got 1.0"),
    (OptimizerConfig, {"beta2": -0.1}, "beta2 must be in [0, 1), got -0.1"),
    (OptimizerConfig, {"momentum": 1}, "momentum must be in [0, 1), got 1.0"),
    (OptimizerConfig, {"min_lr_ratio": 1.5}, "min_lr_ratio must be in [0, 1], got 1.5"),
    (OptimizerConfig, {"warmup_ratio": -0.1}, "warmup_ratio must be in [0, 1], got -0.1"),
    (OptimizerConfig, {"eps": -1.0}, "eps must be at least 0, got -1.0"),
    (OptimizerConfig, {"weight_decay": -1.0}, "weight_decay must be at least 0, got -1.0"),
    (OptimizerConfig, {"max_grad_norm": 0}, "max_grad_norm must be above 0 (use inf for no clipping), got 0.0"),
    *(
        (TrainConfig, {name: 0}, f"{name} must be at least 1, got 0")
        for name in ("steps", "batch_size", "log_every", "eval_every", "eval_batches", "save_every", "keep_checkpoints")
    ),
    (TrainConfig, {"grad_accumulation": 0}, "grad_accumulation must be at least 1, got 0"),
    (TrainConfig, {"grad_accumulation": 5}, "grad_accumulation must be a divisor of batch_size = 32, got 5"),
    (TrainConfig, {"seed": -1}, "seed must be at least 0 and below 2**63, got -1"),
    (TrainConfig, {"seed": 2**63}, f"seed must be at least 0 and below 2**63, got {2**63}"),
    (TrainConfig, {"z_loss": -1.0}, "z_loss must be at least 0, got -1.0"),
    (TrainConfig, {"peak_flops": 0}, "peak_flops must be above 0, got 0.0"),
    (TrainConfig, {"sampling": "all"}, "sampling must be one of 'shuffle', 'random', got 'all'"),
    (TrainConfig, {"dtype": "float16"}, "dtype must be one of 'float32', 'bfloat16', 'auto', got 'float16'"),
    (DataConfig, {"valid_share": 0.0}, "valid_share must be above 0 and below 1, got 0.0"),
    (DataConfig, {"valid_share": 1}, "valid_share must be above 0 and below 1, got 1.0"),
    # Types.
    (ModelConfig, {"d_model": 64.0}, "d_model must be a whole number, got 64.0"),
    (ModelConfig, {"d_model": "64"}, "d_model must be a whole number, got '64'"),
    (ModelConfig, {"d_model": True}, "d_model must be a whole number, got True"),
    (ModelConfig, {"d_model": None}, "d_model must be a whole number, got None"),
    (ModelConfig, {"d_ff": 1.5}, "d_ff must be a whole number or absent, got 1.5"),
    (ModelConfig, {"n_kv_heads": True}, "n_kv_heads must be a whole number or absent, got True"),
    (ModelConfig, {"qk_norm": 1}, "qk_norm must be true or false, got 1"),
    (ModelConfig, {"rope_theta": "1e4"}, "rope_theta must be a number, got '1e4'"),
    (OptimizerConfig, {"lr": True}, "lr must be a number, got True"),
    (TrainConfig, {"peak_flops": "1e12"}, "peak_flops must be a number or absent, got '1e12'"),
    (TrainConfig, {"device": 0}, "device must be a text, got 0"),
    (DataConfig, {"train": None}, "train must be a text, got None"),
]


@pytest.mark.parametrize(("cls", "values", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_refused(cls: type[Any], values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        cls(**values)
    assert str(raised.value) == message
    with pytest.raises(ConfigError) as raised:
        from_dict(cls, values, where="a.toml")
    assert str(raised.value) == f"a.toml: {message}"


FLOATS = [
    (cls, field.name) for cls in CLASSES for field in dataclasses.fields(cls) if field.type in (float, float | None)
]
assert len(FLOATS) >= 12


@pytest.mark.parametrize(("cls", "name"), FLOATS)
def test_nan_is_refused_everywhere(cls: type[Any], name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name} must be a number.*, got nan$"):
        cls(**{name: NAN})


def test_an_int_serves_as_a_float() -> None:
    config = OptimizerConfig(lr=1, max_grad_norm=INF)
    assert isinstance(config.lr, float)
    assert config == OptimizerConfig(lr=1.0, max_grad_norm=INF)
    assert isinstance(TrainConfig(peak_flops=10**12).peak_flops, float)


def test_nested_configs_are_configs() -> None:
    with pytest.raises(ConfigError, match=r"^model must be .*ModelConfig.*, got "):
        RunConfig(model={"d_model": 64})  # type: ignore[arg-type]  # what must be refused


def test_odd_heads_need_no_rope() -> None:
    assert ModelConfig(d_model=9, n_heads=3, position="none").d_head == 3


@pytest.mark.parametrize("cls", CLASSES)
def test_frozen_and_keyword_only(cls: type[Any]) -> None:
    name = dataclasses.fields(cls)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(cls(), name, None)
    with pytest.raises(TypeError, match="positional"):
        cls(getattr(cls(), name))


@given(st.integers(1, 100_000))
def test_default_width_of_swiglu(d_model: int) -> None:
    """The smallest multiple of 64 that is at least 8/3 · d_model."""
    width = default_d_ff(d_model)
    assert width % 64 == 0
    assert 3 * (width - 64) < 8 * d_model <= 3 * width
    assert ModelConfig(d_model=d_model, n_heads=1, position="none").ffn_width == width


def test_widths() -> None:
    assert ModelConfig(d_model=64, n_heads=4, ffn="silu").ffn_width == 256
    assert ModelConfig(d_model=64, n_heads=4, d_ff=10).ffn_width == 10
    assert (ModelConfig(d_model=64, n_heads=4).d_head, ModelConfig(d_model=64, n_heads=4).kv_heads) == (16, 4)
    assert ModelConfig(d_model=64, n_heads=4, n_kv_heads=2).kv_heads == 2


positive = st.floats(min_value=0, exclude_min=True)
share = st.floats(0, 1)
memory = st.floats(0, 1, exclude_max=True)
counts = st.integers(1, 2**40)


@st.composite
def models(draw: st.DrawFn) -> ModelConfig:
    n_kv_heads, group, half_head = (draw(st.integers(1, 8)) for _ in range(3))
    return ModelConfig(
        vocab_size=draw(counts),
        d_model=2 * half_head * n_kv_heads * group,
        n_heads=n_kv_heads * group,
        n_kv_heads=draw(st.sampled_from([None, n_kv_heads])),
        d_ff=draw(st.none() | counts),
        rope_theta=draw(positive),
        norm_eps=draw(share),
        norm=draw(st.sampled_from(["pre", "post", "none"])),
        position=draw(st.sampled_from(["rope", "none"])),
        ffn=draw(st.sampled_from(["swiglu", "silu"])),
        tie_embeddings=draw(st.booleans()),
        qk_norm=draw(st.booleans()),
        fuse_qkv=draw(st.booleans()),
    )


optimizers = st.builds(
    OptimizerConfig,
    name=st.sampled_from(["adamw", "muon", "sgd"]),
    lr=share,
    min_lr_ratio=share,
    schedule=st.sampled_from(["cosine", "linear", "wsd"]),
    warmup_ratio=share,
    beta1=memory,
    beta2=memory,
    momentum=memory,
    eps=share,
    weight_decay=share,
    max_grad_norm=positive,
)
trains = st.builds(
    TrainConfig,
    steps=counts,
    batch_size=counts,
    seed=st.integers(0, 2**63 - 1),
    sampling=st.sampled_from(["shuffle", "random"]),
    device=st.text(),
    dtype=st.sampled_from(["float32", "bfloat16", "auto"]),
    kernels=st.booleans(),
    compile=st.booleans(),
    matmul_precision=st.sampled_from(["highest", "high", "medium"]),
    peak_flops=st.none() | positive,
)
between = st.floats(0, 1, exclude_min=True, exclude_max=True)
sources = st.builds(DataConfig, train=st.text(), valid=st.text(), valid_share=between, tokenizer=st.text())
runs = st.builds(RunConfig, model=models(), optimizer=optimizers, train=trains, data=sources)


@settings(deadline=None, max_examples=150)
@given(runs)
def test_toml_round_trip(tmp_path_factory: pytest.TempPathFactory, run: RunConfig) -> None:
    path = tmp_path_factory.getbasetemp() / "run.toml"
    path.write_text(to_toml(run), encoding="utf-8")
    assert load_config(RunConfig, path) == run
    assert from_dict(RunConfig, to_dict(run)) == run


def test_toml_is_for_people() -> None:
    text = to_toml(RunConfig(model=ModelConfig(d_model=64, n_heads=4)))
    assert "[model]\n" in text
    assert "d_model = 64\n" in text
    assert "n_kv_heads" not in text  # TOML has no None: absent is the default


@pytest.mark.parametrize(
    ("cls", "name", "nearest"),
    [
        (ModelConfig, "d_modle", "d_model"),
        (ModelConfig, "n_layer", "n_layers"),
        (OptimizerConfig, "weightdecay", "weight_decay"),
        (TrainConfig, "batchsize", "batch_size"),
        (DataConfig, "tokeniser", "tokenizer"),
        (RunConfig, "optimiser", "optimizer"),
    ],
)
def test_a_typo_is_told_the_nearest_name(cls: type[Any], name: str, nearest: str) -> None:
    with pytest.raises(ConfigError) as raised:
        from_dict(cls, {name: 1})
    assert str(raised.value) == f"{name} is not a field of {cls.__name__}; did you mean {nearest}?"


def test_a_name_like_no_other_is_told_all_names() -> None:
    with pytest.raises(ConfigError) as raised:
        from_dict(DataConfig, {"zzz": 1})
    assert str(raised.value) == (
        "zzz is not a field of DataConfig; its fields are train, valid, valid_share, tokenizer, verify"
    )


def test_never_imports_torch() -> None:
    code = "import sys, cs336_basics.config as c; c.to_toml(c.RunConfig()); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
