"""Batches: windows of a corpus as tensors, inputs and the same one token later."""

import numpy as np
import torch
from jaxtyping import Int64
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from cs336_basics.contracts import contract, describe
from cs336_basics.data.errors import DataError
from cs336_basics.data.sampler import count_starts, sample_starts


@contract
def get_batch(
    dataset: np.ndarray,
    batch_size: int,
    context_length: int,
    device: str | torch.device,
    *,
    generator: np.random.Generator | torch.Generator | None = None,
) -> tuple[Int64[Tensor, "batch seq"], Int64[Tensor, "batch seq"]]:
    """Draw random windows: x_i = dataset[s_i : s_i + context_length], y_i the same one token later.

    Every start 0 <= s_i < len(dataset) - context_length is equally likely. `dataset` is a row of integers of
    any width, in memory or mapped; only the windows are read. Without a generator, torch's global
    one on the CPU draws (`torch.manual_seed` governs it). To resume exactly, prefer `batch_at`.

    Shapes: dataset (n,) -> x, y (batch_size, context_length), int64, contiguous, on `device`.
    Raises: ContractError on types; DataError on a dataset that is not a row of integers or is shorter than
        context_length + 1, on sizes below 1, and on a generator of another device than the CPU; torch's own
        RuntimeError or AssertionError on a device that is not there.
    """
    n_starts = count_starts("get_batch", _length("get_batch", dataset), batch_size, context_length)
    return _gather(dataset, _draw(n_starts, batch_size, generator), context_length, torch.device(device))


@contract
def batch_at(
    dataset: np.ndarray,
    *,
    seed: int,
    step: int,
    batch_size: int,
    context_length: int,
    device: str | torch.device,
    replacement: bool = True,
) -> tuple[Int64[Tensor, "batch seq"], Int64[Tensor, "batch seq"]]:
    """The batch of a step: x and y as of `get_batch`, for the windows that `sample_starts` names.

    A pure function of its arguments: a run resumed at step t sees what an unbroken run sees from t on.

    Shapes: dataset (n,) -> x, y (batch_size, context_length), int64, contiguous, on `device`.
    Raises: as `get_batch`; DataError also on seed or step outside 0 to 2^64 - 1.
    """
    n_tokens = _length("batch_at", dataset)
    count_starts("batch_at", n_tokens, batch_size, context_length)
    starts = sample_starts(
        n_tokens,
        seed=seed,
        step=step,
        batch_size=batch_size,
        context_length=context_length,
        replacement=replacement,
    )
    return _gather(dataset, starts, context_length, torch.device(device))


def _length(function: str, dataset: np.ndarray) -> int:
    if dataset.ndim != 1 or dataset.dtype.kind not in "iu":
        raise DataError(
            f"{function}: dataset must be a row of integer token ids, got {describe(dataset)}; open_tokens gives one"
        )
    return dataset.size


def _draw(n_starts: int, batch_size: int, generator: np.random.Generator | torch.Generator | None) -> np.ndarray:
    if isinstance(generator, np.random.Generator):
        return generator.integers(n_starts, size=batch_size)
    if generator is not None and generator.device.type != "cpu":
        raise DataError(f"get_batch: generator must be on the CPU, got one on {generator.device}")
    # Below 2^28 torch takes 32 bits modulo the range, which favours some starts by up to 6 %; 62 bits by nothing.
    return torch.randint(1 << 62, (batch_size,), generator=generator).numpy() % n_starts


def _gather(
    dataset: np.ndarray, starts: np.ndarray, context_length: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    # A view of every window (no copy of the corpus), of which indexing reads the ones asked for.
    windows = sliding_window_view(np.asarray(dataset), context_length + 1)[starts]
    # x and y in one block of pinned memory: a single copy, which runs while the host goes on.
    pinned = device.type == "cuda" and torch.cuda.is_available()
    batch = torch.empty((2, len(starts), context_length), dtype=torch.int64, pin_memory=pinned)
    block = batch.numpy()
    block[0], block[1] = windows[:, :-1], windows[:, 1:]
    x, y = batch.to(device, non_blocking=pinned)
    return x, y
