"""What a checkpoint says of its run beside the weights: config, data, random states, and who wrote it."""

import random
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cs336_basics
from cs336_basics.config import ConfigError, RunConfig, from_dict, to_dict
from cs336_basics.train.errors import CheckpointError
from cs336_basics.train.run import DATA_PATHS, FREE_FIELDS, DataIdentity, require_same_curve, require_same_data


def about_run(config: RunConfig, data: DataIdentity | None, *, step: int) -> dict[str, Any]:
    """All that a run after `step` updates depends on, as plain data: config, hashes of the data, where the sampler
    stands, random states, version of the library and revision of its source."""
    return {
        "config": to_dict(config),
        "data": dict(vars(data)) if data else {},
        # Batches are a function of (seed, step): the place is all there is to the sampler's state.
        "sampler": {"seed": config.train.seed, "step": step, "sampling": config.train.sampling},
        "random": random_state(),
        "version": cs336_basics.__version__,
        "revision": revision(),
    }


def require_same_run(
    about: Mapping[str, Any], config: RunConfig, data: DataIdentity | None, *, may_change: frozenset[str] = frozenset()
) -> None:
    """Refuse to go on from a checkpoint of another config or other data, but for the fields that may change.

    A checkpoint of version 1 says nothing, and is not refused.

    Raises: ConfigError naming the first field.
    """
    for name in ("data", "config"):
        if not isinstance(about.get(name, {}), dict):
            raise ConfigError(f"the checkpoint's {name} must be a table, got {about[name]!r}")
    recorded = from_dict(DataIdentity, about["data"], where="the checkpoint's data") if about.get("data") else None
    if recorded and data:
        require_same_data(recorded, data, may_change=may_change)
    if about.get("config"):
        free = FREE_FIELDS | may_change | (DATA_PATHS if recorded and data else frozenset())
        require_same_curve(from_dict(RunConfig, about["config"], where="the checkpoint's config"), config, free=free)


def random_state() -> dict[str, Any]:
    """The states of the generators that are everybody's: of Python, numpy, torch, CUDA and MPS."""
    version, words, gauss = random.getstate()
    name, keys, place, has_gauss, cached = np.random.get_state(legacy=True)
    state = {
        "python": [version, list(words), gauss],
        "numpy": [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), place, has_gauss, cached],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch's own
        state["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put back what `random_state` gave; of devices, where there are as many as there were.

    Raises: CheckpointError for what it did not give.
    """
    try:
        version, words, gauss = state["python"]
        random.setstate((version, tuple(words), gauss))
        name, keys, place, has_gauss, cached = state["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), place, has_gauss, cached))
        torch.set_rng_state(state["torch"])
        if "cuda" in state and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda"])
        if "mps" in state and torch.backends.mps.is_available():
            torch.mps.set_rng_state(state["mps"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        kind = type(error).__name__
        raise CheckpointError(f"the checkpoint's random states are not those of a run ({kind})") from None


@cache
def revision() -> str:
    """The commit of the library's source, with `-dirty` where files were changed since; empty outside a checkout."""
    root = Path(cs336_basics.__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    words = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
