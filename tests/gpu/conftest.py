"""The device of the GPU tests, and what they ask of torch on it."""

import os
from collections.abc import Iterator

import pytest
import torch

NO_DEVICE = "no CUDA device; run on a machine with one: pytest -m gpu"

# cuBLAS reads this once, when its first workspace is made; without it deterministic matrix products are refused.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what is marked gpu where its device is not: in one place, so that the reason is told once for all."""
    missing = chosen_device(item.config).type == "cuda" and not torch.cuda.is_available()
    if missing and item.get_closest_marker("gpu"):
        pytest.skip(NO_DEVICE)


def chosen_device(config: pytest.Config) -> torch.device:
    return torch.device(config.getoption("--gpu-device"))


@pytest.fixture
def gpu_device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """What --gpu-device names, as its tensors name it (cuda:0).

    Float32 products are in float32 (TensorFloat32 keeps 10 of the 23 bits), and the CPU has one thread: on tensors
    as small as these, more would wait for one another.
    """
    precision, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    torch.set_float32_matmul_precision("highest")
    torch.set_num_threads(1)
    yield torch.empty(0, device=chosen_device(request.config)).device
    torch.set_float32_matmul_precision(precision)
    torch.set_num_threads(threads)


@pytest.fixture
def cuda_only(gpu_device: torch.device) -> torch.device:
    """The device where it is a CUDA device; the test is skipped elsewhere."""
    if gpu_device.type != "cuda":
        pytest.skip(f"of CUDA alone, and --gpu-device is {gpu_device}")
    return gpu_device


@pytest.fixture
def deterministic(gpu_device: torch.device) -> Iterator[torch.device]:
    """The device, with sums in one order: atomic adds of a CUDA kernel come in any."""
    torch.use_deterministic_algorithms(True)
    yield gpu_device
    torch.use_deterministic_algorithms(False)
