"""Schedules: the course's formula, exact end points, continuity and monotony by phase."""

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cs336_basics.contracts import ContractError
from cs336_basics.optim import cosine_schedule, linear_schedule, wsd_schedule

Schedule = Callable[[int], float]

lengths = st.integers(0, 40)


@st.composite
def rates(draw: st.DrawFn) -> tuple[float, float]:
    """(max_lr, min_lr), the two of any size, equal or zero among them."""
    high = draw(st.one_of(st.integers(0, 100).map(lambda percent: percent / 100), st.floats(0, 1)))
    return high, draw(st.one_of(st.just(0.0), st.just(high), st.just(high / 10), st.floats(0, high)))


@st.composite
def schedules(draw: st.DrawFn) -> tuple[Schedule, float, float, int, int]:
    """(a schedule, max_lr, min_lr, step at which warm-up ends, step at which the decay ends)."""
    high, low = draw(rates())
    warm = draw(lengths)
    mark = warm + draw(lengths)
    end = mark + draw(lengths)
    common: dict[str, Any] = {"max_lr": high, "min_lr": low, "warmup_steps": warm}
    schedule: Schedule = draw(
        st.sampled_from(
            [
                partial(cosine_schedule, **common, cosine_steps=end),
                partial(linear_schedule, **common, linear_steps=end),
                partial(wsd_schedule, **common, stable_steps=mark, decay_steps=end),
            ]
        )
    )
    return schedule, high, low, warm, end


def course_cosine(it: int, high: float, low: float, warm: int, end: int) -> float:
    """The schedule of Stanford's CS336, assignment 1, section 4.4."""
    if it < warm:
        return it / warm * high
    if it <= end:
        return low + 0.5 * (1 + math.cos(math.pi * (it - warm) / (end - warm))) * (high - low)
    return low


@given(rates=rates(), warm=lengths, length=st.integers(1, 40), it=st.integers(0, 100))
@settings(deadline=None)
def test_cosine_is_the_course_formula(rates: tuple[float, float], warm: int, length: int, it: int) -> None:
    high, low = rates
    ours = cosine_schedule(it, max_lr=high, min_lr=low, warmup_steps=warm, cosine_steps=warm + length)
    # 1 + cos cancels near the end, so that the error is relative to the peak; four roundings of it.
    assert abs(ours - course_cosine(it, high, low, warm, warm + length)) <= 1e-15 * high


def test_cosine_by_numbers() -> None:
    """max 1, min 0.1, warm-up 7, end 21: the numbers of the course's own test, recomputed from its formula."""
    values = [cosine_schedule(t, max_lr=1.0, min_lr=0.1, warmup_steps=7, cosine_steps=21) for t in range(25)]
    assert values[:8] == pytest.approx([t / 7 for t in range(8)])
    assert values[14] == pytest.approx(0.55)
    assert values[8] == pytest.approx(0.9887175604818206)
    assert values[21:] == [0.1, 0.1, 0.1, 0.1]


@given(case=schedules())
@settings(deadline=None, max_examples=200)
def test_end_points_are_exact(case: tuple[Schedule, float, float, int, int]) -> None:
    schedule, high, low, warm, end = case
    if warm > 0:
        assert schedule(0) == 0
    if warm < end:
        assert schedule(warm) == high
    assert schedule(end) == schedule(end + 1) == schedule(end + 10**9) == low


@given(case=schedules())
@settings(deadline=None, max_examples=200)
def test_rises_then_falls_and_stays_between(case: tuple[Schedule, float, float, int, int]) -> None:
    schedule, high, low, warm, end = case
    rising = [schedule(step) for step in range(warm)]
    falling = [schedule(step) for step in range(warm, end + 3)]
    assert all(a <= b for a, b in itertools.pairwise(rising))
    assert all(a >= b for a, b in itertools.pairwise(falling))
    assert all(0 <= value <= high for value in rising)
    assert all(low <= value <= high for value in falling)


@given(case=schedules())
@settings(deadline=None, max_examples=200)
def test_is_continuous(case: tuple[Schedule, float, float, int, int]) -> None:
    """No step is larger than the steepest slope of its phase: pi/2 of the straight line, for the cosine."""
    schedule, high, low, warm, end = case
    for step in range(warm):
        rise = schedule(step + 1) - schedule(step)
        assert rise <= high / warm * (1 + 1e-9) + 1e-15 or warm == end  # then the fall to min_lr comes at once
    changes = [schedule(step) - schedule(step + 1) for step in range(warm, end)]
    decaying = sum(change != 0 for change in changes)
    assert all(change <= math.pi / 2 * (high - low) / decaying * (1 + 1e-6) + 1e-15 for change in changes if change)


