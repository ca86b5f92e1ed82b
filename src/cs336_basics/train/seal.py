"""The seal of a checkpoint: a line behind it, of the format's version and the SHA-256 of all before the digits.

Never imports torch: whoever only looks at runs asks here whether a checkpoint is whole.
"""

import hashlib
import os
from typing import IO, Any, BinaryIO, Final

FORMAT_VERSION: Final = 2

_SEAL: Final = b"\ncs336 checkpoint %d sha256 "
_DIGITS: Final = 64
_SEAL_BYTES: Final = len(_SEAL % FORMAT_VERSION) + _DIGITS + 1
_BLOCK: Final = 1 << 20


class WrongError(ValueError):
    """What is wrong with a file's bytes, in our words."""


class LaterError(WrongError):
    """A whole file of a format that is not known yet."""


class Sealing:
    """Passes bytes on and digests them; `finish` puts the seal behind them.

    An error is kept until then: torch would hide it behind one of its own.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.sha256()
        self.error: BaseException | None = None

    def write(self, content: Any) -> int:
        if self.error is None:
            try:
                self.file.write(content)
            except BaseException as error:
                self.error = error
            self.digest.update(content)
        return memoryview(content).nbytes

    def flush(self) -> None:
        """As torch asks for; `whole_file` flushes."""

    def finish(self) -> None:
        """Write the seal. Raises: what `write` met."""
        if self.error is not None:
            raise self.error
        seal = _SEAL % FORMAT_VERSION
        self.digest.update(seal)
        self.file.write(seal + self.digest.hexdigest().encode() + b"\n")


def verify_seal(file: BinaryIO) -> int:
    """The version of a checkpoint that begins where the file stands and whose SHA-256 is right; 1 for one without a
    seal that ends as torch ends its files.

    Raises: WrongError for other bytes, LaterError for a later version.
    """
    begin = file.tell()
    size = file.seek(0, os.SEEK_END) - begin
    file.seek(begin + max(0, size - _SEAL_BYTES))
    end = file.read()
    words = end[: -_DIGITS - 1].rsplit(b" ", 2)
    if not end.startswith(b"\ncs336 checkpoint ") or len(words) != 3 or not end.endswith(b"\n"):
        # Where a zip without a comment ends: with a record of 22 bytes.
        if end[-22:-18] == b"PK\x05\x06":
            return 1
        raise WrongError(f"its seal must begin at byte offset {max(0, size - _SEAL_BYTES)}")
    file.seek(begin)
    digest, left = hashlib.sha256(), size - _DIGITS - 1
    while left:
        block = file.read(min(left, _BLOCK))
        if not block:
            raise WrongError("it became shorter while it was read")
        digest.update(block)
        left -= len(block)
    expected = end[-_DIGITS - 1 : -1]
    if digest.hexdigest().encode() != expected:
        said = expected[:12].decode("ascii", "replace")
        raise WrongError(
            f"the sha256 of its first {size - _DIGITS - 1} bytes must be {said}..., got {digest.hexdigest()[:12]}..."
        )
    if end[: len(_SEAL % FORMAT_VERSION)] != _SEAL % FORMAT_VERSION:
        raise LaterError(f"its format version must be {FORMAT_VERSION} or 1; a later cs336-basics wrote it")
    return FORMAT_VERSION
