"""`prove`: a function's annotations hold for every size at once."""

import collections.abc
import time
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from cs336_basics.contracts.errors import ContractError
from cs336_basics.contracts.proof.report import Proof
from cs336_basics.contracts.shapes import parse_shape
from cs336_basics.contracts.signature import (
    ManySpec,
    PlainSpec,
    Signature,
    Spec,
    TensorSpec,
    TupleSpec,
    UnionSpec,
    read_signature,
    tensors,
)


def prove(
    fn: Callable[..., Any],
    /,
    *,
    ranks: Sequence[int] = (0, 1, 2),
    dtypes: Sequence[str] = ("float32", "bfloat16", "float64"),
    **values: Any,
) -> Proof:
    """Run `fn` with a symbol for every axis: what its annotations promise then holds for every size at once.

    Arguments are built from the annotations: tensors without values on a device of their own, one symbol for each
    axis name, `*batch` of every rank in `ranks`, floating tensors in every dtype of `dtypes`; an int parameter named
    like an axis is its symbol. Plain parameters take `values`, their defaults, or what their type tells (int 1, float
    0.5); every bool, Literal and `| None` is tried in each of its choices, one at a time, and axes marked # also as 1
    and left out. The function runs once in each case, and must

    - return the shapes and dtypes of its annotation ("shape", "dtype"; `Float` is the arguments' own dtype),
    - ask no size for its value ("specialises"), but by `require`: such conditions are the proof's `given`,
    - write into no argument, its containers and gradients included, nor into a tensor from outside ("writes"),
    - draw only from a generator it was given ("random"), put nothing on another device ("device"),
    - read or print no value on the host ("host read", which ends the run: what follows is not looked at),
    - broadcast no axis of an argument against itself, as [b] - [b, 1] does ("broadcast"), unless both operands put
      the axis in on purpose (x[:, None], x[None, :]) or an annotation announces it twice ("seq seq"),
    - keep the contracts and requirements of what it calls ("contract"), and raise nothing else ("error").

    The function really runs, at least once in each case: what it does to Python objects other than its arguments and to
    tensors with values from outside, is done. Python's and numpy's global random states are put back.

    A symbol stands for all sizes from 2 on. Sizes of 1, and of 0 for batch axes, are run as numbers ("edge").

    What is trusted: torch's meta kernels say what its kernels do; ranks and dtypes other than those given behave
    alike; values of plain parameters other than those tried too; no branch depends on values (one that does is a
    "host read"). Of two parameters' choices only one at a time differs from the base case. Values are not looked at:
    a right shape with wrong numbers in it is for tests and `laws`. Data hidden from torch's dispatcher (NumPy, C
    extensions) is not seen.

    Reported though right: torch functions that choose a kernel by size, as cdist and unfold, "specialise" where that
    size is a symbol.

    Raises: ContractError for a value of no parameter, for a parameter whose value nothing tells, for an annotation
        that cannot be read. What is wrong with the function itself is in the Proof.

    >>> from jaxtyping import Float
    >>> from torch import Tensor
    >>> def mean(x: Float[Tensor, "*batch seq d_k"]) -> Float[Tensor, "*batch d_k"]:
    ...     return x.mean(-1)
    >>> prove(mean).failures[0].message
    "the result must be '*batch d_k', here (d_k,), got (seq,)"
    """
    from cs336_basics.contracts.proof.prover import Prover

    contract = getattr(fn, "__contract__", None)
    function = contract.function if contract else fn
    signature = widened(contract.signature if contract else read_signature(fn))
    known = {parameter.name for parameter in signature.parameters}
    for name in values:
        if name not in known:
            raise ContractError(f"prove: {signature.name} has no parameter {name!r}")
    begin = time.perf_counter()
    prover = Prover(function, signature, values, tuple(ranks), tuple(dtypes))
    if any(any(tensors(spec)) for spec in (signature.result, *(p.spec for p in signature.parameters))):
        prover.run()
        note = ""
    else:
        note = "no tensors: nothing to prove"
    return Proof(
        name=signature.name,
        cases=prover.cases,
        seconds=time.perf_counter() - begin,
        failures=tuple(prover.failures.values()),
        given=tuple(prover.given),
        refused=tuple(prover.refused),
        note=note,
    )


def widened(signature: Signature) -> Signature:
    """The signature with plain tensors, `Tensor` and `Iterable[Tensor | None]`, read as tensors of any shape."""
    parameters = tuple(replace(p, spec=_widened(p.spec.hint) or p.spec) for p in signature.parameters)
    return replace(signature, parameters=parameters)


def _widened(hint: Any) -> Spec | None:
    import torch

    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is torch.Tensor:
        return TensorSpec(hint, hint, None, parse_shape("..."))
    found = [_widened(argument) for argument in arguments]
    if not any(found):
        return None
    if origin in (typing.Union, types.UnionType):
        return UnionSpec(hint, tuple(spec or PlainSpec(a) for spec, a in zip(found, arguments, strict=True)))
    if origin in (collections.abc.Iterable, collections.abc.Sequence, collections.abc.Collection, list, tuple):
        item = found[0]
        if item is None or (origin is tuple and arguments[1:] != (Ellipsis,)):
            return None
        return TupleSpec(hint, (next(tensors(item)), item)) if origin is not list else ManySpec(hint, list, item)
    return None
