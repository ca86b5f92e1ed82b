"""Learning rates as pure functions of the step, which counts from 0.

Each begins with a linear warm-up from 0, and every `*_steps` argument is the step at which its phase ends.
With min_lr = max_lr each is a constant rate after warm-up.
"""

import math

from cs336_basics.contracts import contract, require


@contract(held_by="proof")
def cosine_schedule(step: int, *, max_lr: float, min_lr: float, warmup_steps: int, cosine_steps: int) -> float:
    """lr = max_lr · step / warmup_steps, then min_lr + ½ (1 + cos πp) (max_lr - min_lr), then min_lr;
    p = (step - warmup_steps) / (cosine_steps - warmup_steps).

    Where both ends are the same step, the warm-up is followed by min_lr at once.

    Raises: ContractError unless 0 <= step, 0 <= warmup_steps <= cosine_steps and 0 <= min_lr <= max_lr.
    Source: Loshchilov & Hutter 2017, arXiv:1608.03983, without restarts; Touvron et al. 2023, arXiv:2302.13971.

    >>> [round(cosine_schedule(t, max_lr=1, min_lr=0.1, warmup_steps=2, cosine_steps=6), 3) for t in range(8)]
    [0.0, 0.5, 1, 0.868, 0.55, 0.232, 0.1, 0.1]
    """
    _require_step("cosine_schedule", step)
    _require_rates("cosine_schedule", max_lr=max_lr, min_lr=min_lr)
    _require_order("cosine_schedule", warmup_steps=warmup_steps, cosine_steps=cosine_steps)
    if step < warmup_steps:
        return step / warmup_steps * max_lr
    if step >= cosine_steps:
        return min_lr
    progress = (step - warmup_steps) / (cosine_steps - warmup_steps)
    return _between(min_lr, max_lr, 0.5 * (1 + math.cos(math.pi * progress)))


@contract(held_by="proof")
def linear_schedule(step: int, *, max_lr: float, min_lr: float, warmup_steps: int, linear_steps: int) -> float:
    """lr = max_lr · step / warmup_steps, then min_lr + (1 - p) (max_lr - min_lr), then min_lr;
    p = (step - warmup_steps) / (linear_steps - warmup_steps).

    Raises: ContractError unless 0 <= step, 0 <= warmup_steps <= linear_steps and 0 <= min_lr <= max_lr.
    Source: Devlin et al. 2019, arXiv:1810.04805; Bergsma et al. 2025, arXiv:2502.15938 on decaying to zero.

    >>> [linear_schedule(t, max_lr=1, min_lr=0, warmup_steps=2, linear_steps=6) for t in range(8)]
    [0.0, 0.5, 1, 0.75, 0.5, 0.25, 0, 0]
    """
    _require_step("linear_schedule", step)
    _require_rates("linear_schedule", max_lr=max_lr, min_lr=min_lr)
    _require_order("linear_schedule", warmup_steps=warmup_steps, linear_steps=linear_steps)
    if step < warmup_steps:
        return step / warmup_steps * max_lr
    if step >= linear_steps:
        return min_lr
    return _between(min_lr, max_lr, (linear_steps - step) / (linear_steps - warmup_steps))


@contract(held_by="proof")
def wsd_schedule(
    step: int, *, max_lr: float, min_lr: float, warmup_steps: int, stable_steps: int, decay_steps: int
) -> float:
    """Warm-up, stable, decay: max_lr · step / warmup_steps, then max_lr until step stable_steps,
    then a line down to min_lr at step decay_steps, and min_lr after.

    Raises: ContractError unless 0 <= step, 0 <= warmup_steps <= stable_steps <= decay_steps and 0 <= min_lr <= max_lr.
    Source: Hu et al. 2024, arXiv:2404.06395; the line instead of their exponential: Hägele et al. 2024,
        arXiv:2405.18392.

    >>> [wsd_schedule(t, max_lr=1, min_lr=0, warmup_steps=2, stable_steps=4, decay_steps=6) for t in range(8)]
    [0.0, 0.5, 1, 1, 1, 0.5, 0, 0]
    """
    _require_step("wsd_schedule", step)
    _require_rates("wsd_schedule", max_lr=max_lr, min_lr=min_lr)
    _require_order("wsd_schedule", warmup_steps=warmup_steps, stable_steps=stable_steps, decay_steps=decay_steps)
    if step < warmup_steps:
        return step / warmup_steps * max_lr
    if step >= decay_steps:
        return min_lr
    if step <= stable_steps:
        return max_lr
    return _between(min_lr, max_lr, (decay_steps - step) / (decay_steps - stable_steps))


def _between(low: float, high: float, share: float) -> float:
    """low + share · (high - low), exactly `high` at share 1; below 1 no rounding can lift it above `high`."""
    return high if share == 1 else low + share * (high - low)


def _require_step(function: str, step: int) -> None:
    require(step >= 0, "{}: step must be at least 0, got {}", function, step)


def _require_rates(function: str, *, max_lr: float, min_lr: float) -> None:
    require(0 <= max_lr < math.inf, "{}: max_lr must be at least 0 and finite, got {}", function, max_lr)
    require(0 <= min_lr <= max_lr, "{}: min_lr must be in [0, max_lr = {}], got {}", function, max_lr, min_lr)


def _require_order(function: str, **ends: int) -> None:
    """Raises: ContractError unless the ends of the phases come in the order given, the first at least 0."""
    floor_name, floor = "0", 0
    for name, end in ends.items():
        require(end >= floor, "{}: {} must be at least {} = {}, got {}", function, name, floor_name, floor, end)
        floor_name, floor = name, end
