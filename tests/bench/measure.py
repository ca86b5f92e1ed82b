"""Honest measuring: CPU time, candidates taking turns, medians.

Every candidate runs once in every round, in the order given in one round and backwards in the next, so that a machine
that slows down or speeds up does so to all of them; ratios are medians of the ratios within a round. Seconds are of
`time.process_time`: what other processes do meanwhile does not count, and neither does waiting.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final, Literal, NamedTuple

ROUNDS: Final = 7  # the least that is reported
LEAST_S: Final = 0.05  # of work under one reading of the clock

Clock = Callable[[], float]
Seconds = dict[str, list[float]]  # of one call, by candidate, round by round


def take_turns(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int = ROUNDS,
    least_s: float = LEAST_S,
    clock: Clock = time.process_time,
) -> Seconds:
    """Seconds of one call of each candidate in each round; a candidate is called often enough to last `least_s`.

    Raises: ValueError for fewer rounds than 7.
    """
    if rounds < ROUNDS:
        raise ValueError(f"take_turns: rounds must be at least {ROUNDS}, got {rounds}")
    calls = {name: _calls_that_last(call, least_s, clock) for name, call in candidates.items()}
    seconds: Seconds = {name: [] for name in candidates}
    for turn in range(rounds):
        for name in list(candidates)[:: -1 if turn % 2 else 1]:
            seconds[name].append(_time(candidates[name], calls[name], clock) / calls[name])
    return seconds


def take_turns_once(
    makers: Mapping[str, Callable[[], Callable[[], object]]], *, rounds: int = ROUNDS, clock: Clock = time.process_time
) -> Seconds:
    """Seconds of one call of each candidate in each round, of a call made anew each time, which takes no time here."""
    seconds: Seconds = {name: [] for name in makers}
    for turn in range(rounds):
        for name in list(makers)[:: -1 if turn % 2 else 1]:
            seconds[name].append(_time(makers[name](), 1, clock))
    return seconds


def _calls_that_last(call: Callable[[], object], least_s: float, clock: Clock) -> int:
    call()  # what is made once is made here
    calls = 1
    while (passed := _time(call, calls, clock)) < least_s:
        calls *= 2 if passed < least_s / 100 else max(2, round(least_s / passed))
    return calls


def _time(call: Callable[[], object], calls: int, clock: Clock) -> float:
    start = clock()
    for _ in range(calls):
        call()
    return clock() - start


def ratio(seconds: Seconds, over: str, under: str) -> float:
    """The median over all rounds of the seconds of one candidate over those of another."""
    return median(a / b for a, b in zip(seconds[over], seconds[under], strict=True))


class Bound(NamedTuple):
    """What a ratio or a rate must reach."""

    sign: Literal["<=", ">="]
    value: float

    def is_met(self, found: float) -> bool:
        return found <= self.value if self.sign == "<=" else found >= self.value


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the report: medians of the seconds of a call, what follows from them, and what must follow."""

    group: str
    name: str
    seconds: dict[str, float]
    ratios: dict[str, float] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    must: dict[str, Bound] = field(default_factory=dict)  # by the name of a ratio or a rate

    def row(self) -> dict[str, Any]:
        must = {name: f"{bound.sign} {bound.value:g}" for name, bound in self.must.items()}
        return asdict(self) | {"must": must, "short": self.short()}

    def short(self) -> list[str]:
        """What falls short of its bound."""
        found = self.ratios | self.rates
        return [name for name, bound in self.must.items() if not bound.is_met(found[name])]

    def line(self) -> str:
        """One line of the table."""
        times = "  ".join(f"{name} {_human(value)}" for name, value in self.seconds.items())
        ratios = "  ".join(f"{name} {value:.3f}{self._verdict(name)}" for name, value in self.ratios.items())
        rates = "  ".join(f"{name} {value:,.4g}{self._verdict(name)}" for name, value in self.rates.items())
        return f"{self.group:<10}{self.name:<55}" + "  |  ".join(part for part in (ratios, rates, times) if part)

    def _verdict(self, name: str) -> str:
        if name not in self.must:
            return ""
        bound = self.must[name]
        return f" ({bound.sign} {bound.value:g}: {'SHORT' if name in self.short() else 'ok'})"


def compare(group: str, name: str, candidates: Mapping[str, Callable[[], object]], *, rounds: int) -> Figure:
    """The figure of two candidates: their medians, and the first over the second."""
    first, second = candidates
    seconds = take_turns(candidates, rounds=rounds)
    return Figure(
        group=group,
        name=name,
        seconds=medians(seconds),
        ratios={f"{first}/{second}": ratio(seconds, first, second)},
    )


def medians(seconds: Seconds) -> dict[str, float]:
    return {name: median(values) for name, values in seconds.items()}


def _human(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
