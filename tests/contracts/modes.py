"""Functions decorated in one mode or another, and what comes of a call."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cs336_basics.contracts import ContractError
from cs336_basics.contracts.runtime import SWITCH


@contextmanager
def mode(name: str) -> Iterator[None]:
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = name
    try:
        yield
    finally:
        os.environ.pop(SWITCH)
        if before is not None:
            os.environ[SWITCH] = before


def verdict(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    try:
        function(*args, **kwargs)
    except ContractError as error:
        return str(error)
    return "accepted"