def test_wsd_is_flat_between_its_marks_and_straight_after() -> None:
    schedule = partial(wsd_schedule, max_lr=1.0, min_lr=0.2, warmup_steps=10, stable_steps=50, decay_steps=60)
    assert {schedule(step) for step in range(10, 51)} == {1.0}
    assert [schedule(step) for step in range(50, 62)] == pytest.approx([1 - 0.08 * n for n in range(11)] + [0.2])


@given(case=rates(), warm=lengths, length=lengths, step=st.integers(0, 100))
@settings(deadline=None)
def test_wsd_without_a_plateau_is_linear(case: tuple[float, float], warm: int, length: int, step: int) -> None:
    common: dict[str, Any] = {"max_lr": case[0], "min_lr": case[1], "warmup_steps": warm}
    end = warm + length
    assert wsd_schedule(step, **common, stable_steps=warm, decay_steps=end) == linear_schedule(
        step, **common, linear_steps=end
    )


@pytest.mark.parametrize("steps", [0, 5])
def test_warm_up_alone(steps: int) -> None:
    common: dict[str, Any] = {"max_lr": 1.0, "min_lr": 0.5, "warmup_steps": steps}
    for schedule in (
        partial(cosine_schedule, **common, cosine_steps=steps),
        partial(linear_schedule, **common, linear_steps=steps),
        partial(wsd_schedule, **common, stable_steps=steps, decay_steps=steps),
    ):
        assert [schedule(t) for t in range(steps + 2)] == [t / 5 for t in range(steps)] + [0.5, 0.5]


@pytest.mark.parametrize(("high", "low"), [(0.11, 0.04), (0.21, 0.05)])
def test_the_peak_is_exact_and_never_exceeded_whatever_the_rounding(high: float, low: float) -> None:
    assert low + (high - low) != high  # once above it, once below
    common: dict[str, Any] = {"max_lr": high, "min_lr": low, "warmup_steps": 1}
    assert cosine_schedule(1, **common, cosine_steps=9) == linear_schedule(1, **common, linear_steps=9) == high
    late = 10**15
    assert cosine_schedule(2, **common, cosine_steps=late) == pytest.approx(high, rel=1e-15)
    assert linear_schedule(2, **common, linear_steps=10**16) <= high  # a share of 1 - 2**-53
    assert low <= cosine_schedule(late - 1, **common, cosine_steps=late) < low + 1e-12


GOOD: dict[Callable[..., float], dict[str, Any]] = {
    cosine_schedule: {"step": 1, "max_lr": 1.0, "min_lr": 0.1, "warmup_steps": 2, "cosine_steps": 6},
    linear_schedule: {"step": 1, "max_lr": 1.0, "min_lr": 0.1, "warmup_steps": 2, "linear_steps": 6},
    wsd_schedule: {"step": 1, "max_lr": 1.0, "min_lr": 0.1, "warmup_steps": 2, "stable_steps": 4, "decay_steps": 6},
}


@pytest.mark.parametrize("schedule", GOOD)
@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("step", -1),
        ("step", 1.5),
        ("max_lr", -1.0),
        ("max_lr", math.inf),
        ("max_lr", math.nan),
        ("min_lr", 2.0),
        ("min_lr", -0.1),
        ("min_lr", math.nan),
        ("warmup_steps", -1),
        ("warmup_steps", 2.0),
    ],
)
def test_refuses_bad_arguments(schedule: Callable[..., float], argument: str, value: object) -> None:
    with pytest.raises(ContractError, match=f"{argument} must"):
        schedule(**{**GOOD[schedule], argument: value})


@pytest.mark.parametrize(
    ("schedule", "argument", "value", "floor"),
    [
        (cosine_schedule, "cosine_steps", 1, "warmup_steps = 2"),
        (linear_schedule, "linear_steps", 1, "warmup_steps = 2"),
        (wsd_schedule, "stable_steps", 1, "warmup_steps = 2"),
        (wsd_schedule, "decay_steps", 3, "stable_steps = 4"),
    ],
)
def test_refuses_phases_out_of_order(schedule: Callable[..., float], argument: str, value: int, floor: str) -> None:
    with pytest.raises(ContractError, match=f"{argument} must be at least {floor}, got {value}"):
        schedule(**{**GOOD[schedule], argument: value})
