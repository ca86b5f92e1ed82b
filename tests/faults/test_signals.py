"""SIGTERM and SIGINT end a run after a step that is saved; it goes on bit for bit; a second one ends it at once."""

import os
import signal
import threading
from pathlib import Path

import pytest

from cs336_basics.train.stopping import StopAsked
from tests.faults.signals import signalled_runs, twice_signalled
from tests.faults.workers import Workers

each_signal = pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=lambda found: found.name)


@pytest.mark.slow
@each_signal
def test_a_signal_ends_the_step_and_saves_it(signum: signal.Signals, tmp_path: Path, workers: Workers) -> None:
    row = signalled_runs(tmp_path, workers, signum, count=5)
    assert (row.injected, row.lost) == (5, 0), row.why


@each_signal
def test_a_second_signal_ends_at_once(signum: signal.Signals, tmp_path: Path, workers: Workers) -> None:
    row = twice_signalled(tmp_path, workers, signum, count=2)
    assert (row.injected, row.lost) == (2, 0), row.why


def test_a_trainer_that_listens_to_no_signal_loses_steps(tmp_path: Path, workers: Workers) -> None:
    row = signalled_runs(tmp_path, workers, signal.SIGTERM, count=3, saver="deaf")
    assert row.lost == 3


def test_the_handlers_are_put_back() -> None:
    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    told = []
    with StopAsked(lambda: told.append(1)) as asked:
        assert asked() == 0
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked() == signal.SIGTERM
        assert told == [1]
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == before
    with StopAsked() as asked:
        os.kill(os.getpid(), signal.SIGINT)
        assert asked() == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is before[0]


def test_outside_the_main_thread_nothing_is_asked() -> None:
    found: list[int] = []

    def work() -> None:
        with StopAsked() as asked:
            found.append(asked())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [0]
