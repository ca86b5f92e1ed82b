"""The next batch is under way while this one is used, and nothing else changes."""

import threading
from collections.abc import Iterator

import pytest

from cs336_basics.train.prefetch import one_ahead

PATIENCE_S = 10.0


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_every_step_in_order_and_no_other(n: int) -> None:
    made: list[int] = []

    def make(step: int) -> int:
        made.append(step)
        return -step

    assert list(one_ahead(make, range(3, 3 + n))) == [-step for step in range(3, 3 + n)]
    assert made == list(range(3, 3 + n))


def test_the_next_is_made_while_this_one_is_used() -> None:
    begun = [threading.Event() for _ in range(3)]
    threads = set()

    def make(step: int) -> int:
        threads.add(threading.current_thread())
        begun[step].set()
        return step

    batches = one_ahead(make, range(3))
    assert next(batches) == 0
    assert begun[1].wait(PATIENCE_S), "though nobody has asked for it"
    assert next(batches) == 1
    assert next(batches) == 2
    assert threading.current_thread() not in threads


def test_nobody_waits_for_the_one_after() -> None:
    handed_out = threading.Event()

    def make(step: int) -> bool:
        return step == 0 or handed_out.wait(PATIENCE_S)

    batches = one_ahead(make, range(2))
    assert next(batches)
    handed_out.set()
    assert next(batches), "step 0 was handed out before step 1 was made"


def test_not_more_than_one_ahead() -> None:
    made: list[int] = []
    batches = one_ahead(lambda step: made.append(step), range(9))
    for step in range(5):
        next(batches)
        assert max(made) <= step + 1


def test_an_error_comes_at_its_own_step() -> None:
    def make(step: int) -> int:
        if step == 2:
            raise ValueError("step 2 is damaged")
        return step

    batches = one_ahead(make, range(5))
    assert [next(batches), next(batches)] == [0, 1]
    with pytest.raises(ValueError, match="step 2 is damaged"):
        next(batches)


def test_a_loop_that_stops_early_leaves_no_thread() -> None:
    def first_of(batches: Iterator[int]) -> int:
        for batch in batches:
            return batch
        raise AssertionError

    before = threading.active_count()
    batches = one_ahead(lambda step: step, range(9))
    assert first_of(batches) == 0
    batches.close()
    assert threading.active_count() == before
