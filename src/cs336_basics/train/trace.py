"""Where the time of a step goes: torch's profiler on chosen steps."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from cs336_basics.train.device import synchronize
from cs336_basics.train.errors import TrainingWarning


@contextmanager
def traced(path: Path, device: torch.device) -> Iterator[None]:
    """Write what the block does, on the host and on the device, to a file for chrome://tracing or ui.perfetto.dev.

    A trace that cannot be written is a warning: no run is lost for it.
    """
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with profile(activities=activities, acc_events=True) as profiler:
        yield
        synchronize(device)
    try:
        path.parent.mkdir(exist_ok=True)
        profiler.export_chrome_trace(str(path))
    except (OSError, RuntimeError) as error:  # torch turns the one into the other
        warnings.warn(
            f"profile: {path} cannot be written ({error}); the run goes on without it", TrainingWarning, stacklevel=3
        )
