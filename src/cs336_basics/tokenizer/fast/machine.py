"""Machine code from Python: how every function of this room is compiled, and memory by address.

Compiled code lies beside the source, or in the user's cache directory where that folder is read-only (numba chooses;
NUMBA_CACHE_DIR overrides). Arrays are passed as addresses: numba's own indexing costs a scanner four times as much.
"""

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from llvmlite import ir
from numba import njit, types
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])


class _Lean(CompilerBase):
    """numba's way to machine code without the steps for what is not in this room: closures, blocks of `with`,
    functions given as constants, objects. They took a tenth of the time."""

    _LEFT_OUT: Final = (
        "with_lifting",
        "inline_closure_likes",
        "make_function_op_code_to_jit_function",
        "find_literally",
        "literal_unroll",
        "LiteralPropagation",
        "inline_overloads",
        "nopython_supported_feature_validation",
        "ir_legalization",
        "annotate_types",
        "dump_parfor_diagnostics",
    )

    def define_pipelines(self) -> list[Any]:
        whole = DefaultPassBuilder.define_nopython_pipeline(self.state)
        lean = PassManager("lean")
        lean.passes = [step for step in whole.passes if step[0].name() not in self._LEFT_OUT]
        lean.finalize()
        return [lean]


_OPTIONS: Final[dict[str, Any]] = {
    "nogil": True,
    "error_model": "numpy",  # no exceptions
    "no_cfunc_wrapper": True,
    "no_rewrites": True,  # they are for arrays
    "pipeline_class": _Lean,
}


def entry(fn: F) -> F:
    """Compile at the first call, without the GIL and without checks of bounds, and keep the machine code on disk.

    For what Python calls. The code on disk holds that of all functions called. numba stamps it with the one file that
    `fn` is in, and would go on using it after a change in another: here the stamp is of all files of the room.
    """
    function: Any = njit(**_OPTIONS, cache=True)(fn)
    function._cache._cache_file._source_stamp = _room_stamp()
    return cast("F", function)


@cache
def _room_stamp() -> str:
    files = sorted(Path(__file__).parent.glob("*.py"))
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def compiled(fn: F) -> F:
    """As `entry`, for what entries call: not kept by itself, and a Python that called it would crash."""
    return njit(**_OPTIONS, no_cpython_wrapper=True)(fn)


def inlined(fn: F) -> F:
    """As `compiled`, and always inlined by LLVM where it is called: for the innermost steps only."""
    return njit(**_OPTIONS, no_cpython_wrapper=True, forceinline=True)(fn)


def pasted(fn: F) -> F:
    """As `compiled`, and a part of its caller before anything is compiled: for what is called in one place."""
    return njit(**_OPTIONS, inline="always")(fn)


def _loader(kind: Any, bits: int) -> Any:
    def load(_typing: Any, _address: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            pointer = builder.inttoptr(args[0], ir.IntType(bits).as_pointer())
            return builder.load(pointer, align=1)

        return kind(types.int64), generate

    return intrinsic(load)


def _storer(kind: Any, bits: int) -> Any:
    def store(_typing: Any, _address: Any, _value: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            pointer = builder.inttoptr(args[0], ir.IntType(bits).as_pointer())
            builder.store(args[1], pointer, align=1)
            return context.get_dummy_value()

        return types.void(types.int64, kind), generate

    return intrinsic(store)


load_u8: Final = _loader(types.uint8, 8)
load_u16: Final = _loader(types.uint16, 16)
load_i32: Final = _loader(types.int32, 32)
load_u32: Final = _loader(types.uint32, 32)
load_i64: Final = _loader(types.int64, 64)
load_u64: Final = _loader(types.uint64, 64)
store_u8: Final = _storer(types.uint8, 8)
store_u16: Final = _storer(types.uint16, 16)
store_i32: Final = _storer(types.int32, 32)
store_u32: Final = _storer(types.uint32, 32)
store_i64: Final = _storer(types.int64, 64)
store_u64: Final = _storer(types.uint64, 64)
"""Unaligned loads and stores at an address given as int64, little-endian machines and others alike."""
