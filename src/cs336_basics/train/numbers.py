"""Numbers that are none, or grow without end: seen before they reach the weights, and told with what caused them."""

import json
import math
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn

from cs336_basics.config import RunConfig
from cs336_basics.data.sampler import sample_starts
from cs336_basics.files import write_text
from cs336_basics.train.errors import TrainingError
from cs336_basics.train.run import RunFolder
from cs336_basics.train.step import LossFn, StepResult

Batch: TypeAlias = tuple[Tensor, Tensor]

_MEND: Final = "lower optimizer.lr or raise optimizer.warmup_ratio, and start a new run"
_FAR_NATS: Final = 1.0  # above the lowest loss so far: less than that, good runs do too


def is_finite(result: StepResult) -> bool:
    """Whether loss and gradient norm are numbers; to look waits for the device."""
    return all(map(math.isfinite, result.numbers()))


def require_finite(step: int, result: StepResult) -> None:
    """Raise TrainingError where loss or gradient norm of update `step` are no longer numbers."""
    if not is_finite(result):
        loss, grad_norm = result.numbers()
        raise TrainingError(f"train: loss is {loss} and the gradient norm {grad_norm} at step {step}; {_MEND}")


def diagnose(
    model: nn.Module,
    loss: LossFn,
    batch: Batch,
    result: StepResult,
    config: RunConfig,
    *,
    step: int,
    n_tokens: int,
    run: RunFolder,
) -> TrainingError:
    """The error for an update that is not made: which step, where its windows start, which activations are largest.

    All of them go to a file of the run folder, if it can be written. `step` counts from 0, the error from 1.
    """
    starts = sample_starts(
        n_tokens,
        seed=config.train.seed,
        step=step,
        batch_size=config.train.batch_size,
        context_length=config.model.context_length,
        replacement=config.train.sampling == "random",
    ).tolist()
    largest = _activations(model, loss, batch)
    gradients = {
        name: float(param.grad.abs().max()) for name, param in model.named_parameters() if param.grad is not None
    }
    loss_value, grad_norm = result.numbers()
    numbers = {"step": step + 1, "loss": loss_value, "grad_norm": grad_norm}
    report = {**numbers, "window_starts": starts, "largest_activations": largest, "largest_gradients": gradients}
    path = run.path / f"not-finite-{step + 1:08d}.json"
    try:
        write_text(path, json.dumps(_told(report), indent=2) + "\n")
    except OSError:
        path = run.path  # the message says the most of it
    top = ", ".join(f"{name} {value:.3g}" for name, value in list(largest.items())[:3])
    more = " and more" if len(starts) > 8 else ""
    return TrainingError(
        f"train: loss is {loss_value} and the gradient norm {grad_norm} at step {step + 1}; {_MEND}. "
        f"No update was made; its windows start at tokens {starts[:8]}{more}, "
        f"the largest activations are of {top} ({path})"
    )


class Divergence:
    """Ends a run whose loss stays more than 1 nat above its lowest for `patience` lines of metrics; 0: never."""

    def __init__(self, patience: int) -> None:
        self.patience, self.lowest, self.in_a_row = patience, math.inf, 0

    def note(self, step: int, loss: float | None) -> None:
        """One more line. Raises: TrainingError where patience is at its end."""
        if loss is None or not self.patience:
            return
        self.lowest = min(self.lowest, loss)
        self.in_a_row = self.in_a_row + 1 if loss > self.lowest + _FAR_NATS else 0
        if self.in_a_row >= self.patience:
            raise TrainingError(
                f"train: loss is {loss:.4g} at step {step}, and for {self.in_a_row} lines of metrics was more than "
                f"{_FAR_NATS:g} nat above its lowest, {self.lowest:.4g} (train.divergence_patience); "
                f"{_MEND}"
            )


def _activations(model: nn.Module, loss: LossFn, batch: Batch) -> dict[str, float]:
    """The largest absolute value that each module gives for a batch, NaN first, then the largest."""
    found: dict[str, float] = {}

    def watch(name: str) -> Any:
        def hook(_: nn.Module, __: Any, given: Any) -> None:
            given = given[0] if isinstance(given, tuple) else given  # a cache may come with it
            if isinstance(given, Tensor) and given.is_floating_point() and given.numel():
                found[name] = float(given.abs().max())

        return hook

    # Not of the model itself, which a loss need not call as a whole: its logits may never be there all at once.
    hooks = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
    try:
        with torch.no_grad():
            loss(*batch)
    finally:
        for hook in hooks:
            hook.remove()
    return dict(sorted(found.items(), key=lambda item: math.inf if math.isnan(item[1]) else item[1], reverse=True))


def _told(value: Any) -> Any:
    """Numbers that JSON has no word for as text."""
    if isinstance(value, dict):
        return {key: _told(part) for key, part in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
