"""`laws(fn)`: what every function of tensors promises by its annotations, tried on drawn examples."""

import collections.abc
import math
import types
import typing
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cs336_basics.contracts.cases import Case, cases
from cs336_basics.contracts.errors import ContractError, LawError
from cs336_basics.contracts.law.example import Dtypes, Example
from cs336_basics.contracts.law.strategies import RANKS, is_bound
from cs336_basics.contracts.law.strategies import examples as drawn
from cs336_basics.contracts.law.trial import NOT_BATCH, Trial
from cs336_basics.contracts.signature import PlainSpec, Signature, Spec, parts, read_signature

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

RUN: Final = 9  # after ten examples hypothesis takes to varying those it has, which find little here

PATIENCE: Final = 100  # refusals in a row after which a run is given up


def laws(fn: Callable[..., Any], /, *, examples: int = 25, **values: Any) -> None:
    """Try the laws on `examples` calls of each case: f(x)[i] = f(x[i]), and the others below.

    "call":          what the annotations allow is accepted, and the result is what they promise. A ContractError is
                     a refusal: the example is not in the function's domain, and another is drawn.
    "arguments":     no argument is written, nor any parameter or buffer of the module a method belongs to.
    "deterministic": the same call twice gives the same bits, and torch's hidden random numbers are left alone.
    "batch":         f(x)[i] = f(x[i]) for each index of each axis that `*batch` stands for, wherever it stands.
                     Every name with a star is such a one, but for `*shape`.
    "strides":       the result is the same for storage transposed, with steps, with an offset, and for axes of
                     stride 0.
    "vmap":          torch.vmap over each of those axes gives what the call on the whole gives.
    "dtype":         in float16, bfloat16, float32 and float64, and in each integer type, the result is of the dtype
                     that its annotation promises: `Float` that of the arguments, `Float32` itself.

    Values are compared in float64, within the rounding of `closeness.difference`; where the function computes in a
    narrower dtype, within that one's. A module's method is called in the dtype of the module. A call that draws
    from the torch.Generator it was given is not held to "batch" and "vmap": its rows share one stream.

    The cases are those of `cases.cases`: a base, and every variation of one choice. Sizes are 1 to 5, those of batch
    axes 0 to 4, of which there are 0 to 2. Tensors of integers stay below the size of `vocab` or `positions` where
    the signature names one, else below that of every axis of the others. What a signature cannot say is given by
    name, as `strategies.examples` reads it:

        laws(rope, half="d_k//2", d_k=4)                    # an axis: an int or a formula
        laws(embedding, ids="vocab")                        # what a tensor of integers stays below
        laws(sample, temperature=0.0)                       # a plain parameter
        laws(f, cache=lambda sizes: KVCache(...))           # a tensor, made from the sizes

    The examples are the same at every run, and the one reported is the simplest that was found.

    Raises: LawError naming the law, the axis and the example; ContractError for a value that stands for nothing, for
        a parameter that needs one, or where too few examples are accepted to judge by.
    Source: property-based testing, Claessen & Hughes 2000; hypothesis, MacIver et al. 2019.
    """
    fn = fn.forward if hasattr(fn, "forward") else fn  # a module is its forward
    signature = _signature(fn)
    bounds = {p.name for p in signature.parameters if p.name in values and is_bound(p, values[p.name])}
    for parameter in signature.parameters:
        if parameter.name not in values and _is_bare(parameter.spec):
            raise ContractError(
                f"{signature.name}: {parameter.name} must be given a value, as in {parameter.name}=..., "
                "since a Tensor without a shape cannot be drawn"
            )
    for case in cases(signature, set(values) - bounds):
        _hold(fn, signature, case, values, examples)


def _signature(fn: Callable[..., Any]) -> Signature:
    """The signature of the function under the contract; of a bound method, without self."""
    found = getattr(fn, "__contract__", None)
    plain = fn if found is None else found.function
    owner = getattr(fn, "__self__", None)
    return read_signature(fn if plain is fn else plain if owner is None else types.MethodType(plain, owner))


def _is_bare(spec: Spec) -> bool:
    """Whether a tensor stands in an annotation without its shape, outside the signature of a callable."""
    hints = [spec.hint] if isinstance(spec, PlainSpec) else []
    while hints:
        hint = hints.pop()
        if getattr(hint, "__name__", "") == "Tensor":
            return True
        hints += () if typing.get_origin(hint) is collections.abc.Callable else typing.get_args(hint)
    return any(map(_is_bare, parts(spec)))


