"""One update: equal to a step written by hand with plain torch, whatever the number of parts, and never waiting."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cs336_basics.contracts import ContractError
from cs336_basics.optim import SGD
from cs336_basics.train.errors import TrainingError
from cs336_basics.train.numbers import require_finite
from cs336_basics.train.optimizer import build_optimizer
from cs336_basics.train.step import StepResult, loss_fn, parameters_of, precision, train_step
from tests.train.tiny import CPU, MODEL, assert_same, each_optimizer, optimizer_config, states, tiny_batch, tiny_model

# Against plain torch


@pytest.mark.parametrize("max_grad_norm", [0.1, float("inf")], ids=["clipped", "unclipped"])
@pytest.mark.parametrize("parts", [1, 2])
def test_equals_a_step_written_by_hand(parts: int, max_grad_norm: float) -> None:
    model = tiny_model(dtype=torch.float64)
    oracle = copy.deepcopy(model)
    optimizer = build_optimizer(model, optimizer_config("adamw"))
    matrices = [p for p in oracle.parameters() if p.ndim == 2]
    vectors = [p for p in oracle.parameters() if p.ndim == 1]
    theirs = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        betas=(0.9, 0.95),
        eps=1e-8,
    )
    for step, lr in enumerate((1e-2, 3e-3, 1e-3)):
        ids, targets = tiny_batch(seed=step)
        result = train_step(
            loss_fn(model), optimizer, (ids, targets), lr=lr, max_grad_norm=max_grad_norm, grad_accumulation=parts
        )
        for group in theirs.param_groups:
            group["lr"] = lr
        theirs.zero_grad()
        logits: Tensor = oracle(ids)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        norm = torch.nn.utils.clip_grad_norm_(oracle.parameters(), max_grad_norm)
        theirs.step()
        torch.testing.assert_close(result.loss, loss.float(), rtol=1e-6, atol=0)
        torch.testing.assert_close(result.grad_norm, norm, rtol=1e-12, atol=0)
        assert max_grad_norm == float("inf") or norm > max_grad_norm
    for ours, expected in zip(model.parameters(), oracle.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


def test_sgd_step_is_arithmetic() -> None:
    model = tiny_model(dtype=torch.float64)
    before = [p.detach().clone() for p in model.parameters()]
    ids, targets = tiny_batch()
    logits: Tensor = model(ids)
    loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    grads = torch.autograd.grad(loss, list(model.parameters()))
    norm = torch.cat([g.flatten() for g in grads]).norm()
    train_step(loss_fn(model), SGD(model.parameters()), (ids, targets), lr=0.5, max_grad_norm=0.25)
    for param, start, grad in zip(model.parameters(), before, grads, strict=True):
        torch.testing.assert_close(param.detach(), start - 0.5 * 0.25 / (norm + 1e-6) * grad, rtol=0, atol=1e-13)


@pytest.mark.parametrize("z_loss", [0.0, 0.01])
def test_loss_fn_is_mean_cross_entropy_and_z_loss(z_loss: float) -> None:
    model = tiny_model(dtype=torch.float64)
    ids, targets = tiny_batch()
    logits: Tensor = model(ids)
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten()) + z_loss * logits.logsumexp(-1).square().mean()
    torch.testing.assert_close(loss_fn(model, z_loss=z_loss)(ids, targets), expected, rtol=1e-12, atol=0)


# Parts of a batch


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    # SGD at lr = 1: the tolerance is that of the gradient itself. Gradients here are below 1, float32's
    # relative rounding is 6e-8, and two orders of summing 64 terms differ by a few of those.
    [(torch.float64, 1e-14), (torch.float32, 2e-6)],
)
@pytest.mark.parametrize("parts", [2, 4, 8])
def test_parts_make_the_whole(parts: int, dtype: torch.dtype, tolerance: float) -> None:
    results, weights = [], []
    for n_parts in (1, parts):
        model = tiny_model(dtype=dtype)
        optimizer = SGD(model.parameters())
        batch = tiny_batch(rows=8)
        options: dict[str, Any] = {"lr": 1.0, "max_grad_norm": float("inf"), "grad_accumulation": n_parts}
        results.append(train_step(loss_fn(model), optimizer, batch, **options))
        weights.append([p.detach() for p in model.parameters()])
    torch.testing.assert_close(results[0].loss, results[1].loss, rtol=1e-6, atol=0)
    torch.testing.assert_close(results[0].grad_norm, results[1].grad_norm, rtol=10 * tolerance, atol=0)
    for whole, summed in zip(*weights, strict=True):
        torch.testing.assert_close(whole, summed, rtol=0, atol=tolerance)


def test_parts_are_computed_one_after_the_other() -> None:
    model, seen = tiny_model(), []
    inner = loss_fn(model)

    def loss(ids: Tensor, targets: Tensor) -> Tensor:
        seen.append((ids, targets))
        return inner(ids, targets)

    ids, targets = tiny_batch(rows=8)
    train_step(loss, SGD(model.parameters()), (ids, targets), lr=0.1, max_grad_norm=1.0, grad_accumulation=4)
    assert [tuple(part.shape) for part, _ in seen] == [(2, MODEL.context_length)] * 4
    assert torch.equal(torch.cat([part for part, _ in seen]), ids)
    assert torch.equal(torch.cat([part for _, part in seen]), targets)


# Four rows in three parts would be cut into two parts of two, each counted as a third.
@pytest.mark.parametrize("parts", [3, 5, 8, 0, -1])
def test_refuses_unequal_parts_and_changes_nothing(parts: int) -> None:
    model = tiny_model()
    optimizer = build_optimizer(model, optimizer_config("adamw"))
    before = states(model, optimizer)
    with pytest.raises(ContractError, match=rf"train_step: grad_accumulation must divide batch = 4, got {parts}"):
        train_step(loss_fn(model), optimizer, tiny_batch(rows=4), lr=0.1, max_grad_norm=1.0, grad_accumulation=parts)
    assert_same(states(model, optimizer), before)


@pytest.mark.parametrize(
    "batch",
    [
        (torch.zeros(4, 16, dtype=torch.long), torch.zeros(4, 15, dtype=torch.long)),
        (torch.zeros(4, 16, dtype=torch.long), torch.zeros(2, 16, dtype=torch.long)),
        (torch.zeros(4, 16), torch.zeros(4, 16)),
        (torch.zeros(16, dtype=torch.long), torch.zeros(16, dtype=torch.long)),
    ],
    ids=["other length", "other rows", "floats", "no rows"],
)
def test_refuses_batches_of_other_shapes(batch: tuple[Tensor, Tensor]) -> None:
    model = tiny_model()
    with pytest.raises(ContractError, match=r"train_step: batch\[[01]\] must be Int"):
        train_step(loss_fn(model), SGD(model.parameters()), batch, lr=0.1, max_grad_norm=1.0)


# Mixed precision


def test_autocast_computes_in_bfloat16_and_stays_close() -> None:
    model, reference = tiny_model(), tiny_model()
    dtypes = []

    def loss(ids: Tensor, targets: Tensor) -> Tensor:
        logits: Tensor = model(ids)
        dtypes.append(logits.dtype)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    options: dict[str, Any] = {"lr": 1e-2, "max_grad_norm": 1.0, "grad_accumulation": 2}
    optimizer = build_optimizer(model, optimizer_config("adamw"))
    narrow = train_step(loss, optimizer, tiny_batch(), autocast=torch.bfloat16, **options)
    wide = train_step(
        loss_fn(reference), build_optimizer(reference, optimizer_config("adamw")), tiny_batch(), **options
    )
    assert dtypes == [torch.bfloat16] * 2
    assert narrow.loss.dtype == narrow.grad_norm.dtype == torch.float32
    # bfloat16 keeps 8 bits: a relative 2^-8 a product, averaged over the 64 positions of the batch.
    torch.testing.assert_close(narrow.loss, wide.loss, rtol=5e-3, atol=0)
    torch.testing.assert_close(narrow.grad_norm, wide.grad_norm, rtol=5e-2, atol=0)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert {s["exp_avg"].dtype for s in optimizer.state.values()} == {torch.float32}
    # AdamW's first step is lr in each entry, up to the sign of a gradient near 0.
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        assert (ours - theirs).abs().max() <= 2.001e-2


def test_autocast_to_float32_is_no_autocast() -> None:
    after = []
    for autocast in (None, torch.float32):
        model = tiny_model()
        optimizer = build_optimizer(model, optimizer_config("adamw"))
        train_step(loss_fn(model), optimizer, tiny_batch(), lr=0.1, max_grad_norm=1.0, autocast=autocast)
        after.append(states(model, optimizer))
    assert_same(*after)


def test_precision_ends_with_its_block() -> None:
    with precision(CPU, torch.bfloat16):
        assert torch.is_autocast_enabled("cpu")
    assert not torch.is_autocast_enabled("cpu")
    with precision(CPU, None):
        assert not torch.is_autocast_enabled("cpu")


# Rates and gradients


@each_optimizer
def test_sets_the_rate_and_clears_the_gradients(name: str) -> None:
    model = tiny_model()
    optimizer = build_optimizer(model, optimizer_config(name))
    train_step(loss_fn(model), optimizer, tiny_batch(), lr=0.123, max_grad_norm=1.0)
    assert {group["lr"] for group in optimizer.param_groups} == {0.123}
    assert all(p.grad is None for p in model.parameters())
    before = states(model, optimizer)["model"]
    train_step(loss_fn(model), optimizer, tiny_batch(seed=1), lr=0.0, max_grad_norm=1.0)
    assert_same(states(model, optimizer)["model"], before)


@each_optimizer
def test_a_parameter_outside_the_loss_stays(name: str) -> None:
    model = tiny_model()
    optimizer = build_optimizer(model, optimizer_config(name))
    before = copy.deepcopy(model.state_dict())

    def loss(ids: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG001  # as LossFn has them
        return model.token_embeddings(ids).square().mean()  # type: ignore[no-any-return]  # modules return Any

    result = train_step(loss, optimizer, tiny_batch(), lr=0.1, max_grad_norm=1.0)
    assert result.grad_norm > 0
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"token_embeddings.weight"}


def test_parameters_of_lists_every_parameter() -> None:
    model = tiny_model()
    listed = list(parameters_of(build_optimizer(model, optimizer_config("muon"))))
    assert len(listed) == len(list(model.parameters()))
    assert {id(p) for p in listed} == {id(p) for p in model.parameters()}


# No number


@pytest.mark.parametrize(
    ("loss", "norm"), [(float("nan"), 1.0), (float("inf"), 1.0), (1.0, float("nan")), (-float("inf"), float("inf"))]
)
def test_require_finite_names_step_and_mend(loss: float, norm: float) -> None:
    with pytest.raises(TrainingError) as caught:
        require_finite(17, StepResult(torch.tensor(loss), torch.tensor(norm)))
    for part in ("step 17", f"loss is {loss}", f"norm {norm}", "lower optimizer.lr", "optimizer.warmup_ratio"):
        assert part in str(caught.value)


def test_require_finite_lets_numbers_pass() -> None:
    require_finite(1, StepResult(torch.tensor(1e30), torch.tensor(0.0)))
