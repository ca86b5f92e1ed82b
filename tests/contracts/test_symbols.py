"""Sizes as symbols: what they answer, what is remembered of the questions, and what premises make of them."""

from typing import Any

import pytest
import sympy  # type: ignore[import-untyped]  # it has no types
import torch
from torch.utils._sympy.functions import Mod

from cs336_basics.contracts.errors import require
from cs336_basics.contracts.proof.symbols import Asked, Env, Premises, evaluate, named, place

HEADS, KV, D_K, HALF, SEQ = map(named, ("heads", "kv_heads", "d_k", "half", "seq"))


def env() -> tuple[Env, torch.SymInt, torch.SymInt]:
    made = Env(__file__)
    return made, made.symbol("seq", 5), made.symbol("d_k", 7)


def test_a_symbol_is_at_least_2_and_asks_nothing_of_that() -> None:
    made, seq, d_k = env()
    assert seq > 1
    assert seq * d_k != 0
    assert not made.asked


def test_questions_are_kept_with_who_asked() -> None:
    made, seq, d_k = env()
    assert seq < 6
    require(d_k % 7 == 0, "")
    assert [(str(asked.condition), asked.asker) for asked in made.asked] == [
        ("seq < 6", "body"),
        ("Eq(Mod(d_k, 7), 0)", "require"),
    ]
    assert made.asked[0].place.startswith("test_symbols.py:")


def test_what_require_asked_is_kept_though_it_was_false() -> None:
    made, seq, _ = env()
    with pytest.raises(TypeError):
        require(seq >= 6, "")
    assert str(made.asked[0].condition) == "seq >= 6"


def test_a_requirement_of_another_file_is_told_apart() -> None:
    made = Env("/elsewhere.py")
    require(made.symbol("seq", 5) < 6, "")
    assert made.asked[0].asker == "other require"


def test_same_compares_without_asking() -> None:
    made, seq, d_k = env()
    assert made.same(seq * d_k + seq, seq * (d_k + 1))
    assert made.same((2 * seq) // 2, seq)
    assert not made.same(seq, d_k)
    assert not made.same(seq, 5)
    assert made.same(3, 3)
    assert not made.asked


@pytest.mark.parametrize(
    ("text", "size"), [("2*seq+1", 11), ("min(seq, d_k)", 5), ("max(seq, d_k, 9)", 9), ("(d_k-1)//2", 3)]
)
def test_evaluate(text: str, size: int) -> None:
    assert evaluate(text, {"seq": 5, "d_k": 7}) == size
    made, seq, d_k = env()
    symbolic: Any = evaluate(text, {"seq": seq, "d_k": d_k})
    assert not made.asked
    assert made.read(symbolic).subs({named("seq"): 5, named("d_k"): 7}) == size


def asked(condition: Any, asker: str = "require") -> Asked:
    return Asked(condition, asker, "here")


def test_a_divisor_makes_a_product() -> None:
    premises = Premises()
    assert premises.add(asked(sympy.Eq(Mod(HEADS, KV), 0)))
    assert list(premises.leaves("heads")) == ["kv_heads", "(heads/kv_heads)"]
    assert premises.texts == ["heads % kv_heads == 0"]
    assert premises.add(asked(sympy.Eq(Mod(KV, 2), 0)))
    assert list(premises.leaves("heads")) == [2, "(kv_heads/2)", "(heads/kv_heads)"]


def test_an_equality_makes_a_product_where_the_function_itself_requires_it() -> None:
    equality = sympy.Eq(D_K, 2 * HALF)
    assert not Premises().add(asked(equality, "other require"))
    assert not Premises().add(asked(sympy.Eq(D_K, 64)))
    assert not Premises().add(asked(sympy.Eq(D_K + 1, SEQ + HALF)))
    assert not Premises().add(asked(sympy.Ne(D_K, HALF)))
    premises = Premises()
    assert premises.add(asked(equality))
    assert list(premises.leaves("d_k")) == [2, "half"]


def test_a_fact_finds_examples() -> None:
    premises = Premises()
    for fact in (SEQ > D_K, D_K > 40, sympy.Eq(Mod(SEQ + D_K, 3), 0)):
        assert premises.add(asked(fact))
        assert not premises.add(asked(fact)), "known already"
    at = {named(name): premises.example(name) for name in ("seq", "d_k")}
    assert all(fact.subs(at) == sympy.true for fact in premises.facts)
    assert not premises.add(asked(D_K < 40)), "no example agrees with all"


def test_examples_differ() -> None:
    premises = Premises()
    assert len({premises.example(name) for name in "abcdefgh"}) == 8
    assert premises.example("a") == premises.example("a")


def test_a_size_apart_leaves_the_premises_as_they_were() -> None:
    premises = Premises()
    apart = premises.at("seq", 2)
    assert list(apart.leaves("seq")) == [2]
    assert list(premises.leaves("seq")) == ["seq"]
    assert apart.key() != premises.key()


def test_place_of_no_frame() -> None:
    assert place(None) == ""
