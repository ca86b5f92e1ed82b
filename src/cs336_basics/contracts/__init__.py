"""Contracts: shapes and types of every public function, written once in its annotations.

`contract` holds them at every call, `prove` for every size at once, `laws` on drawn examples, and the plugin
`cs336_basics.contracts.mypy` at build time. The one room that knows beartype and jaxtyping's run time. It imports
neither before they are needed, and torch only inside functions.
"""

from typing import TYPE_CHECKING, Any

from cs336_basics.contracts.axes import AXES
from cs336_basics.contracts.describe import describe
from cs336_basics.contracts.errors import ContractError, LawError, require
from cs336_basics.contracts.runtime import contract
from cs336_basics.contracts.signature import Axes

if TYPE_CHECKING:
    from cs336_basics.contracts.law.laws import laws
    from cs336_basics.contracts.proof.prove import prove
    from cs336_basics.contracts.proof.report import Failure, Proof

__all__ = [
    "AXES",
    "Axes",
    "ContractError",
    "Failure",
    "LawError",
    "Proof",
    "contract",
    "describe",
    "laws",
    "prove",
    "require",
]

# Read when asked for: whoever only calls functions under contract does not wait for the prover.
_LATE = {"laws": "law.laws", "prove": "proof.prove", "Failure": "proof.report", "Proof": "proof.report"}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_LATE[name]}"), name)
