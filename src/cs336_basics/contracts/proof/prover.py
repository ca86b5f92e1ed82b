"""The loop of a proof: over ranks, cases, dtypes and edges.

Only `prove` imports this file, when it is called: it needs torch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cs336_basics.contracts.cases import Case, cases
from cs336_basics.contracts.proof.attempt import Attempt, Call, Finding, numeric, specialises, symbolic
from cs336_basics.contracts.proof.report import Failure
from cs336_basics.contracts.proof.symbols import Premises
from cs336_basics.contracts.proof.world import World
from cs336_basics.contracts.shapes import Variadic
from cs336_basics.contracts.signature import Signature, tensors

OF_SIZES: Final = frozenset({"contract", "error", "specialises"})

# A function that asks for more conditions than this, one after the other, is beyond us.
QUESTIONS: Final = 12
# Sizes that torch treats apart, as s - 1 == 1 in a broadcast, are run apart: as many as this.
APART: Final = 8


@dataclass
class Prover:
    """The loop over ranks, cases and dtypes, and what it gathers."""

    function: Callable[..., Any]
    signature: Signature
    values: Mapping[str, Any]
    ranks: tuple[int, ...]
    dtypes: tuple[str, ...]
    cases: int = 0
    failures: dict[tuple[str, str, str], Failure] = field(default_factory=dict)
    given: dict[str, None] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    accepted: set[str] = field(default_factory=set)  # dtypes
    narrowed: set[str] = field(default_factory=set)  # axes that the base case was run without, at 1
    learned: dict[Any, Premises] = field(default_factory=dict)

    def run(self) -> None:
        """Try every case in every rank and dtype, as far as the function can tell them apart."""
        for rank in self.ranks:
            worlds = [self._try(case, rank) for case in cases(self.signature, self.values)]
            self.narrowed.clear()
            if not any(world.uses_rank for world in worlds):
                break
        for dtype in dict.fromkeys(self.refused.values()):
            if dtype not in self.accepted:
                reasons = "; ".join(reason for reason, of in self.refused.items() if of == dtype)
                self._fail("contract", "", dtype, f"it refuses every call that was tried: {reasons}", dtype)

    def _try(self, case: Case, rank: int) -> World:
        """One case in each dtype, with the axes marked # as they are and stretched."""
        base = Call(self.function, self.signature, self.values, case, rank, self.dtypes[0])
        world = self._hold(base, edges=True)
        stretches: list[dict[str, str]] = [{}, *_stretches(world)]
        for stretched in stretches[1:]:
            self._hold(replace(base, stretched=stretched), edges=True)
        # Whether a dtype is kept does not hang on the rank: only the base case is run in both together.
        last = rank == self.ranks[-1] or not world.uses_rank
        for dtype in self.dtypes[1:] if world.uses_dtype else ():
            for stretched in stretches:
                if last or not (case.picks or stretched):
                    self._hold(replace(base, dtype=dtype, stretched=stretched), edges=False)
        return world

    def _hold(self, call: Call, *, edges: bool) -> World:
        """One run with symbols, and if it passed, runs at the edges."""
        attempt, premises = self._settle(call)
        where = _where(call, attempt.world)
        # Without its size an axis may be more than the function can take: kv_heads=None means heads.
        unsized = any(call.case.picks.get(name) for name in self.signature.sizes)
        findings = [finding for finding in attempt.findings if not (unsized and finding.rule in OF_SIZES)]
        for finding in findings:
            self._fail(*finding, where)
        if attempt.refused and not attempt.findings:
            self.refused.setdefault(attempt.refused, call.dtype)
        else:
            self.accepted.add(call.dtype)
        if attempt.refused or findings or unsized:
            return attempt.world
        prefix = f"{call.case.name}: " if call.case.picks else ""
        self.given |= dict.fromkeys(prefix + text for text in premises.texts if text not in self.given)
        if edges:
            self._hold_at_edges(call, attempt, premises, where)
        return attempt.world

    def _hold_at_edges(self, call: Call, attempt: Attempt, premises: Premises, where: str) -> None:
        """Runs with numbers; of an axis that the base case has been run without, not again in every variation."""
        alone = [name for name in attempt.leaves if name not in self.narrowed]
        if not call.case.picks and not call.stretched:
            self.narrowed |= set(attempt.leaves)
        for sizes in _edges(self.signature, attempt.leaves, alone):
            self.cases += 1
            at = ", ".join(f"{name} = {size}" for name, size in sizes.items())
            for finding in numeric(call, premises, sizes).findings:
                self._fail(*finding, f"{where}, {at}")

    def _settle(self, call: Call) -> tuple[Attempt, Premises]:
        """Run until what the function requires of sizes is known; once more for each size that torch treats apart."""
        # What a case required in one rank and dtype it will require in the others.
        premises = self.learned.setdefault((call.case.name, *sorted(call.stretched.items())), Premises())
        first = attempt = self._run(call, premises)
        seen, pending = {premises.key()}, [(attempt, premises)]
        while pending:
            attempt, known = pending.pop()
            for axis, size in attempt.leaves_out:
                apart = known.at(axis, size)
                if apart.key() in seen:
                    continue
                seen.add(apart.key())
                if len(seen) > APART:
                    message = f"torch treats too many sizes apart, {axis} = {size} among them"
                    first.findings.append(Finding("specialises", axis, f"{axis} == {size}", message))
                    return first, premises
                other = self._run(call, apart)
                first.findings += other.findings
                pending.append((other, apart))
        return first, premises

    def _run(self, call: Call, premises: Premises) -> Attempt:
        """Run with symbols, again as long as something new is required."""
        for _ in range(QUESTIONS):
            self.cases += 1
            attempt = symbolic(call, premises)
            if not any(premises.add(asked) for asked in attempt.wants):
                break
        attempt.findings += [specialises(asked, "; let the annotation say so") for asked in attempt.wants]
        return attempt

    def _fail(self, rule: Any, axis: str, expression: str, message: str, where: str) -> None:
        """Keep a failure, once: the same in another rank or dtype says nothing new."""
        failure = Failure(rule, where, axis, expression, message)
        self.failures.setdefault((rule, axis, expression), failure)


def _stretches(world: World) -> Iterator[dict[str, str]]:
    """Each axis or axes marked #, of size 1 or left out."""
    for path, several in sorted(world.marked):
        if not several:
            yield {path: "ones"}
        elif world.rank:
            yield from ({path: "ones"}, {path: "dropped"})


def _edges(signature: Signature, leaves: Sequence[str], alone: Sequence[str]) -> Iterator[dict[str, int]]:
    """Axes at 1, one alone and all together; each batch axis at 0: axes that stand before others in some shape."""
    yield from ({name: 1} for name in alone)
    if len(leaves) > 1:
        yield dict.fromkeys(leaves, 1)
    specs = (signature.result, *(parameter.spec for parameter in signature.parameters))
    shapes = [tensor.shape for spec in specs for tensor in tensors(spec)]
    batches = {
        axis.name for shape in shapes for axis in shape.axes if isinstance(axis, Variadic) and len(shape.axes) > 1
    }
    yield from ({name: 0} for name in alone if "[" in name and name.split("[")[0] in batches)


def _where(call: Call, world: World) -> str:
    """The case in words."""
    parts = [call.case.name] if call.case.picks else []
    parts += [f"{path} with # axes {how}" for path, how in call.stretched.items()]
    parts += [f"rank {call.rank}"] if world.uses_rank else []
    parts += [call.dtype] if world.uses_dtype else []
    return ", ".join(parts) or "the only case"
