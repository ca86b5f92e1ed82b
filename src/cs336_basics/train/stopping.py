"""Signals that ask training to stop: the first is obeyed after a step that is saved, the second at once."""

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class StopAsked:
    """While entered, SIGINT and SIGTERM are noted: `asked()` is the number of the one that came, and 0 before.

    A second one goes to whoever had the signals before, as both do again once this is left. Only the main thread of
    a process is told of signals; elsewhere nothing is ever asked. `tell` is called when the first one comes.
    """

    def __init__(self, tell: Callable[[], object] = lambda: None) -> None:
        self.signum, self.tell = 0, tell
        self._before: dict[signal.Signals, Any] = {}

    def __call__(self) -> int:
        return self.signum

    def __enter__(self) -> "StopAsked":
        if threading.current_thread() is threading.main_thread():
            self._before = {signum: signal.signal(signum, self._note) for signum in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        self._before = {}

    def _note(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002  # as signals are told
        if self.signum:
            self.__exit__()
            os.kill(os.getpid(), signum)
        else:
            self.signum = signum
            self.tell()
