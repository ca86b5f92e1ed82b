"""prove and laws over the corpus: each wrong function caught by its own rule, each right one accepted."""

import pytest
from beartype import beartype
from jaxtyping import AnnotationError, TypeCheckError, jaxtyped

from cs336_basics.contracts import LawError, laws, prove
from tests.contracts.corpus import inputs
from tests.contracts.corpus.registry import RIGHT, WRONG, Entry, load

load()

EVERY_RULE = {"shape", "dtype", "specialises", "writes", "random", "host read", "broadcast", "device", "edge"}
EVERY_LAW = {"arguments", "deterministic", "batch", "strides", "vmap", "dtype"}
# Bugs that no call can hide: the annotation itself is broken at every size. The issue asks for them by name.
PLAIN = {"cache_grows_along_heads", "targets_shifted_twice", "targets_not_cut", "appends_end_of_text"}


def _entries(table: dict[str, Entry]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("entry", table.values(), ids=table.keys())


def test_is_as_large_as_promised_and_names_every_rule_and_law() -> None:
    assert len(WRONG) >= 45
    assert len(RIGHT) >= 45
    assert EVERY_RULE | {"contract", "error"} <= {rule for entry in WRONG.values() for rule in entry.rules}
    assert {entry.law for entry in WRONG.values()} - {None} == EVERY_LAW


@_entries(WRONG)
def test_says_what_the_bug_is_and_where_it_hides(entry: Entry) -> None:
    bug, _, hides = (entry.function.__doc__ or "").partition(". ")
    assert bug.startswith("Bug: ")
    assert hides.startswith(("Missed ", "Runs "))


@_entries(WRONG)
def test_wrong_runs_where_it_is_said_to(entry: Entry) -> None:
    _run(entry, entry.batch, meets=entry.name not in PLAIN)


@_entries(RIGHT)
def test_right_runs_at_sizes_that_differ_and_at_equal_ones(entry: Entry) -> None:
    for batch in ((), (2,), (3, 2)):
        _run(entry, batch)
    for batch, sizes in ((inputs.EQUAL_BATCH, inputs.EQUAL), ((1,), dict.fromkeys(inputs.NAMES, 1))):
        _run(Entry(entry.function, (), None, batch, sizes), batch)


def _run(entry: Entry, batch: tuple[int, ...], *, meets: bool = True) -> None:
    """Call the function itself, then under jaxtyping and beartype, who must accept what it returns."""
    for call in inputs.calls(entry.function, batch=batch, sizes=entry.sizes):
        entry.function(*call.args, **call.kwargs)
    for call in inputs.calls(entry.function, batch=batch, sizes=entry.sizes):
        try:
            jaxtyped(entry.function, typechecker=beartype)(*call.args, **call.kwargs)
        except AnnotationError as error:
            assert "symbolic axis" in str(error)  # noqa: PT017  # `heads*d_k` before d_k is bound: not theirs to read
        except TypeCheckError:
            assert not meets


@_entries({name: entry for name, entry in WRONG.items() if entry.rules})
def test_prove_catches_by_the_rule(entry: Entry) -> None:
    proof = prove(entry.function)
    assert not proof.ok
    assert set(entry.rules) <= {failure.rule for failure in proof.failures}, proof.failures


@_entries({name: entry for name, entry in WRONG.items() if entry.law})
def test_laws_catch_by_the_law(entry: Entry) -> None:
    with pytest.raises(LawError) as caught:
        laws(entry.function)
    assert caught.value.law == entry.law, caught.value


@_entries(RIGHT)
def test_prove_accepts(entry: Entry) -> None:
    proof = prove(entry.function)
    assert proof.ok, proof.failures


@_entries(RIGHT)
def test_laws_accept(entry: Entry) -> None:
    laws(entry.function)
