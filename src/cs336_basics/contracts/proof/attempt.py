"""One run of a function on arguments without values, and what it showed.

Only `prove` imports this file, when it is called: it needs torch.
"""

import contextlib
import logging
import random
import re
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from cs336_basics.contracts.cases import Builder, Case, build
from cs336_basics.contracts.errors import ContractError, require
from cs336_basics.contracts.proof.algebra import always, only_solution
from cs336_basics.contracts.proof.standins import StandIns
from cs336_basics.contracts.proof.symbols import Asked, Env, IntLike, Premises, product
from cs336_basics.contracts.proof.verdict import judge
from cs336_basics.contracts.proof.watch import Stop, Watch
from cs336_basics.contracts.proof.world import World
from cs336_basics.contracts.signature import Signature

HERE: Final = str(Path(__file__).parents[1])
WAITS: Final = (DataDependentOutputException, DynamicOutputShapeException, GuardOnDataDependentSymNode)

LOGGERS: Final = ("torch._subclasses.fake_tensor", "torch.fx.experimental.symbolic_shapes", "torch.__trace")
ABOUT_DEVICES: Final = (
    "different devices",
    "not on the expected device",
    "linked with support for",
    "not compiled with",
)


class Finding(NamedTuple):
    """A rule that was broken, as `Failure` has it."""

    rule: str
    axis: str
    expression: str
    message: str


@dataclass(frozen=True)
class Call:
    """What is called: a function, how, and on what kind of tensors."""

    function: Callable[..., Any]
    signature: Signature
    values: Mapping[str, Any]
    case: Case
    rank: int
    dtype: str
    stretched: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Attempt:
    """What one run showed. `refused` is the function's own refusal, by `require` or a ContractError it raises."""

    world: World
    findings: list[Finding]
    refused: str = ""
    leaves_out: list[tuple[str, int]] = field(default_factory=list)  # sizes that torch treats apart: to be run as well
    wants: list[Asked] = field(default_factory=list)  # what `require` asked and the premises do not hold yet
    leaves: tuple[str, ...] = ()  # the axes that the sizes are made of


def symbolic(call: Call, premises: Premises) -> Attempt:
    """Run with a symbol for every axis."""
    env = Env(call.signature.function.__code__.co_filename)
    symbols: dict[str, IntLike] = {}

    def leaf(part: str | int) -> IntLike:
        if isinstance(part, int):
            return part
        if part not in symbols:
            symbols[part] = env.symbol(part, premises.example(part))
        return symbols[part]

    def make(name: str) -> IntLike:
        return product(leaf(part) for part in premises.leaves(name))

    world = World(call.rank, call.dtype, make, env.same, env.read, call.stretched)
    attempt = Attempt(world, [])
    with _quiet(), _fake(env):
        args, kwargs = _arguments(call, world)
        signature = call.signature
        watch = Watch(env, world.tensors, world.pairs(signature), signature.python.bind(*args, **kwargs).arguments)
        env.asked.clear()
        before = _random_states()
        error: BaseException | None = None
        result: Any = None
        try:
            with StandIns(watch.read), watch:
                result = call.function(*args, **kwargs)
        except (Exception, Stop) as raised:  # whatever it raises is what it showed
            error = raised
        drawn = _put_back(before)
        watch.finish()
        asked = list(env.asked)
        faults = [] if error else list(judge(world, signature.result, result))
    attempt.leaves = tuple(symbols)
    attempt.findings += [Finding(*violation) for violation in watch.violations.values()]
    attempt.findings += [Finding("random", "", name, f"it draws from {name}") for name in drawn]
    _sort_questions([q for q in asked if q.condition not in premises.facts], attempt, error)
    attempt.findings += [Finding(*fault) for fault in faults]
    if error is not None:
        _explain(error, attempt)
    names = {str(symbol): str(name) for symbol, name in env.axis_of.items()}
    attempt.refused = _named(attempt.refused, names)
    attempt.findings = [finding._replace(message=_named(finding.message, names)) for finding in attempt.findings]
    return attempt


def specialises(question: Asked, hint: str = "") -> Finding:
    """The finding that a function is right for some sizes only."""
    axes = ", ".join(sorted(map(str, question.condition.free_symbols)))
    message = f"it is right only where {question.condition}{hint}, at {question.place}"
    return Finding("specialises", axes, str(question.condition), message)


