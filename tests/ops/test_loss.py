"""cross_entropy against mpmath and torch, its gradient, and the ways to state a loss."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cs336_basics.contracts import ContractError
from cs336_basics.ops.loss import bits_per_byte, cross_entropy, linear_cross_entropy, perplexity
from cs336_basics.ops.softmax import logsumexp, softmax
from tests.ops.numerics import (
    DTYPES,
    INT_DTYPES,
    assert_compiles,
    assert_gradients,
    assert_maps,
    assert_strides,
    assert_within,
    exact,
    mp,
    normal,
)

VOCAB = 7
batches = st.lists(st.integers(1, 4), max_size=3)


def ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(VOCAB, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("std", [1e-3, 1.0, 10.0, 1e3])
def test_one_position_within_two_ulps_of_its_largest_term(dtype: torch.dtype, std: float) -> None:
    logits = (normal(40, VOCAB, seed=2) * std).to(dtype)
    for row, target in zip(logits, ids(40), strict=True):
        terms = exact(row)
        log_partition = mp.log(mp.fsum(mp.exp(v) for v in terms))
        chosen = terms[target]
        loss = cross_entropy(row, target)
        assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        # The two terms cancel where the target is likely: what is left has the precision of the larger.
        assert_within(loss, [log_partition - chosen], 2.0, least=float(max(abs(log_partition), abs(chosen))))


@given(batch=batches, seed=st.integers(0, 2**32), dtype=st.sampled_from(DTYPES))
@settings(deadline=None, max_examples=40)
def test_is_the_mean_of_logsumexp_minus_logit(batch: list[int], seed: int, dtype: torch.dtype) -> None:
    logits, targets = normal(*batch, VOCAB, seed=seed, dtype=dtype), ids(*batch, seed=seed)
    wide = logits.double()
    chosen = wide.reshape(-1, VOCAB)[torch.arange(targets.numel()), targets.reshape(-1)]
    expected = logsumexp(wide).mean() - chosen.mean()
    torch.testing.assert_close(cross_entropy(logits, targets).double(), expected, rtol=1e-6, atol=2e-6)


@given(batch=batches, seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=25)
def test_equals_torch_with_and_without_ignored_positions(batch: list[int], seed: int) -> None:
    logits, targets = normal(*batch, VOCAB, seed=seed), ids(*batch, seed=seed)
    rows, flat = logits.reshape(-1, VOCAB), targets.reshape(-1)
    torch_fn = torch.nn.functional.cross_entropy
    torch.testing.assert_close(cross_entropy(logits, targets), torch_fn(rows, flat), rtol=1e-12, atol=1e-12)
    if (targets != 3).any():
        ignored = cross_entropy(logits, targets, ignore_index=3)
        torch.testing.assert_close(ignored, torch_fn(rows, flat, ignore_index=3), rtol=1e-12, atol=1e-12)


@given(batch=batches, seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=25)
def test_the_gradient_is_p_minus_onehot_over_n(batch: list[int], seed: int) -> None:
    logits, targets = normal(*batch, VOCAB, seed=seed).requires_grad_(), ids(*batch, seed=seed)
    (grad,) = torch.autograd.grad(cross_entropy(logits, targets), logits)
    onehot = torch.nn.functional.one_hot(targets, VOCAB)
    torch.testing.assert_close(grad, (softmax(logits) - onehot) / targets.numel(), rtol=1e-12, atol=1e-14)


@given(seed=st.integers(0, 2**32), z_loss=st.floats(1e-6, 10))
@settings(deadline=None, max_examples=25)
def test_z_loss_adds_the_mean_square_of_the_log_partition(seed: int, z_loss: float) -> None:
    logits, targets = normal(3, 4, VOCAB, seed=seed), ids(3, 4, seed=seed)
    penalty = cross_entropy(logits, targets, z_loss=z_loss) - cross_entropy(logits, targets)
    torch.testing.assert_close(penalty, z_loss * logsumexp(logits).square().mean(), rtol=1e-9, atol=1e-12)


def test_z_loss_counts_only_counted_positions() -> None:
    logits, targets = normal(5, VOCAB), ids(5)
    targets[[1, 3]] = -100
    kept = [0, 2, 4]
    some = cross_entropy(logits, targets, ignore_index=-100, z_loss=0.3)
    torch.testing.assert_close(some, cross_entropy(logits[kept], targets[kept], z_loss=0.3), rtol=1e-14, atol=0)


@given(seed=st.integers(0, 2**32), ignored=st.lists(st.booleans(), min_size=6, max_size=6))
@settings(deadline=None, max_examples=25)
def test_ignored_positions_count_neither_above_nor_below(seed: int, ignored: list[bool]) -> None:
    logits, targets = normal(6, VOCAB, seed=seed).requires_grad_(), ids(6, seed=seed)
    kept = torch.tensor(ignored).logical_not()
    loss = cross_entropy(logits, targets.masked_fill(~kept, -100), ignore_index=-100)
    (grad,) = torch.autograd.grad(loss, logits)
    expected = cross_entropy(logits[kept], targets[kept]) if kept.any() else torch.tensor(0.0).double()
    torch.testing.assert_close(loss, expected, rtol=1e-13, atol=0)
    assert grad.isfinite().all()
    assert (grad[~kept] == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_logits_stay_finite(dtype: torch.dtype) -> None:
    logits = torch.tensor([[1e4, -1e4], [1e4, 1e4]], dtype=dtype)
    assert cross_entropy(logits[0], torch.tensor(0)).item() == 0
    assert cross_entropy(logits[0], torch.tensor(1)).item() == 2 * logits[0, 0].item()
    # log 2 beside 1e4: to the last place of 1e4.
    last_place = 1e4 * torch.finfo(cross_entropy(logits, torch.tensor([0, 1])).dtype).eps
    assert cross_entropy(logits[1], torch.tensor(0)).item() == pytest.approx(math.log(2), abs=last_place)


@pytest.mark.parametrize("dtype", INT_DTYPES)
def test_any_signed_integer_is_a_target(dtype: torch.dtype) -> None:
    logits, targets = normal(4, VOCAB), ids(4)
    assert torch.equal(cross_entropy(logits, targets.to(dtype)), cross_entropy(logits, targets))
    assert cross_entropy(logits, torch.full((4,), -1, dtype=dtype), ignore_index=-1).item() == 0


def test_ignore_index_may_be_a_token() -> None:
    logits = normal(2, VOCAB)
    some = cross_entropy(logits, torch.tensor([0, 5]), ignore_index=0)
    torch.testing.assert_close(some, cross_entropy(logits[1], torch.tensor(5)), rtol=1e-14, atol=0)


@pytest.mark.parametrize("options", [{}, {"ignore_index": 2}, {"z_loss": 0.1}, {"ignore_index": 2, "z_loss": 0.1}])
def test_laws(options: dict[str, Any]) -> None:
    logits, targets = normal(3, 2, VOCAB), torch.tensor([[0, 2], [2, 6], [1, 1]])
    assert_gradients(lambda x: cross_entropy(x, targets, **options), logits, second=True)
    assert_maps(cross_entropy, logits, targets, **options)
    assert_strides(cross_entropy, logits, targets, **options)
    assert_compiles(cross_entropy, logits, targets, **options)


@given(batch=batches, seed=st.integers(0, 2**32), z_loss=st.floats(0, 1))
@settings(deadline=None, max_examples=25)
def test_linear_cross_entropy_is_the_cross_entropy_of_the_products(batch: list[int], seed: int, z_loss: float) -> None:
    x, weight, targets = normal(*batch, 3, seed=seed), normal(VOCAB, 3, seed=seed + 1), ids(*batch, seed=seed)
    options: dict[str, Any] = {"ignore_index": 2, "z_loss": z_loss}
    expected = cross_entropy((x.unsqueeze(-2) * weight).sum(-1), targets, **options)
    torch.testing.assert_close(linear_cross_entropy(x, weight, targets, **options), expected, rtol=1e-12, atol=1e-12)


def test_laws_of_linear_cross_entropy() -> None:
    x, weight, targets = normal(3, 2, 4), normal(VOCAB, 4, seed=1), torch.tensor([[0, 2], [2, 6], [1, 1]])
    assert_gradients(lambda x, weight: linear_cross_entropy(x, weight, targets, z_loss=0.1), x, weight, second=True)
    assert_maps(linear_cross_entropy, x, weight, targets, mapped=(True, False, True))
    assert_strides(linear_cross_entropy, x, weight, targets, ignore_index=2)
    assert_compiles(linear_cross_entropy, x, weight, targets, ignore_index=2, z_loss=0.1)


def test_perplexity_is_exp() -> None:
    loss = normal(3, 4).abs()
    torch.testing.assert_close(perplexity(loss), loss.exp(), rtol=0, atol=0)
    assert perplexity(loss[0, 0].bfloat16()).dtype == torch.bfloat16
    uniform = cross_entropy(torch.zeros(5, VOCAB).double(), ids(5))
    assert perplexity(uniform).item() == pytest.approx(VOCAB, rel=1e-14)
    assert_gradients(perplexity, loss, second=True)
    assert_maps(perplexity, loss)
    assert_strides(perplexity, loss)
    assert_compiles(perplexity, loss)


@given(n_bytes=st.integers(1, 10**9), bits=st.floats(0, 100))
@settings(deadline=None, max_examples=25)
def test_bits_per_byte_turns_nats_to_bits(n_bytes: int, bits: float) -> None:
    assert bits_per_byte(bits * n_bytes * math.log(2), n_bytes=n_bytes) == pytest.approx(bits, rel=1e-14)


def test_bits_per_byte_does_not_depend_on_the_tokenizer() -> None:
    # A uniform model of 256 bytes, and one of 256² pairs of bytes, both need 8 bits for each byte.
    assert bits_per_byte(10 * math.log(256), n_bytes=10) == pytest.approx(8, rel=1e-14)
    assert bits_per_byte(5 * math.log(256**2), n_bytes=10) == pytest.approx(8, rel=1e-14)


LOGITS = normal(2, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: cross_entropy(torch.ones(2, 3).long(), ids(2)),
            r"^cross_entropy: logits must be Float.*int64",
        ),
        (lambda: cross_entropy(torch.tensor(1.0), ids(1)), r"^cross_entropy: logits must be .*'\*batch vocab'"),
        (
            lambda: cross_entropy(LOGITS, ids(3)),
            r"^cross_entropy: targets must be .*batch=\(2,\), got tensor int64\(3,\)$",
        ),
        (lambda: cross_entropy(LOGITS, ids(2, 1)), r"^cross_entropy: targets must be Int.*int64\(2, 1\)$"),
        (lambda: cross_entropy(LOGITS.mT, ids(2)), r"^cross_entropy: targets must be .*vocab=2.*int64\(2,\)$"),
        (lambda: cross_entropy(LOGITS, normal(2)), r"^cross_entropy: targets must be Int.*float64\(2,\)$"),
        (lambda: cross_entropy(LOGITS, torch.ones(2).bool()), r"^cross_entropy: targets must be Int.*bool\(2,\)$"),
        (lambda: cross_entropy(LOGITS, torch.tensor([0, 3])), r"^cross_entropy: targets must be in \[0, 3\).*index 3"),
        (lambda: cross_entropy(LOGITS, torch.tensor([0, -1])), r"^cross_entropy: targets must be in \[0, 3\).*-1"),
        (
            lambda: cross_entropy(LOGITS, torch.tensor([3, -1]), ignore_index=-1),
            r"^cross_entropy: targets must be in \[0, 3\).*index 3",
        ),
        (lambda: cross_entropy(LOGITS[:0], ids(0)), r"^cross_entropy: targets must hold at least one position$"),
        (lambda: cross_entropy(LOGITS, ids(2), z_loss=-1.0), r"^cross_entropy: z_loss must be at least 0, got -1.0$"),
        (lambda: cross_entropy(LOGITS, ids(2), z_loss=math.nan), r"^cross_entropy: z_loss must be at least 0, got nan"),
        (
            lambda: cross_entropy(LOGITS, ids(2), ignore_index=0.5),  # type: ignore[arg-type]  # what must be refused
            r"^cross_entropy: ignore_index must be int \| None.*got float 0.5$",
        ),
        (
            lambda: linear_cross_entropy(LOGITS, LOGITS.float(), ids(2)),
            r"^linear_cross_entropy: weight must have x's dtype torch.float64, got torch.float32$",
        ),
        (
            lambda: linear_cross_entropy(LOGITS, normal(4, 2), ids(2)),
            r"^linear_cross_entropy: weight must be .*d_model=3.*\(4, 2\)$",
        ),
        (
            lambda: linear_cross_entropy(LOGITS, LOGITS, torch.tensor([0, 2])),
            r"^linear_cross_entropy: targets must be in \[0, 2\), the rows of weight: .*index 2",
        ),
        (
            lambda: linear_cross_entropy(LOGITS[:0], LOGITS, ids(0)),
            r"^linear_cross_entropy: targets must hold at least one position$",
        ),
        (
            lambda: linear_cross_entropy(LOGITS, LOGITS, ids(2), z_loss=-1.0),
            r"^linear_cross_entropy: z_loss must be at least 0, got -1.0$",
        ),
        (lambda: perplexity(torch.arange(3)), r"^perplexity: loss must be Float.*int64\(3,\)$"),
        (lambda: perplexity(1.0), r"^perplexity: loss must be Float.*got float 1.0$"),  # type: ignore[arg-type]  # what must be refused
        (lambda: bits_per_byte(1.0, n_bytes=0), r"^bits_per_byte: n_bytes must be at least 1, got 0$"),
    ],
)
def test_refusals(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        call()
