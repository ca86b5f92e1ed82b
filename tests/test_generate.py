"""Generation: the cached loop is the uncached model, and stops where told."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cs336_basics.config import ModelConfig
from cs336_basics.contracts import ContractError
from cs336_basics.generate import LanguageModel, generate
from cs336_basics.nn import TransformerLM
from cs336_basics.ops.attention import KVCache
from cs336_basics.ops.sampling import sample
from tests.train.tiny import MODEL, tiny_model

CONTEXT = MODEL.context_length
PROMPT = torch.tensor([3, 1, 4, 1, 5])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def naive(
    model: TransformerLM,
    prompt: Tensor,
    *,
    max_new_tokens: int,
    stop_ids: Collection[int] = (),
    generator: torch.Generator | None = None,
    **options: Any,
) -> list[int]:
    """The documented rule without a cache: the whole window goes through the model for every token."""
    context = model.config.context_length
    window = prompt[-context:].tolist()
    found: list[int] = []
    while len(found) < max_new_tokens:
        if len(window) == context + 1:
            window = window[-max(1, context // 2) :]
        with torch.no_grad():
            logits: Tensor = model(torch.tensor(window))
            token = int(sample(logits[-1], generator=generator, **options))
        if token in stop_ids:
            break
        found.append(token)
        window.append(token)
    return found


# Equal to the uncached model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_prompt", [1, 5, 15])
def test_greedy_is_the_argmax_of_the_uncached_model(n_prompt: int, dtype: torch.dtype) -> None:
    model = tiny_model(dtype=dtype)
    prompt = torch.arange(n_prompt)
    ids = prompt.tolist()
    for _ in range(CONTEXT + 1 - n_prompt):
        with torch.no_grad():
            ids.append(int(model(torch.tensor(ids))[-1].argmax()))
    found = generate(model, prompt, max_new_tokens=CONTEXT + 1 - n_prompt, temperature=0.0)
    assert list(found) == ids[n_prompt:]


MODELS = {
    "plain": MODEL,
    "grouped": replace(MODEL, n_kv_heads=2, fuse_qkv=True),
    "qk_norm": replace(MODEL, qk_norm=True, tie_embeddings=True),
    "no positions": replace(MODEL, position="none", norm="post"),
}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.0},
    {"temperature": 1.7},
    {"top_k": 5},
    {"top_p": 0.8, "temperature": 0.9},
    {"min_p": 0.1, "top_k": 20, "top_p": 0.95},
]


@pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_sampling_equals_the_uncached_model(config: ModelConfig, options: dict[str, Any]) -> None:
    model = tiny_model(config)
    arguments: dict[str, Any] = {"max_new_tokens": 11, **options}
    ours, theirs = seeded(), seeded()
    found = list(generate(model, PROMPT, generator=ours, **arguments))
    assert found == naive(model, PROMPT, generator=theirs, **arguments)
    assert torch.equal(ours.get_state(), theirs.get_state())
    assert len(found) == 11


@given(
    n_prompt=st.integers(1, 20),
    max_new_tokens=st.integers(0, 20),
    context_length=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=25)
def test_goes_on_beyond_the_context_as_documented(
    n_prompt: int, max_new_tokens: int, context_length: int, seed: int
) -> None:
    model = tiny_model(replace(MODEL, context_length=context_length, n_layers=1), dtype=torch.float64)
    prompt = torch.randint(64, (n_prompt,), generator=seeded(seed))
    found = list(generate(model, prompt, max_new_tokens=max_new_tokens, generator=seeded(seed)))
    assert found == naive(model, prompt, max_new_tokens=max_new_tokens, generator=seeded(seed))
    assert len(found) == max_new_tokens


def test_a_long_prompt_counts_by_its_end() -> None:
    model, prompt = tiny_model(), torch.arange(50)
    long, short = (generate(model, p, max_new_tokens=9, temperature=0.0) for p in (prompt, prompt[-CONTEXT:]))
    assert list(long) == list(short)


class Watched:
    """A model that remembers how many ids it was given at a time, and how many it held."""

    def __init__(self, config: ModelConfig) -> None:
        self.model = tiny_model(config)
        self.calls: list[tuple[int, int]] = []

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    def extend(self, ids: Tensor, cache: tuple[KVCache, ...] | None = None) -> tuple[Tensor, tuple[KVCache, ...]]:
        self.calls.append((cache[0].length if cache else 0, ids.shape[0]))
        return self.model.extend(ids, cache)


def test_each_token_is_computed_once_until_the_context_is_full() -> None:
    model = Watched(MODEL)
    list(generate(model, PROMPT, max_new_tokens=14))
    # The prompt; one at a time up to the 16th; the later half, eight, afresh; and one at a time again.
    assert model.calls == [(0, 5), *((held, 1) for held in range(5, 16)), (0, 8), (8, 1)]


def test_nothing_is_computed_that_is_not_asked_for() -> None:
    model = Watched(MODEL)
    stream = generate(model, PROMPT, max_new_tokens=10)
    assert model.calls == []
    next(stream)
    next(stream)
    assert len(model.calls) == 2


# Stopping


def test_stops_before_a_stop_id() -> None:
    model = tiny_model()
    free = list(generate(model, PROMPT, max_new_tokens=12, generator=seeded()))
    for place in range(len(free)):
        stop = free[place]
        found = list(generate(model, PROMPT, max_new_tokens=12, stop_ids={stop}, generator=seeded()))
        assert found == free[: free.index(stop)]


def test_stops_at_any_of_several_stop_ids() -> None:
    assert list(generate(tiny_model(), PROMPT, max_new_tokens=12, stop_ids=range(64))) == []


def test_a_stop_id_in_the_prompt_stops_nothing() -> None:
    free = list(generate(tiny_model(), PROMPT, max_new_tokens=3, temperature=0.0))
    outside = next(token for token in PROMPT.tolist() if token not in free)
    assert list(generate(tiny_model(), PROMPT, max_new_tokens=3, temperature=0.0, stop_ids=[outside])) == free


@pytest.mark.parametrize("n", [0, 1, 2, 30])
def test_yields_as_many_as_asked(n: int) -> None:
    assert len(list(generate(tiny_model(), PROMPT, max_new_tokens=n))) == n


# Draws


def test_the_generator_decides() -> None:
    model = tiny_model()
    runs = [list(generate(model, PROMPT, max_new_tokens=10, generator=seeded(seed))) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    generator = seeded(1)
    two = [list(generate(model, PROMPT, max_new_tokens=10, generator=generator)) for _ in range(2)]
    assert two[0] == runs[0] != two[1]


def test_leaves_no_graph_and_no_mode_behind() -> None:
    model = tiny_model()
    stream = generate(model, PROMPT, max_new_tokens=3)
    next(stream)
    assert torch.is_grad_enabled()
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64])
def test_takes_ids_of_any_signed_type(dtype: torch.dtype) -> None:
    found = list(generate(tiny_model(), PROMPT.to(dtype), max_new_tokens=14, temperature=0.0))
    assert found == list(generate(tiny_model(), PROMPT, max_new_tokens=14, temperature=0.0))


# Bad input


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        (torch.zeros(0, dtype=torch.long), {}, "generate: prompt must hold at least one token, got none"),
        (PROMPT, {"max_new_tokens": -1}, "generate: max_new_tokens must be at least 0, got -1"),
        (PROMPT.float(), {}, "generate: prompt must be Int"),
        (PROMPT[None], {}, "generate: prompt must be Int"),
        (PROMPT, {"stop_ids": 3}, "generate: stop_ids must be"),
        (PROMPT, {"generator": 7}, "generate: generator must be"),
    ],
)
def test_refuses_at_the_call(prompt: Tensor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ContractError) as caught:
        generate(tiny_model(), prompt, **{"max_new_tokens": 3, **options})
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        (PROMPT, {"temperature": -1.0}, "temperature must be at least 0"),
        (PROMPT, {"top_k": 0}, "k must be at least 1"),
        (PROMPT, {"top_p": 1.5}, "p must be in"),
        (PROMPT, {"min_p": -0.5}, "min_p must be in"),
        (torch.tensor([64]), {}, "ids must be in"),
    ],
)
def test_refuses_with_the_first_token(prompt: Tensor, options: dict[str, Any], message: str) -> None:
    stream = generate(tiny_model(), prompt, max_new_tokens=3, **options)
    with pytest.raises(ContractError, match=message):
        next(stream)


def test_refuses_what_is_no_model() -> None:
    not_a_model: Any = torch.nn.Linear(2, 2)
    with pytest.raises(ContractError, match="generate: model must be"):
        generate(not_a_model, PROMPT, max_new_tokens=1)
    assert isinstance(tiny_model(), LanguageModel)
