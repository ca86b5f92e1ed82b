"""Machine instructions that numba has no name for."""

from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _zeros(instruction: str) -> Any:
    def count(_typing: Any, _mask: Any) -> Any:
        def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return getattr(builder, instruction)(args[0], ir.Constant(ir.IntType(1), 1))  # 1: never asked of 0

        return types.int64(types.uint64), generate

    return intrinsic(count)


trailing_zeros: Final = _zeros("cttz")
leading_zeros: Final = _zeros("ctlz")
"""How many zeros stand below the lowest, above the highest bit of a uint64 that is not 0, as int64."""


@intrinsic
def prefetch(_typing: Any, _address: Any) -> Any:
    """Begin to bring the cache line at an address near."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        to_read, keep, data = number(0), number(3), number(1)
        builder.call(function, [builder.inttoptr(args[0], pointer), to_read, keep, data])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def lowest_of_16(_typing: Any, _address: Any) -> Any:
    """The lowest of 16 uint32 at an address."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        sixteen = ir.VectorType(ir.IntType(32), 16)
        kind = ir.FunctionType(ir.IntType(32), [sixteen])
        function = builder.module.declare_intrinsic("llvm.vector.reduce.umin.v16i32", (), kind)
        return builder.call(function, [builder.load(builder.inttoptr(args[0], sixteen.as_pointer()), align=1)])

    return types.uint32(types.int64), generate
