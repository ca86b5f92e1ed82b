"""Evaluation: the cost of a text is that of a token-by-token loop, and every token is counted once."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cs336_basics.contracts import ContractError
from cs336_basics.data.batches import batch_at
from cs336_basics.data.errors import DataError
from cs336_basics.nn import TransformerLM
from cs336_basics.train.evaluate import mean_loss, total_nats
from cs336_basics.train.step import loss_fn
from tests.train.tiny import CPU, MODEL, tiny_corpus, tiny_model


class Uniform(nn.Module):
    """Says nothing: every token is equally likely."""

    def forward(self, ids: Tensor) -> Tensor:
        return torch.zeros(*ids.shape, MODEL.vocab_size)


class Watched(nn.Module):
    """Remembers the windows it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.windows: list[list[int]] = []

    def forward(self, ids: Tensor) -> Tensor:
        self.windows += ids.tolist()
        return torch.zeros(*ids.shape, MODEL.vocab_size)


def nats(model: nn.Module, tokens: Any, context_length: int, **options: Any) -> float:
    return total_nats(
        model, np.asarray(tokens), context_length=context_length, vocab_size=MODEL.vocab_size, device=CPU, **options
    )


def naive(model: nn.Module, tokens: list[int], context_length: int) -> float:
    """Each token by itself, after the window documented: of those that hold it, the one that shows most before it."""
    window = min(context_length, len(tokens) - 1)
    stride = max(1, window // 2)
    last = len(tokens) - 1 - window
    starts = [start for start in range(last + 1) if start % stride == 0 or start == last]
    total = math.log(MODEL.vocab_size)
    for place in range(1, len(tokens)):
        start = min(s for s in starts if s < place <= s + window)
        with torch.no_grad():
            logits: Tensor = model(torch.tensor([tokens[start:place]]))
        total -= float(torch.log_softmax(logits[0, -1].double(), -1)[tokens[place]])
    return total


def ids(n: int) -> list[int]:
    return [int(token) for token in tiny_corpus(n)]


@pytest.mark.parametrize(
    ("n_tokens", "batch_size"),
    [(2, 1), (3, 2), (5, 32), (16, 32), (17, 32), (18, 1), (18, 2), (24, 1), (25, 32), (26, 2), (60, 3), (60, 32)],
)
def test_equals_a_loop_over_tokens(n_tokens: int, batch_size: int) -> None:
    model = tiny_model(dtype=torch.float64)
    found = nats(model, ids(n_tokens), 16, batch_size=batch_size)
    assert found == pytest.approx(naive(model, ids(n_tokens), 16), rel=1e-12)


@pytest.mark.parametrize("context_length", [1, 2, 3, 7])
def test_equals_a_loop_at_short_contexts(context_length: int) -> None:
    model = tiny_model(dtype=torch.float64)
    found = nats(model, ids(23), context_length)
    assert found == pytest.approx(naive(model, ids(23), context_length), rel=1e-12)


def test_float32_agrees_with_float64() -> None:
    # Sums of means in float32: relative 6e-8 each, a few of them.
    assert nats(tiny_model(), ids(300), 16) == pytest.approx(nats(tiny_model().double(), ids(300), 16), rel=1e-6)


@given(n_tokens=st.integers(2, 120), context_length=st.integers(1, 20), batch_size=st.integers(1, 5))
@settings(deadline=None, max_examples=50)
def test_every_token_costs_once(n_tokens: int, context_length: int, batch_size: int) -> None:
    done: list[int] = []
    found = nats(Uniform(), ids(n_tokens), context_length, batch_size=batch_size, progress=done.append)
    assert found == pytest.approx(n_tokens * math.log(MODEL.vocab_size), rel=1e-5)
    assert done == sorted(done)
    assert done[-1] == n_tokens


@given(n_tokens=st.integers(2, 120), context_length=st.integers(1, 20))
@settings(deadline=None, max_examples=50)
def test_windows_overlap_by_half_and_reach_the_end(n_tokens: int, context_length: int) -> None:
    model = Watched()
    nats(model, np.arange(n_tokens) % 64, context_length)
    window = min(context_length, n_tokens - 1)
    assert {len(shown) for shown in model.windows} == {window}
    tokens = [k % 64 for k in range(n_tokens)]
    starts = [*range(0, n_tokens - 1 - window, max(1, window // 2)), n_tokens - 1 - window]
    assert model.windows == [tokens[start : start + window] for start in starts]


def test_a_model_that_knows_the_rule_pays_for_the_first_token_only() -> None:
    class Knows(nn.Module):
        def forward(self, ids: Tensor) -> Tensor:
            return nn.functional.one_hot((5 * ids + 3) % 64, 64) * 100.0

    tokens = [1]
    while len(tokens) < 50:
        tokens.append((5 * tokens[-1] + 3) % 64)
    assert nats(Knows(), tokens, 8) == pytest.approx(math.log(64), rel=1e-9)


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "int64"])
def test_reads_any_width_and_leaves_no_graph(dtype: str) -> None:
    model = tiny_model()
    found = nats(model, np.array(ids(40), dtype), 16)
    assert found == nats(model, ids(40), 16)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("n_tokens", [0, 1])
def test_refuses_fewer_than_two_tokens(n_tokens: int) -> None:
    with pytest.raises(ContractError, match=rf"total_nats: tokens must hold at least two, got {n_tokens}"):
        nats(Uniform(), np.zeros(n_tokens, np.uint16), 16)


# The mean over fixed batches


def mean(model: TransformerLM, tokens: np.ndarray, **changes: Any) -> float:
    options: dict[str, Any] = {"batches": 3, "batch_size": 4, "context_length": 16, "device": CPU} | changes
    return mean_loss(loss_fn(model), tokens, **options)


def test_mean_loss_is_the_mean_over_its_batches() -> None:
    model, tokens = tiny_model(), tiny_corpus(500)
    losses = []
    for step in range(3):
        x, y = batch_at(tokens, seed=0, step=step, batch_size=4, context_length=16, device=CPU, replacement=False)
        logits: Tensor = model(x).detach()
        losses.append(float(nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten())))
    assert mean(model, tokens) == pytest.approx(sum(losses) / 3, rel=1e-6)


def test_mean_loss_depends_on_nothing_else() -> None:
    model, tokens = tiny_model(), tiny_corpus(500)
    torch.manual_seed(1)
    first = mean(model, tokens)
    torch.manual_seed(2)
    mean(tiny_model(seed=3), tokens, batches=7)
    assert mean(model, tokens) == first
    assert all(p.grad is None for p in model.parameters())


def test_mean_loss_under_autocast_is_close_and_not_the_same() -> None:
    model, tokens = tiny_model(), tiny_corpus(500)
    narrow, wide = mean(model, tokens, autocast=torch.bfloat16), mean(model, tokens)
    assert narrow != wide
    assert narrow == pytest.approx(wide, rel=5e-3)


def test_mean_loss_refuses_a_short_text() -> None:
    with pytest.raises(DataError, match="at least context_length \\+ 1 = 17 tokens, got 16"):
        mean(tiny_model(), tiny_corpus(16))
