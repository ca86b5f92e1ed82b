"""`python -m tests.contracts.table [name ...]`: every public function of ops, nn and optim proved and held to its laws.

Prints a table and exits 1 where a function is neither proved nor says in its contract why it cannot be. A name
(`ops.norm`, `rope`) keeps the functions whose full name contains it.
"""

import argparse
import importlib
import inspect
import pkgutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

import cs336_basics.nn
import cs336_basics.ops
import cs336_basics.optim
from cs336_basics.contracts import ContractError, laws, prove
from cs336_basics.contracts.signature import read_signature, tensors
from tests.contracts.given import GIVEN, MODULES, Given

ROOMS = (cs336_basics.ops, cs336_basics.nn, cs336_basics.optim)
RANKS = (0, 1, 2)
DTYPES = ("float32", "bfloat16", "float64")
WIDTHS = (44, 30, 8, 8)


@dataclass(frozen=True)
class Row:
    """What was found out about one function; `reason` is its own, in its contract, for not being provable."""

    name: str
    proof: str
    proof_s: float
    laws_s: float
    faults: tuple[str, ...]
    reason: str

    @property
    def ok(self) -> bool:
        return not self.faults or bool(self.reason)

    @property
    def verdict(self) -> str:
        if self.faults:
            return f"not proved: {self.reason}" if self.reason else "BROKEN"
        return "proved, laws hold" if self.proof_s else "laws hold"

    def line(self) -> str:
        cells = (self.name, self.proof, f"{self.proof_s:.1f}" if self.proof_s else "-", f"{self.laws_s:.1f}")
        return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS, strict=True)) + f"  {self.verdict}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.contracts.table", description="Prove, try laws, and judge.")
    parser.add_argument("names", nargs="*", help="keep the functions whose name contains one of these (default: all)")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.perf_counter()
    head = ("function", "ranks x dtypes", "proof s", "laws s")
    print("  ".join(f"{cell:<{width}}" for cell, width in zip(head, WIDTHS, strict=True)) + "  verdict")
    rows = []
    for row in found(asked.names):
        rows.append(row)
        print(row.line(), *(f"    {fault.splitlines()[0]}" for fault in row.faults), sep="\n", flush=True)
    broken = [row.name for row in rows if not row.ok]
    print(f"{len(rows)} functions, {len(broken)} broken, {time.perf_counter() - begin:.0f} s")
    return 1 if broken or not rows else 0


def found(names: list[str]) -> Iterator[Row]:
    """One row for each function, as soon as it is known."""
    for name, fn in functions():
        if _is_asked(name, names):
            yield judged(name, fn, GIVEN.get(name, (Given(),)), proves=True)
    for name, (module, given) in MODULES.items():
        if _is_asked(name, names):
            # A module's weights have sizes of their own: what is for all sizes is proved of the op it calls.
            yield judged(name, getattr(module(), name.rpartition(".")[2]), given, proves=False)
    for name in modules():
        if _is_asked(name, names) and f"{name}.forward" not in MODULES:
            yield Row(name, "", 0, 0, ("tests/contracts/given.py says nothing of it",), "")


def functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """The public functions of the rooms in whose annotations a tensor stands."""
    for name, value in _public():
        if inspect.isfunction(value) and _has_tensors(value):
            yield name, value


def modules() -> Iterator[str]:
    """The public modules of `nn`."""
    for name, value in _public():
        if inspect.isclass(value) and issubclass(value, torch.nn.Module):
            yield name


def judged(name: str, fn: Callable[..., Any], given: tuple[Given, ...], *, proves: bool) -> Row:
    """Prove a function and try its laws, once with each of the values it is given."""
    faults: list[str] = []
    proof_s, cases, begin = 0.0, 0, time.perf_counter()
    for values in given if proves else ():
        try:
            proof = prove(fn, ranks=RANKS, dtypes=DTYPES, **values.proof)
            faults += map(str, proof.failures)
            cases += proof.cases
        except ContractError as error:
            faults.append(str(error))
    proof_s = time.perf_counter() - begin if proves else 0.0
    begin = time.perf_counter()
    for values in given:
        try:
            laws(fn, **values.laws)
        except ContractError as error:
            faults.append(str(error))
    reason = getattr(getattr(fn, "__contract__", None), "unproved", "")
    shown = f"{len(RANKS)} x {len(DTYPES)}, {cases} cases" if proves else "by its op"
    return Row(name, shown, proof_s, time.perf_counter() - begin, tuple(dict.fromkeys(faults)), reason)


def _public() -> Iterator[tuple[str, Any]]:
    for room in ROOMS:
        for info in pkgutil.iter_modules(room.__path__):
            if not info.name.startswith("_"):
                module = importlib.import_module(f"{room.__name__}.{info.name}")
                for name, value in vars(module).items():
                    if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__:
                        yield f"{module.__name__}.{name}".removeprefix("cs336_basics."), value


def _has_tensors(fn: Callable[..., Any]) -> bool:
    signature = read_signature(inspect.unwrap(fn))
    specs = (signature.result, *(parameter.spec for parameter in signature.parameters))
    return any(True for spec in specs for _ in tensors(spec))


def _is_asked(name: str, names: list[str]) -> bool:
    return not names or any(part in name for part in names)


if __name__ == "__main__":
    sys.exit(main())
