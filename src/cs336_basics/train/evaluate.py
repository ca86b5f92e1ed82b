"""How good a model is: the loss on fixed batches while it trains, and bits per byte on a whole text."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from cs336_basics.contracts import require
from cs336_basics.data.batches import batch_at
from cs336_basics.ops.loss import cross_entropy
from cs336_basics.train.step import LossFn, precision


def mean_loss(
    loss: LossFn,
    dataset: np.ndarray,
    *,
    batches: int,
    batch_size: int,
    context_length: int,
    device: torch.device,
    autocast: torch.dtype | None = None,
) -> float:
    """The mean loss over `batches` batches that depend on nothing but these arguments: the same at every call.

    Units:  nats per token.
    Raises: DataError for a dataset shorter than context_length + 1.
    """
    total = torch.zeros((), device=device)
    with torch.no_grad():
        for step in range(batches):
            batch = batch_at(
                dataset,
                seed=0,
                step=step,
                batch_size=batch_size,
                context_length=context_length,
                device=device,
                replacement=False,
            )
            with precision(device, autocast):
                total += loss(*batch)
    return float(total) / batches


def total_nats(
    model: nn.Module,
    tokens: np.ndarray,
    *,
    context_length: int,
    vocab_size: int,
    device: torch.device,
    batch_size: int = 32,
    progress: Callable[[int], object] = lambda _: None,
) -> float:
    """-log p(tokens): the length of the whole text in nats under the model, every token counted once.

    Windows of context_length overlap by half, and a token is scored in the window that shows more of what
    precedes it. The first token of all, which nothing precedes, costs log(vocab_size). `progress` is told how
    many tokens are done.

    Units:  nats; divide by bytes · ln 2 (`ops.loss.bits_per_byte`) to compare with any other coder.
    Raises: ContractError for fewer than two tokens.
    """
    require(len(tokens) >= 2, "total_nats: tokens must hold at least two, got {}", len(tokens))
    window = min(context_length, len(tokens) - 1)
    stride = max(1, window // 2)
    last = len(tokens) - 1 - window
    starts = [*range(0, last, stride), last]
    total = float(np.log(vocab_size))
    scored = 1  # tokens whose cost is in total
    with torch.no_grad():
        for first in range(0, len(starts), batch_size):
            group = starts[first : first + batch_size]
            rows = torch.from_numpy(np.stack([np.asarray(tokens[s : s + window + 1], np.int64) for s in group]))
            ids, targets = rows[:, :-1].to(device), rows[:, 1:].to(device)
            fresh = torch.zeros(targets.shape, dtype=torch.bool)
            for row, start in enumerate(group):
                fresh[row, scored - start - 1 :] = True
                scored = start + window + 1
            total += _summed_loss(model, ids, targets.masked_fill(~fresh.to(device), -1))
            progress(scored)
    return total


def _summed_loss(model: nn.Module, ids: Tensor, targets: Tensor) -> float:
    counted = int((targets != -1).sum())
    return float(cross_entropy(model(ids), targets, ignore_index=-1)) * counted
