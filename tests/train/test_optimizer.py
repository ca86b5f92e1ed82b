"""From config to optimizer and rate: every parameter once, decay on matrices only, exact ends of the schedule."""

import itertools
import math
from collections import Counter
from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.config import ModelConfig, OptimizerConfig
from cs336_basics.optim import SGD, AdamW, Muon
from cs336_basics.train.optimizer import build_optimizer, learning_rate
from tests.train.tiny import MODEL, each_optimizer, optimizer_config, tiny_model

MODELS = {
    "plain": MODEL,
    "tied": replace(MODEL, tie_embeddings=True),
    "qk_norm": replace(MODEL, qk_norm=True),
    "no norm": replace(MODEL, norm="none"),
    "silu": replace(MODEL, ffn="silu"),
}
each_model = pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
schedules = st.sampled_from(["cosine", "linear", "wsd"])
shares = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1))


@each_optimizer
@each_model
def test_every_parameter_exactly_once(name: str, config: ModelConfig) -> None:
    model = tiny_model(config)
    optimizer = build_optimizer(model, optimizer_config(name))
    counts = Counter(id(param) for group in optimizer.param_groups for param in group["params"])
    assert counts == Counter(id(param) for param in model.parameters())
    assert type(optimizer) is {"adamw": AdamW, "muon": Muon, "sgd": SGD}[name]


@each_optimizer
@each_model
def test_decay_falls_on_matrices_only(name: str, config: ModelConfig) -> None:
    optimizer = build_optimizer(tiny_model(config), replace(optimizer_config(name), weight_decay=0.37))
    for group in optimizer.param_groups:
        for param in group["params"]:
            assert group["weight_decay"] == (0.37 if param.ndim == 2 else 0.0)


@each_model
def test_muon_takes_hidden_matrices_only(config: ModelConfig) -> None:
    model = tiny_model(config)
    optimizer = build_optimizer(model, optimizer_config("muon"))
    by_muon = {id(param) for group in optimizer.param_groups if group["use_muon"] for param in group["params"]}
    for name, param in model.named_parameters():
        hidden = name.startswith("layers.") and ("_proj" in name or ".ffn." in name)
        assert (id(param) in by_muon) == hidden, name


def test_options_reach_every_group() -> None:
    options: dict[str, Any] = {"lr": 0.3, "beta1": 0.8, "beta2": 0.7, "eps": 1e-5, "momentum": 0.6}
    for name, expected in (
        ("adamw", {"lr": 0.3, "betas": (0.8, 0.7), "eps": 1e-5}),
        ("muon", {"lr": 0.3, "betas": (0.8, 0.7), "eps": 1e-5, "momentum": 0.6}),
        ("sgd", {"lr": 0.3, "momentum": 0.6, "lr_decay": "none"}),
    ):
        for group in build_optimizer(tiny_model(), replace(optimizer_config(name), **options)).param_groups:
            assert {key: group[key] for key in expected} == expected


# The learning rate


def rates(config: OptimizerConfig, steps: int) -> list[float]:
    return [learning_rate(step, config, steps=steps) for step in range(steps)]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("linear", [0.5, 1.0, 0.8875, 0.775, 0.6625, 0.55, 0.4375, 0.325, 0.2125, 0.1]),
        ("wsd", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.55, 0.1]),
        ("cosine", [0.5, 1.0, *(0.55 + 0.45 * math.cos(math.pi * k / 8) for k in range(1, 8)), 0.1]),
    ],
)
def test_ten_steps(schedule: Literal["cosine", "linear", "wsd"], expected: list[float]) -> None:
    config = OptimizerConfig(lr=1.0, schedule=schedule, warmup_ratio=0.2, min_lr_ratio=0.1)
    assert rates(config, 10) == pytest.approx(expected, rel=1e-12)


@given(schedule=schedules, steps=st.integers(1, 100), warmup=shares, low=shares, lr=st.floats(1e-6, 10))
@settings(deadline=None, max_examples=60)
def test_rises_falls_and_ends(
    schedule: Literal["cosine", "linear", "wsd"], steps: int, warmup: float, low: float, lr: float
) -> None:
    config = OptimizerConfig(lr=lr, schedule=schedule, warmup_ratio=warmup, min_lr_ratio=low)
    found = rates(config, steps)
    assert found[-1] == low * lr
    warmup_steps = round(warmup * steps)
    for step in range(min(warmup_steps, steps - 1)):  # the last update has the lowest rate, come what may
        assert found[step] == pytest.approx(lr * (step + 1) / warmup_steps, rel=1e-12)
    after = found[max(warmup_steps - 1, 0) :]
    assert all(a >= b for a, b in itertools.pairwise(after))
    assert all(low * lr <= rate <= lr for rate in after)
    assert all(rate > 0 for rate in found[:-1])


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd"])
def test_the_peak_is_reached_at_the_end_of_warm_up(schedule: Literal["cosine", "linear", "wsd"]) -> None:
    found = rates(OptimizerConfig(lr=0.7, schedule=schedule, warmup_ratio=0.25), 40)
    assert max(found) == found[9] == 0.7


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd"])
def test_one_step_has_the_lowest_rate(schedule: Literal["cosine", "linear", "wsd"]) -> None:
    assert rates(OptimizerConfig(lr=0.5, schedule=schedule, min_lr_ratio=0.25), 1) == [0.125]
