"""Every public function of `ops` and pure one of `optim` is proved, or says in its contract why it cannot be."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from cs336_basics.contracts import prove
from tests.contracts.given import GIVEN

ROOMS = {
    "ops": ("attention", "feed_forward", "linear", "loss", "norm", "rope", "sampling", "softmax", "transformer"),
    "optim": ("adamw", "clipping", "each", "muon", "schedules", "sgd"),
}


def public(room: str, file: str) -> list[Callable[..., Any]]:
    module = importlib.import_module(f"cs336_basics.{room}.{file}")
    functions = [
        value for name, value in vars(module).items() if inspect.isfunction(value) and not name.startswith("_")
    ]
    return [function for function in functions if function.__module__ == module.__name__]


FUNCTIONS = {f.__name__: f for room, files in ROOMS.items() for file in files for f in public(room, file)}


# What a signature cannot say, as the table of `nox -s contracts` gives it.
VALUES: dict[str, dict[str, Any]] = {
    name.rpartition(".")[2]: dict(given[0].proof) for name, given in GIVEN.items() if given[0].proof
}
UNPROVED = {"muon_update", "newton_schulz", "clip_grad_norm"}
VACUOUS = {"bits_per_byte", "cosine_schedule", "linear_schedule", "wsd_schedule", "split_parameters"}
# Tensors of any shapes, of which the n-th of each list belong together: no annotation can say that.
UNSAID = {"update_each"}
REQUIRED = {
    "causal_mask": ("keys >= queries",),
    "multihead_self_attention": (
        "heads % kv_heads == 0",
        "tables=given: 2*half == d_k",
        "tables=given: seq <= positions",
    ),
    "repeat_kv": ("heads % kv_heads == 0",),
    "rope_tables": ("d_k % 2 == 0",),
    "scaled_dot_product_attention": ("is_causal=True: keys >= queries",),
}
PROVED = sorted(FUNCTIONS.keys() - UNPROVED - VACUOUS - UNSAID)


def test_the_functions_were_found() -> None:
    assert len(PROVED) > 25
    assert FUNCTIONS.keys() >= UNPROVED | VACUOUS | UNSAID | VALUES.keys() | REQUIRED.keys()


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if "multihead" in n else n for n in PROVED])
def test_is_proved(name: str) -> None:
    proof = prove(FUNCTIONS[name], **VALUES.get(name, {}))
    assert proof.ok, str(proof)
    assert not proof.note
    assert proof.given == REQUIRED.get(name, ())


def test_those_that_are_not_checked_at_every_call_are_proved() -> None:
    """Of those that call functions they are given, only one looks at what these return."""
    held = {
        name for name, f in FUNCTIONS.items() if getattr(getattr(f, "__contract__", None), "held_by", "") == "proof"
    }
    if held:  # there are none where contracts are off
        assert held == {*PROVED, *VACUOUS} - {"pre_norm_block", "post_norm_block", "transformer_lm"}


@pytest.mark.parametrize("name", sorted(VACUOUS))
def test_has_nothing_to_prove(name: str) -> None:
    proof = prove(FUNCTIONS[name])
    assert (proof.ok, proof.cases) == (True, 0)


@pytest.mark.parametrize("name", sorted(UNPROVED))
def test_says_why_it_is_not_proved(name: str) -> None:
    assert not prove(FUNCTIONS[name]).ok, "then it needs no reason"
    carried = getattr(FUNCTIONS[name], "__contract__", None)  # none where contracts are off
    assert carried is None or len(carried.unproved) > 20
