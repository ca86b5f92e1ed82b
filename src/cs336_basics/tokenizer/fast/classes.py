r"""Letter, number, space or other, for every code point: what `\p{L}`, `\p{N}` and `\s` of `regex` say.

The table is made from the installed `regex` at import, in about 20 ms, so that both twins always know the same
Unicode. Machine code finds it under a symbol, not under an address: an address kept on disk would be wrong tomorrow,
and a copy kept on disk would outlive an upgrade of `regex`.
"""

import ctypes
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import regex
from llvmlite import binding, ir
from numba import types
from numba.extending import intrinsic

OTHER: Final = 0
LETTER: Final = 1
NUMBER: Final = 2
SPACE: Final = 3

_N_CODE_POINTS: Final = 0x110000
_SURROGATES: Final = slice(0xD800, 0xE000)  # in no text that UTF-8 can write
_SYMBOL: Final = "cs336_basics_classes"


def find_classes() -> npt.NDArray[np.uint8]:
    """The class of every code point, by its number."""
    code_points = np.arange(_N_CODE_POINTS, dtype="<u4")
    code_points[_SURROGATES] = 0
    text = code_points.tobytes().decode("utf-32-le")
    classes = np.full(_N_CODE_POINTS, OTHER, np.uint8)
    for kind, pattern in ((LETTER, r"\p{L}+"), (NUMBER, r"\p{N}+"), (SPACE, r"\s+")):
        for run in regex.finditer(pattern, text):
            classes[slice(*run.span())] = kind
    return classes


def _publish(table: npt.NDArray[np.uint8]) -> None:
    """Give the table its symbol, once in a process, and never free it: machine code keeps its address for good."""
    if binding.address_of_symbol(_SYMBOL) is None:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(table))
        binding.add_symbol(_SYMBOL, table.ctypes.data)


_publish(find_classes())


@intrinsic
def classes_address(_typing: Any) -> Any:
    """The address of the table, one byte for each code point, as int64; for machine code only."""

    def generate(_context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        table = builder.module.globals.get(_SYMBOL) or ir.GlobalVariable(builder.module, ir.IntType(8), _SYMBOL)
        return builder.ptrtoint(table, ir.IntType(64))

    return types.int64(), generate
