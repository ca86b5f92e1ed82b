"""A disk with faults: stands for `os` in `cs336_basics.files`; each call that writes can be seen, fail, or kill."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

ERRORS = {"ENOSPC": 28, "EIO": 5}


@dataclass(frozen=True)
class Call:
    """One call that changes a disk: its name, the path it is about, and what else it was given."""

    name: str
    path: str
    more: Any = None


Fault = Callable[[int, Call], None]


def nothing(number: int, call: Call) -> None:
    """No fault."""


@dataclass
class Disk:
    """`os`, with a log of the calls that write below a path with `within` in it, and a fault before each of them."""

    fault: Fault = nothing
    within: str = ""
    calls: list[Call] = field(default_factory=list)
    _paths: dict[int, str] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            self._before("open", path, flags)
        descriptor = os.open(path, flags, mode)
        self._paths[descriptor] = os.fspath(path)
        return descriptor

    def write(self, descriptor: int, content: Any) -> int:
        self._before("write", self._paths[descriptor], bytes(content))
        return os.write(descriptor, content)

    def fsync(self, descriptor: int) -> None:
        self._before("fsync", self._paths[descriptor])
        os.fsync(descriptor)

    def ftruncate(self, descriptor: int, size: int) -> None:
        self._before("ftruncate", self._paths[descriptor], size)
        os.ftruncate(descriptor, size)

    def close(self, descriptor: int) -> None:
        if self._paths.get(descriptor):
            self._before("close", self._paths.pop(descriptor))
        os.close(descriptor)

    def replace(self, source: Any, target: Any) -> None:
        self._before("replace", source, os.fspath(target))
        os.replace(source, target)  # noqa: PTH105  # the call itself

    def unlink(self, path: Any) -> None:
        self._before("unlink", path)
        os.unlink(path)  # noqa: PTH108  # the call itself

    def _before(self, name: str, path: Any, more: Any = None) -> None:
        call = Call(name, os.fspath(path), more)
        if self.within in call.path:
            self.calls.append(call)
            self.fault(len(self.calls), call)


def killed_at(number: int) -> Fault:
    """kill -9 just before call `number`; of a write, after half of it."""

    def fault(count: int, call: Call) -> None:
        if count == number:
            if call.name == "write":
                with open(call.path, "ab", buffering=0) as file:  # noqa: PTH123  # as bare as can be
                    file.write(call.more[: len(call.more) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

    return fault


def failing_at(number: int, error: str, *, on: bool = False) -> Fault:
    """The error at call `number`, and with `on` at every writing call after it, as on a full disk."""

    def fault(count: int, call: Call) -> None:
        frees = call.name in ("close", "unlink", "ftruncate")  # these work on a full disk
        if count == number or (on and count > number and not frees):
            raise OSError(ERRORS[error], os.strerror(ERRORS[error]))

    return fault
