"""Contracts: shapes and types of every public function, written once in its annotations.

The one room that knows beartype and jaxtyping's run time. It imports neither until the first
function is decorated, and never torch.
"""

from cs336_basics.contracts.axes import AXES
from cs336_basics.contracts.describe import describe
from cs336_basics.contracts.errors import ContractError, require
from cs336_basics.contracts.proof import Failure, Proof
from cs336_basics.contracts.prove import prove
from cs336_basics.contracts.runtime import contract
from cs336_basics.contracts.signature import Axes

__all__ = ["AXES", "Axes", "ContractError", "Failure", "Proof", "contract", "describe", "prove", "require"]
