"""Which device, and how fast it multiplies matrices."""

import ctypes
import time

import torch

from cs336_basics.config import ConfigError

# M_MMAP_MAX: no array is a mapping of its own; M_TRIM_THRESHOLD: give nothing back; M_TOP_PAD: grow by 64 MB.
_MALLOPT = {-4: 0, -1: 2**31 - 1, -2: 64 << 20}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is the first of cuda, mps and cpu that is there.

    Raises: ConfigError for a name torch does not know or a device that is not there, or does not compute (meta).
    """
    if name == "auto":
        found = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(found)
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).split("\n")[0].split(". ")[0]  # the rest lists what torch was built with
        raise ConfigError(f"device must be auto, or one that is here, got {name!r}: {reason}") from None
    return device


def describe_device(device: torch.device) -> str:
    """The device in words: its name, and the threads of a CPU."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({torch.get_num_threads()} threads)" if device.type == "cpu" else str(device)


def keep_freed_memory() -> bool:
    """Tell the allocator of this process to keep what is freed for what comes next; whether it listens (glibc does).

    Large arrays are else given back to the system and taken from it again, page by page, at every step: 4 % of a
    compiled training step on a CPU, 25 % of one in eager mode that holds all logits and scores. The process keeps its
    greatest need for good, so only a command whose work is training asks for this.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no libc by that name, or another than glibc
        return False
    return all(mallopt(parameter, value) == 1 for parameter, value in _MALLOPT.items())


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all it was given, so that a clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def measure_peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """The best of five square matrix products, in FLOP/s: the ceiling that MFU is a part of.

    Units: FLOP/s, a multiply and an add counted as two.
    """
    n = 1024 if device.type == "cpu" else 8192
    own = torch.Generator(device).manual_seed(0)  # everybody's is part of a run's state
    a = torch.randn(n, n, device=device, dtype=dtype, generator=own)
    a @ a
    best = float("inf")
    for _ in range(5):
        synchronize(device)
        start = time.perf_counter()
        a @ a
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best


def fastest_dtype(device: torch.device) -> str:
    """bfloat16 where the device multiplies matrices in it at least half as fast again as in float32, else float32."""
    narrow, wide = (measure_peak_flops(device, DTYPES[name]) for name in ("bfloat16", "float32"))
    return "bfloat16" if narrow >= 1.5 * wide else "float32"