def numeric(call: Call, premises: Premises, sizes: Mapping[str, int]) -> Attempt:
    """Run with a number for every axis: those of `sizes`, else the examples."""

    def make(name: str) -> IntLike:
        return product(
            part if isinstance(part, int) else sizes.get(part, premises.example(part)) for part in premises.leaves(name)
        )

    world = World(call.rank, call.dtype, make, lambda one, other: bool(one == other), int, call.stretched)
    attempt = Attempt(world, [])
    before = _random_states()
    try:
        with _quiet(), _fake(None):
            args, kwargs = _arguments(call, world)
            with StandIns():
                result = call.function(*args, **kwargs)
            attempt.findings = [Finding("edge", *fault[1:]) for fault in judge(world, call.signature.result, result)]
    except WAITS:
        pass  # the run with symbols has said so
    except Exception as error:  # whatever it raises is what it showed
        if _own_refusal(error):
            attempt.refused = str(error)
        else:
            attempt.findings = [Finding("edge", "", "", _brief(error))]
    finally:
        _put_back(before)
    return attempt


def _random_states() -> dict[str, Any]:
    """The state of each global random generator outside torch."""
    return {"Python's random": random.getstate(), "numpy's random": np.random.get_state()}


def _put_back(states: Mapping[str, Any]) -> list[str]:
    """Restore the random generators; the names of those that had drawn."""
    now = _random_states()
    random.setstate(states["Python's random"])
    np.random.set_state(states["numpy's random"])
    return [
        name
        for name, state in states.items()
        if not all(np.array_equal(one, other) for one, other in zip(state, now[name], strict=True))
    ]


def _arguments(call: Call, world: World) -> tuple[list[Any], dict[str, Any]]:
    """Positional and named arguments."""
    builder = Builder(tensor=world.tensor, made=world.made)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for parameter in call.signature.parameters:
        if parameter.name in call.values:
            value = call.values[parameter.name]
        else:
            value = build(call.signature, parameter, call.case, builder)
        if parameter.kind is parameter.kind.KEYWORD_ONLY:
            kwargs[parameter.name] = value
        elif parameter.kind is parameter.kind.VAR_KEYWORD:
            kwargs |= value
        elif parameter.kind is parameter.kind.VAR_POSITIONAL:
            args += value
        else:
            args.append(value)
    return args, kwargs


def _sort_questions(asked: list[Asked], attempt: Attempt, error: BaseException | None) -> None:
    """What the run asked of sizes: a premise to take in where `require` asked, else a specialisation."""
    for question in asked:
        if always(question.condition):
            continue
        if "require" in question.asker:
            attempt.wants.append(question)
        elif question.asker == "torch" and (left_out := only_solution(question.condition)):
            attempt.leaves_out.append((str(left_out[0]), left_out[1]))
        elif question.asker != "contract" or error is None:  # a contract's question was answered by its error
            attempt.findings.append(specialises(question))


def _explain(error: BaseException, attempt: Attempt) -> None:
    """What an exception says, unless something found before has said it already."""
    known = {finding.rule for finding in attempt.findings}
    if _own_refusal(error):
        attempt.refused = str(error)
        return
    rule = "error"
    if isinstance(error, (*WAITS, Stop)):
        rule = "host read"
    elif isinstance(error, ContractError) or type(error).__name__ == "TypeCheckError":
        rule = "contract"
    elif any(part in str(error) for part in ABOUT_DEVICES):
        rule = "device"
    if rule not in known and not (rule == "error" and known & {"device", "host read"}):
        attempt.findings.append(Finding(rule, "", type(error).__name__, _brief(error)))


def _own_refusal(error: BaseException) -> bool:
    """Whether the function itself refused, by `require` or by raising ContractError; not a check of annotations."""
    if not isinstance(error, ContractError):
        return False
    last = traceback.extract_tb(error.__traceback__)[-1]
    *_, (frame, _line) = traceback.walk_tb(error.__traceback__)
    return frame.f_code is require.__code__ or not last.filename.startswith((HERE, "<"))


def _brief(error: BaseException) -> str:
    """The exception in one line, and where it was raised outside torch."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text if len(text) < 300 else text[:297] + '...'}"


def _named(message: str, names: Mapping[str, str]) -> str:
    """A message with the axes' names for torch's symbols."""
    return re.sub(r"(?:\b|(?<=\dx))s\d+(?=\b|x)", lambda match: names.get(match.group(), match.group()), message)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warnings and its log of what failed: the report says it."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    before = [logger.disabled for logger in loggers]
    try:
        for logger in loggers:
            logger.disabled = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


def _fake(env: Env | None) -> FakeTensorMode:
    mode = FakeTensorMode(shape_env=env, allow_non_fake_inputs=True)
    # Its cache belongs to the whole process, and costs more than it saves for sizes that are new in every run.
    mode.cache_enabled = False
    return mode
