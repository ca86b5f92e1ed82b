"""The one error of this room, and the one-line check that raises it."""

from typing import Any


class ContractError(TypeError, ValueError):
    """An argument or a result breaks the contract of a function.

    It is a TypeError and a ValueError, so callers may catch whichever they expect.
    """


def require(condition: bool, message: str, *values: Any) -> None:
    """Raise ContractError unless `condition` holds; the message is formatted only then.

    Raises: ContractError.

    >>> require(1 < 2, "f: n must be below 2, got {}", 1)
    """
    if not condition:
        raise ContractError(message.format(*values))
