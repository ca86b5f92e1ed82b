"""Devices: found, named, refused with a reason; the peak is a plausible speed."""

import ctypes
import platform
import subprocess
import sys

import pytest
import torch

from cs336_basics.config import ConfigError, TrainConfig
from cs336_basics.train import device as room
from cs336_basics.train.device import (
    DTYPES,
    choose_device,
    describe_device,
    fastest_dtype,
    keep_freed_memory,
    measure_peak_flops,
    synchronize,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_the_first_that_is_there(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto") == torch.device(expected)


def test_a_name_is_taken_at_its_word() -> None:
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["gpu", "", "AUTO", "cuda:x", "cuda:99", "cpu:cpu", "meta", "hpu", "vulkan"])
def test_refuses_what_is_not_there(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_device(name)
    text = str(caught.value)
    assert text.startswith(f"device must be auto, or one that is here, got {name!r}: ")
    assert "\n" not in text
    assert len(text) < 400


def test_refuses_a_gpu_that_is_not_there_by_name() -> None:
    with pytest.raises(ConfigError, match=r"got 'cuda:99': .*(CUDA|cuda)"):
        choose_device("cuda:99")


def test_describes_the_cpu_with_its_threads() -> None:
    assert describe_device(CPU) == f"cpu ({torch.get_num_threads()} threads)"
    assert describe_device(torch.device("mps")) == "mps"


def test_waiting_for_the_cpu_is_nothing() -> None:
    synchronize(CPU)


def test_the_peak_is_a_speed() -> None:
    assert 1e8 < measure_peak_flops(CPU, torch.float32) < 1e15


def test_measuring_draws_nothing_from_everybodys_generator() -> None:
    before = torch.get_rng_state()
    measure_peak_flops(torch.device("cpu"), torch.float32)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("narrow", "expected"), [(3.0, "bfloat16"), (1.5, "bfloat16"), (1.4, "float32"), (0.1, "float32")]
)
def test_bfloat16_must_pay(monkeypatch: pytest.MonkeyPatch, narrow: float, expected: str) -> None:
    speeds = {torch.bfloat16: narrow, torch.float32: 1.0}
    monkeypatch.setattr(room, "measure_peak_flops", lambda _, dtype: speeds[dtype])
    assert fastest_dtype(CPU) == expected


def test_every_dtype_of_the_config_has_a_meaning() -> None:
    for name in ("float32", "bfloat16"):
        assert DTYPES[TrainConfig(dtype=name).dtype] == getattr(torch, name)


PAGE_FAULTS = """
import resource, sys, torch
from cs336_basics.train.device import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else None
for _ in range(12):  # alignment moves an array about until one of its places is large enough
    torch.ones(20_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(20_000_000)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_kept_where_glibc_allocates() -> None:
    """In processes of their own, as it lasts for good: ten arrays of 80 MB, and the pages asked for anew."""
    found = {}
    for word in ("keep", "leave"):
        run = subprocess.run([sys.executable, "-c", PAGE_FAULTS, word], capture_output=True, text=True, check=True)
        found[word] = run.stdout.split()
    assert found["keep"][0] == "True"
    assert int(found["keep"][1]) < 0.2 * int(found["leave"][1])


def test_another_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoSuchLibrary:
        def __init__(self, name: None) -> None:
            pass

    monkeypatch.setattr(ctypes, "CDLL", NoSuchLibrary)
    assert keep_freed_memory() is False
