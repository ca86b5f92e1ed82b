"""Batches on the device: what the CPU gets, in pinned copies that run while the host goes on."""

import numpy as np
import pytest
import torch

from cs336_basics.data.batches import batch_at, get_batch
from tests.gpu.compare import ON_DEVICE, covers, no_synchronisation

pytestmark = ON_DEVICE

TOKENS = np.random.default_rng(0).integers(0, 1 << 16, 100_000).astype(np.uint16)


def at(step: int, device: torch.device | str, *, replacement: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    return batch_at(TOKENS, seed=1, step=step, batch_size=16, context_length=64, device=device, replacement=replacement)


@covers(batch_at)
@pytest.mark.parametrize("replacement", [True, False])
def test_batch_at_gives_what_the_cpu_gets(replacement: bool, gpu_device: torch.device) -> None:
    for step in range(20):
        found, expected = (at(step, device, replacement=replacement) for device in (gpu_device, "cpu"))
        for got, want in zip(found, expected, strict=True):
            assert got.device == gpu_device
            assert got.dtype == torch.int64
            assert torch.equal(got.cpu(), want)


@covers(get_batch)
def test_get_batch_gives_what_the_cpu_gets(gpu_device: torch.device) -> None:
    found, expected = (
        get_batch(TOKENS, 16, 64, device, generator=torch.Generator().manual_seed(2)) for device in (gpu_device, "cpu")
    )
    for got, want in zip(found, expected, strict=True):
        assert got.device == gpu_device
        assert torch.equal(got.cpu(), want)


def test_batches_queued_behind_long_work_arrive_right(gpu_device: torch.device) -> None:
    """The host makes all of them while the device is busy: none may be copied from memory already used again."""
    n = 8192 if gpu_device.type == "cuda" else 64
    busy = torch.ones(n, n, device=gpu_device)
    for _ in range(20):
        busy = busy @ busy / n
    with no_synchronisation(gpu_device):
        found = [at(step, gpu_device) for step in range(50)]
    for step, batch in enumerate(found):
        assert all(torch.equal(got.cpu(), want) for got, want in zip(batch, at(step, "cpu"), strict=True)), step


def test_the_copy_does_not_wait_for_the_device(cuda_only: torch.device) -> None:
    at(0, cuda_only)  # leaves a block of pinned memory to be used again
    torch.cuda.synchronize()
    busy = torch.ones(8192, 8192, device=cuda_only)
    for _ in range(20):
        busy = busy @ busy / 8192
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    done.record()
    at(1, cuda_only)
    finished: bool = done.query()  # type: ignore[no-untyped-call]  # so too
    assert not finished  # the batch is on its way, and what was queued before it is not even done
