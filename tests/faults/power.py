"""What may be on a disk after a power cut, from a log of the calls that wrote: only what was synced is sure.

A file that was not synced holds what it held when it was, or what was written since, or half of that. A name that
was given, taken or moved since its folder was synced may be as it was or as it is, each for itself: POSIX promises
no order, and journals differ.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations, product
from pathlib import Path

from tests.faults.disk import Call

Names = dict[str, int]


@dataclass
class _Written:
    """The contents of a file: what is sure to be on disk, and what was written."""

    durable: bytes
    current: bytes

    def possible(self) -> set[bytes]:
        kept = len(self.durable) if self.current.startswith(self.durable) else 0  # what was added to stays
        return {self.durable, self.current, self.current[: kept + (len(self.current) - kept) // 2]}


@dataclass
class Medium:
    """Files and names as a disk may hold them."""

    files: list[_Written] = field(default_factory=list)
    seen: Names = field(default_factory=dict)  # what programs see now
    durable: Names = field(default_factory=dict)
    pending: list[tuple[str, int | None]] = field(default_factory=list)  # names given (a file) or taken (None)

    def do(self, call: Call) -> None:
        if call.name == "open":
            self._open(call.path, call.more)
        elif call.name == "write":
            self.files[self.seen[call.path]].current += call.more
        elif call.name == "ftruncate":
            file = self.files[self.seen[call.path]]
            file.current = file.current[: call.more]
        elif call.name == "fsync" and call.path in self.seen:
            file = self.files[self.seen[call.path]]
            file.durable = file.current
        elif call.name == "fsync":
            self._sync_folder(call.path)
        elif call.name == "replace":
            file_number = self.seen.pop(call.path)
            self.seen[call.more] = file_number
            self.pending += [(call.path, None), (call.more, file_number)]
        elif call.name == "unlink" and self.seen.pop(call.path, None) is not None:
            self.pending.append((call.path, None))

    def after_a_cut(self) -> Iterator[dict[str, bytes]]:
        """Every folder that may be found, as contents by path."""
        subsets = chain.from_iterable(combinations(self.pending, n) for n in range(len(self.pending) + 1))
        for happened in subsets:
            names = _applied(self.durable, happened)
            paths = sorted(names)
            for contents in product(*(sorted(self.files[names[path]].possible()) for path in paths)):
                yield dict(zip(paths, contents, strict=True))

    def _open(self, path: str, flags: int) -> None:
        if path not in self.seen:
            self.files.append(_Written(b"", b""))
            self.seen[path] = len(self.files) - 1
            self.pending.append((path, self.seen[path]))
        elif flags & os.O_TRUNC:
            self.files[self.seen[path]].current = b""

    def _sync_folder(self, folder: str) -> None:
        here = [change for change in self.pending if str(Path(change[0]).parent) == folder]
        self.durable = _applied(self.durable, here)
        self.pending = [change for change in self.pending if change not in here]


def _applied(names: Names, changes: Sequence[tuple[str, int | None]]) -> Names:
    result = dict(names)
    for path, file in changes:
        if file is None:
            result.pop(path, None)
        else:
            result[path] = file
    return result


def cuts(calls: Sequence[Call], before: dict[str, bytes]) -> Iterator[tuple[int, dict[str, bytes]]]:
    """How many calls were made before the cut, and a folder that may be found after it."""
    medium = Medium()
    for path, content in before.items():
        medium.files.append(_Written(content, content))
        medium.seen[path] = medium.durable[path] = len(medium.files) - 1
    for done in range(len(calls) + 1):
        for found in medium.after_a_cut():
            yield done, found
        if done < len(calls):
            medium.do(calls[done])
