"""One call of a function under its laws, as a plan: the same arguments can be made again, in any dtype."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from cs336_basics.contracts.cases import Builder, Case, Made, Tensors, build
from cs336_basics.contracts.describe import describe
from cs336_basics.contracts.errors import ContractError
from cs336_basics.contracts.law.walk import Leaf, rebuild
from cs336_basics.contracts.signature import Parameter, Signature, TensorSpec


class Dtypes(NamedTuple):
    """What a kept dtype is: that of floating tensors, and that of signed integers."""

    floating: str = "float64"
    integer: str = "int64"


PLAIN: Final = Dtypes()


@dataclass(frozen=True)
class Example:
    """One call: its sizes, and from which seed its tensors are filled; `wild` ones hold values in the thousands."""

    signature: Signature
    case: Case
    sizes: Mapping[str, int]
    several: Mapping[str, tuple[int, ...]]
    shapes: Mapping[str, tuple[int, ...]]
    bounds: Mapping[str, int]
    given: Mapping[str, Any]
    seed: int
    wild: bool

    def arguments(self, dtypes: Dtypes = PLAIN) -> dict[str, Any]:
        """The arguments by name, those of *args as a tuple; equal ones at every call."""
        builder = Builder(
            lambda choice, path: self._tensor(choice, path, dtypes), lambda made: self._made(made, dtypes)
        )
        made = {}
        for parameter in self.signature.parameters:
            if parameter.name in self.given:
                made[parameter.name] = _cast(parameter, self.given[parameter.name], dtypes)
            else:
                made[parameter.name] = build(self.signature, parameter, self.case, builder)
        return made

    def text(self, dtypes: Dtypes = PLAIN) -> str:
        """The example in one line, from which it can be made again."""
        words = []
        for parameter in self.signature.parameters:
            value = self.arguments(dtypes)[parameter.name]
            silent = value is parameter.default or parameter.name in self.given or type(value).__name__ == "Generator"
            words += [] if silent else [f"{parameter.name}={describe(value)}"]
        kind = ", values in the thousands" if self.wild else ""
        case = "" if self.case.name == "base" else f"{self.case.name}; "
        return f"{case}{', '.join(words)}; seed {self.seed}{kind}"

    def _tensor(self, choice: Tensors, path: str, dtypes: Dtypes) -> Any:
        import torch

        shape = self.shapes[path]
        dtype = getattr(torch, dtype_of(choice.specs, dtypes))
        generator = torch.Generator().manual_seed(self.seed + zlib.crc32(path.encode()))
        if dtype == torch.bool:
            return torch.rand(shape, generator=generator) < 0.6
        if not (dtype.is_floating_point or dtype.is_complex):
            return torch.randint(0, max(self.bounds[path], 1), shape, generator=generator).to(dtype)
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        if self.wild:
            values = torch.where(torch.rand(shape, generator=generator) < 0.25, 1000 * values, values)
        return values.to(dtype)

    def _made(self, made: Made, dtypes: Dtypes) -> Any:
        import torch

        if made.kind == "size":
            return self.sizes[made.name]
        if made.kind == "dtype":
            return getattr(torch, dtypes.floating)
        return torch.device("cpu") if made.kind == "device" else torch.Generator().manual_seed(self.seed)


def dtype_of(specs: tuple[TensorSpec, ...], dtypes: Dtypes) -> str:
    """The dtype of a tensor: the kept one where the annotation allows it, else the best it does allow."""
    import torch

    floats = (dtypes.floating, "float32", "float64", "bfloat16", "float16")
    for name in (
        *floats,
        dtypes.integer,
        "int64",
        "int32",
        "int16",
        "int8",
        "bool",
        "uint8",
        "complex128",
        "complex64",
    ):
        if any(spec.dtypes is None or name in spec.dtypes for spec in specs):
            return name
    known = [name for name in specs[0].dtypes or () if hasattr(torch, name)]
    raise ContractError(f"laws: no tensor can be drawn of a dtype among {known}")


def _cast(parameter: Parameter, value: Any, dtypes: Dtypes) -> Any:
    """A value given for a parameter, its tensors in the dtypes of the call where their annotation keeps them."""

    def change(leaf: Leaf) -> Any:
        import torch

        kept = leaf.tensor.dtype.is_floating_point and dtype_of((leaf.spec,), dtypes) == dtypes.floating
        return leaf.tensor.to(getattr(torch, dtypes.floating)) if kept else leaf.tensor

    return rebuild(parameter.spec, value, change)