def _own_dtypes(fn: Callable[..., Any]) -> Dtypes | None:
    """The dtype of the module that a method belongs to, if it belongs to one that has a floating tensor."""
    for tensor in _hidden(fn):
        if tensor.is_floating_point():
            return Dtypes(floating=str(tensor.dtype).removeprefix("torch."))
    return None


def _hidden(fn: Callable[..., Any]) -> list[Any]:
    """The parameters and buffers of the module that a method belongs to."""
    owner: Any = getattr(fn, "__self__", None)
    is_module = hasattr(owner, "parameters") and hasattr(owner, "buffers")
    return [*owner.parameters(), *owner.buffers()] if is_module else []


def _hold(fn: Callable[..., Any], signature: Signature, case: Case, values: dict[str, Any], examples: int) -> None:
    """Try one case; raise the simplest failure."""
    seen = _Seen()
    for run in range(-(-examples // RUN)):
        _try(fn, drawn(signature, case, values, RANKS[run % len(RANKS)]), run, seen)
    seen.judge(signature, case, examples)


def _try(fn: Callable[..., Any], calls: "SearchStrategy[Example]", run: int, seen: "_Seen") -> None:
    """Try a few calls, drawn afresh in each run."""
    import torch
    from hypothesis import HealthCheck, Phase, Verbosity, given, reject, seed, settings
    from hypothesis.errors import Flaky, Unsatisfiable

    own, hidden = _own_dtypes(fn), _hidden(fn)
    broken: list[LawError] = []
    seen.refused_in_a_row = 0

    @seed(run)
    @settings(
        max_examples=RUN,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,
    )
    @given(calls)
    def check(example: Example) -> None:
        if seen.refused_in_a_row >= PATIENCE:
            return  # all the same to hypothesis, which then soon has examples enough
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            try:
                trial = Trial(example, own, hidden)
                seen.note(example, None)
                trial.hold()
            except LawError as error:
                broken.append(error)
                if error.law == broken[0].law:  # what is simpler but breaks another law tells another story
                    raise
            except ContractError as refusal:
                seen.note(example, str(refusal))
                reject()

    try:
        check()
    except (LawError, Flaky):
        simplest = [error for error in broken if error.law == broken[0].law][-1]
        raise simplest.with_traceback(None) from simplest.__cause__
    except Unsatisfiable:
        pass  # `seen` tells the story


@dataclass
class _Seen:
    """How many examples of each kind were tried, how many accepted, and why one was not."""

    tried: dict[str, int] = field(default_factory=dict)
    accepted: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    refused_in_a_row: int = 0

    def note(self, example: Example, refusal: str | None) -> None:
        """Count an example, by the number of its batch axes and whether one holds several entries."""
        self.refused_in_a_row = 0 if refusal is None else self.refused_in_a_row + 1
        kinds = {"any"}
        for name, sizes in example.several.items():
            if name == NOT_BATCH:
                continue  # a function may well need an axis to work along
            kinds.add(f"{len(sizes)} axes for *{name}")
            kinds |= {f"several entries along *{name}"} if math.prod(sizes) > 1 else set()
        for kind in kinds:
            self.tried[kind] = self.tried.get(kind, 0) + 1
            self.accepted[kind] = self.accepted.get(kind, 0) + (refusal is None)
            if refusal is not None:
                self.refusals[kind] = refusal

    def judge(self, signature: Signature, case: Case, examples: int) -> None:
        """Raises: ContractError where too few were accepted; LawError where a kind never was, against all odds."""
        tried, accepted = self.tried.get("any", 0), self.accepted.get("any", 0)
        where = "" if case.name == "base" else f" (with {case.name})"
        if accepted < min(examples, tried) / 5 or accepted == 0:
            raise ContractError(
                f"laws: {signature.name}{where} accepts only {accepted} of {tried} examples; give the sizes or values "
                f"that it needs by name. It last said: {self.refusals.get('any', 'nothing')}"
            )
        for kind, count in self.tried.items():
            if self.accepted[kind] == 0 and (1 - accepted / tried) ** count < 1e-6:
                message = f"refuses all {count} examples with {kind}: {self.refusals[kind]}"
                raise LawError(
                    f"{signature.name}{where} breaks the law 'call': {message}",
                    law="call",
                    function=signature.name,
                    example=kind,
                )
