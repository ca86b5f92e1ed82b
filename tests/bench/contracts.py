"""What contracts cost: the package as it is against a second copy of it, imported with CS336_CONTRACTS=off.

Both copies live in this process and take turns, so nothing but the checks differs.
"""

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any, Final

import torch

from cs336_basics.contracts.runtime import SWITCH
from tests.bench.measure import Figure, compare

MODULES: Final = (
    "cs336_basics.config",
    "cs336_basics.ops.attention",
    "cs336_basics.ops.feed_forward",
    "cs336_basics.ops.linear",
    "cs336_basics.ops.norm",
    "cs336_basics.nn.model",
    "cs336_basics.optim",
    "cs336_basics.train.step",
)


def figures(rounds: int) -> Iterator[Figure]:
    """One call, the forward pass and the training step of a model of four layers and width 256."""
    copies = {"on": modules(), "off": second_copy()}

    def measure(name: str, candidate: Callable[[Mapping[str, ModuleType]], Callable[[], object]]) -> Figure:
        made = {mode: candidate(copy) for mode, copy in copies.items()}
        return compare("contracts", name, made, rounds=rounds)

    for name, call in CALLS.items():
        figure = measure(f"one call of {name}", call)
        cost_s = figure.seconds["on"] - figure.seconds["off"]
        yield replace(figure, rates={"checks_ns": cost_s * 1e9})
    weights = model_of(copies["on"]).state_dict()
    yield measure("forward 1x1, 4 layers of 256", lambda copy: forward(copy, weights, 1, 1))
    yield measure("forward 8x128, 4 layers of 256", lambda copy: forward(copy, weights, 8, 128))
    yield measure("training step 8x128, 4 layers of 256", step)


def modules() -> dict[str, ModuleType]:
    return {name.removeprefix("cs336_basics."): importlib.import_module(name) for name in MODULES}


def second_copy() -> dict[str, ModuleType]:
    """The package once more, without contracts; the copy that `import` finds stays the one it was.

    There can be no second copy with contracts: beartype takes two classes of one name for the same.
    """
    loaded = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "cs336_basics"}
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = "off"
    try:
        return modules()
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "cs336_basics"]:
            del sys.modules[name]
        sys.modules.update(loaded)
        os.environ.pop(SWITCH)
        if before is not None:
            os.environ[SWITCH] = before


Copy = Mapping[str, ModuleType]


def silu(copy: Copy) -> Callable[[], object]:
    x, function = torch.randn(4), copy["ops.feed_forward"].silu
    return lambda: function(x)


def linear(copy: Copy) -> Callable[[], object]:
    x, weight, function = torch.randn(1, 1, 4), torch.randn(4, 4), copy["ops.linear"].linear
    return lambda: function(x, weight)


def rms_norm(copy: Copy) -> Callable[[], object]:
    x, weight, function = torch.randn(1, 1, 4), torch.randn(4), copy["ops.norm"].rms_norm
    return lambda: function(x, weight)


def attention(copy: Copy) -> Callable[[], object]:
    x, function = torch.randn(1, 2, 1, 4), copy["ops.attention"].scaled_dot_product_attention
    return lambda: function(x, x, x)


CALLS: Final = {"silu": silu, "linear": linear, "rms_norm": rms_norm, "attention": attention}


def model_of(copy: Mapping[str, ModuleType]) -> Any:
    config = copy["config"].ModelConfig(vocab_size=1024, context_length=128, d_model=256, n_layers=4, n_heads=8)
    return copy["nn.model"].TransformerLM(config, generator=torch.Generator().manual_seed(0))


def forward(copy: Copy, weights: Mapping[str, torch.Tensor], batch: int, seq: int) -> Callable[[], object]:
    """Both copies use the same weights: where weights lie in memory is up to 1 % of a pass."""
    model, ids = model_of(copy), torch.ones(batch, seq, dtype=torch.long)
    model.load_state_dict(weights, assign=True)

    def call() -> object:
        with torch.no_grad():
            return model(ids)

    return call


def step(copy: Mapping[str, ModuleType]) -> Callable[[], object]:
    model = model_of(copy)
    loss, optimizer = copy["train.step"].loss_fn(model), copy["optim"].AdamW(model.parameters())
    ids = torch.randint(1024, (8, 129))
    batch = (ids[:, :-1], ids[:, 1:])
    return lambda: copy["train.step"].train_step(loss, optimizer, batch, lr=1e-3, max_grad_norm=1.0)
