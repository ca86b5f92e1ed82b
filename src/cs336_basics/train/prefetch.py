"""The next batch, read from disk while the device works on this one."""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def one_ahead(make: Callable[[int], T], steps: Iterable[int]) -> Generator[T, None, None]:
    """make(step) for each step in order, the next one begun in another thread before this one is handed out.

    What `make` raises is raised here, at its own step. No later step than the next is ever made.

    >>> list(one_ahead(lambda step: step * step, range(4)))
    [0, 1, 4, 9]
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as worker:
        made = None
        for step in steps:
            next_made = worker.submit(make, step)
            if made is not None:
                yield made.result()
            made = next_made
        if made is not None:
            yield made.result()
