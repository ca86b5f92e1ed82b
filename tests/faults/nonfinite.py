"""Losses and gradients that are no numbers, put into a run at a random step."""

import copy
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cs336_basics.config import RunConfig
from cs336_basics.data.sampler import sample_starts
from cs336_basics.nn import TransformerLM
from cs336_basics.train import engine, loop
from cs336_basics.train.errors import CheckpointError, TrainingError
from cs336_basics.train.keep import read_newest
from cs336_basics.train.run import RunFolder
from cs336_basics.train.step import loss_fn
from tests.faults.campaigns import Row, times
from tests.faults.jobs import settings
from tests.train.runs import TRAIN, VALID, start
from tests.train.tiny import CPU, assert_same, states, tiny_model

KINDS = ("loss", "gradient", "activation")
VALUES = (float("nan"), float("inf"), -float("inf"))


def poisoned(calls: int, kind: str, value: float) -> Callable[..., Any]:
    """`loss_fn`, whose losses that are learned from are numbers for so many calls."""

    def make(model: TransformerLM, **options: Any) -> Any:
        inner, made = loss_fn(model, **options), 0

        def loss(ids: Tensor, targets: Tensor) -> Tensor:
            nonlocal made
            if not torch.is_grad_enabled():
                return inner(ids, targets)
            made += 1
            if made <= calls:
                return inner(ids, targets)
            if kind == "activation":
                block: nn.Module = model.layers[0]
                hook = block.register_forward_hook(lambda _, __, given: (given[0] * value, *given[1:]))
                try:
                    return inner(ids, targets)
                finally:
                    hook.remove()
            found: Tensor = inner(ids, targets)
            if kind == "gradient":  # of a loss that is a number
                found.register_hook(lambda grad: grad * value)  # type: ignore[no-untyped-call]  # torch's own
                return found
            return found * value

        return loss

    return make


def injected(work: Path, *, count: int, guarded: bool = True, seed: int = 0) -> Row:
    """Poison runs; the weights and the optimizer must be as they were before the step, and the report right."""
    row = Row("a loss or gradient that is no number")
    told: RunConfig = settings(keep_checkpoints=99)
    _, plain, _ = start(work / "undisturbed", told)
    by_step = {int(path.stem[5:]): torch.load(path, weights_only=True) for path in plain.saved_checkpoints()}
    for number, rng in enumerate(times(count, seed=seed)):
        folder = work / f"poisoned-{number}"
        row.count(_poison(folder, told, rng, by_step, guarded))
        shutil.rmtree(folder)
    return row


def _poison(folder: Path, told: RunConfig, rng: random.Random, by_step: dict[int, Any], guarded: bool) -> str:
    at, kind, value = rng.randint(1, told.train.steps - 1), rng.choice(KINDS), rng.choice(VALUES)
    run, model = RunFolder(folder), tiny_model(told.model)
    run.create(told)
    kept: dict[str, Any] = {}
    build: Any = engine.build_update

    def keep(*given: Any) -> Any:
        kept["optimizer"] = build(*given)
        return kept["optimizer"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "loss_fn", poisoned(at, kind, value))
        patch.setattr(loop, "build_update", keep)
        if not guarded:
            patch.setattr(loop, "is_finite", lambda _: True)
        try:
            loop.train(model, told, TRAIN, VALID, run=run, device=CPU)
        except TrainingError as error:
            text = str(error)
        else:
            return "nothing was said"
    try:
        found = copy.deepcopy(states(model, kept["optimizer"]))
        for part in ("model", "optimizer"):
            # The rate of the step was set, and is set again for each.
            assert_same(_without_rates(found[part]), _without_rates(by_step[at][part]))
        assert read_newest(run)[1]["iteration"] == at
        report = json.loads((folder / f"not-finite-{at + 1:08d}.json").read_text())
        starts = sample_starts(len(TRAIN), seed=0, step=at, batch_size=2, context_length=16, replacement=False)
        assert report["step"] == at + 1
        assert f"at step {at + 1};" in text
        assert report["window_starts"] == starts.tolist()
        assert str(starts.tolist()) in text
        assert report["largest_activations"]["layers.0"]
    except (AssertionError, CheckpointError, OSError) as wrong:
        return f"{kind} {value} at {at}: {wrong}"
    return ""


def _without_rates(state: dict[str, Any]) -> dict[str, Any]:
    if "param_groups" not in state:
        return dict(state)
    groups = [{key: value for key, value in group.items() if key != "lr"} for group in state["param_groups"]]
    return {**state, "param_groups": groups}
