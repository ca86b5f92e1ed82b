"""The errors of this room, and the one-line check that raises it."""

from typing import Any


class ContractError(TypeError, ValueError):
    """An argument or a result breaks the contract of a function.

    It is a TypeError and a ValueError, so callers may catch whichever they expect.
    """


class LawError(ContractError, AssertionError):
    """A function breaks a law that its annotations promise; `law` is its name, `axis` the axis where there is one."""

    def __init__(self, message: str, *, law: str, function: str, example: str, axis: str | None = None) -> None:
        super().__init__(message)
        self.law, self.function, self.example, self.axis = law, function, example, axis


def require(condition: bool, message: str, *values: Any) -> None:
    """Raise ContractError unless `condition` holds; the message is formatted only then.

    Raises: ContractError.

    >>> require(1 < 2, "f: n must be below 2, got {}", 1)
    """
    if not condition:
        raise ContractError(message.format(*values) if values else message)
