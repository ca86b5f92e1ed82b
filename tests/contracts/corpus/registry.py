"""The corpus: functions with a bug and functions without, each with what must be said of it.

It imports nothing of ours and no torch, so that other tools can load the corpus too.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Entry:
    """A function; the prover's rules and the law that must catch it (none where it is right); where its bug hides."""

    function: Callable[..., Any]
    rules: tuple[str, ...]
    law: str | None
    batch: tuple[int, ...]
    sizes: Mapping[str, int]

    @property
    def name(self) -> str:
        return self.function.__name__


WRONG: dict[str, Entry] = {}
RIGHT: dict[str, Entry] = {}


def wrong(*rules: str, law: str | None = None, batch: tuple[int, ...] = (2,), **sizes: int) -> Callable[[F], F]:
    """Enter a function with a bug: `prove` must name every one of `rules`, `laws` must name `law`.

    At the axis sizes and the batch shape given (others as in `inputs.GENERIC`), in float32, it runs without an error.
    The docstring says what the bug is and why a test at one size misses it.
    """

    def enter(function: F) -> F:
        assert rules or law, f"{function.__name__}: name what must catch it"
        _enter(WRONG, Entry(function, rules, law, batch, sizes))
        return function

    return enter


def right(function: F) -> F:
    """Enter a function without a bug: whatever refuses it raises a false alarm."""
    _enter(RIGHT, Entry(function, (), None, (2,), {}))
    return function


def _enter(table: dict[str, Entry], entry: Entry) -> None:
    known = WRONG.get(entry.name) or RIGHT.get(entry.name)
    # torchtyc and pytest may each load a file under their own name: the same text twice is no clash.
    same = known is None or known.function.__code__.co_filename == entry.function.__code__.co_filename
    assert same, f"{entry.name} stands in the corpus twice"
    table[entry.name] = entry


def files(kind: str) -> list[Path]:
    """The corpus files of `kind`, "wrong" or "right"."""
    return sorted(Path(__file__).parent.glob(f"{kind}_*.py"))


def load() -> None:
    """Fill WRONG and RIGHT from every file of the corpus."""
    for path in [*files("wrong"), *files("right")]:
        importlib.import_module(f"tests.contracts.corpus.{path.stem}")
