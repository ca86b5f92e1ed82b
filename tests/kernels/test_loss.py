"""The twin of linear_cross_entropy: equal in values, gradients and failures, and never holding all logits."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from cs336_basics.kernels import loss as kernels
from cs336_basics.kernels.loss import linear_cross_entropy
from cs336_basics.ops import loss as ops
from tests.kernels.twins import assert_both_refuse, assert_twins
from tests.ops.numerics import INT_DTYPES, assert_strides, normal

VOCAB, WIDTH = 11, 5
DTYPES = (torch.float64, torch.float32, torch.bfloat16)
OPTIONS: list[dict[str, Any]] = [{}, {"ignore_index": 2}, {"z_loss": 0.1}, {"ignore_index": -1, "z_loss": 0.01}]


@pytest.fixture(autouse=True)
def small_chunks() -> Iterator[None]:
    """Chunks of 4 rows, and 2 rows of them at a time: every test meets several and a rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "ROWS", 4)
        patch.setattr(kernels, "IN_CACHE", 2 * VOCAB)
        yield


def inputs(*batch: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    targets = torch.randint(VOCAB, batch, generator=torch.Generator().manual_seed(seed))
    return normal(*batch, WIDTH, seed=seed, dtype=dtype), normal(VOCAB, WIDTH, seed=seed + 1, dtype=dtype), targets


@given(
    batch=st.lists(st.integers(1, 5), max_size=3),
    seed=st.integers(0, 2**32),
    dtype=st.sampled_from(DTYPES),
    options=st.sampled_from(OPTIONS),
)
@settings(deadline=None, max_examples=60)
def test_equals_the_specification(batch: list[int], seed: int, dtype: torch.dtype, options: dict[str, Any]) -> None:
    x, weight, targets = inputs(*batch, seed=seed, dtype=dtype)
    if options.get("ignore_index") == -1:
        targets = targets.masked_fill(targets % 3 == 0, -1)
    assert_twins(linear_cross_entropy, ops.linear_cross_entropy, x, weight, targets, **options)


@given(n=st.integers(1, 13), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=25)
def test_equals_torch(n: int, seed: int) -> None:
    x, weight, targets = (t.requires_grad_() if t.is_floating_point() else t for t in inputs(n, seed=seed))
    functional = torch.nn.functional
    ours = linear_cross_entropy(x, weight, targets)
    theirs = functional.cross_entropy(functional.linear(x, weight), targets)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for mine, other in zip(*(torch.autograd.grad(y, (x, weight)) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("options", OPTIONS)
def test_gradients_and_layouts(options: dict[str, Any]) -> None:
    x, weight, targets = inputs(3, 3)
    targets[0, 1] = 2
    if options.get("ignore_index") == -1:
        targets[1] = -1
    leaves = (x.clone().requires_grad_(), weight.clone().requires_grad_())
    assert torch.autograd.gradcheck(lambda x, weight: 3 * linear_cross_entropy(x, weight, targets, **options), leaves)
    assert_strides(linear_cross_entropy, x, weight, targets, **options)


def test_nothing_counted_is_zero_and_so_is_its_gradient() -> None:
    x, weight, targets = inputs(6)
    assert_twins(
        linear_cross_entropy, ops.linear_cross_entropy, x, weight, torch.full_like(targets, -7), ignore_index=-7
    )
    assert linear_cross_entropy(x, weight, torch.full_like(targets, -7), ignore_index=-7) == 0


@pytest.mark.parametrize("dtype", INT_DTYPES)
def test_any_signed_integer_is_a_target(dtype: torch.dtype) -> None:
    x, weight, targets = inputs(6)
    assert torch.equal(linear_cross_entropy(x, weight, targets.to(dtype)), linear_cross_entropy(x, weight, targets))


@pytest.mark.parametrize("size", [1e-30, 1e3])
def test_logits_of_any_size(size: float) -> None:
    x, weight, targets = inputs(9, dtype=torch.float32)
    assert_twins(linear_cross_entropy, ops.linear_cross_entropy, x * size, weight, targets)


def test_float16_sums_leave_no_room_for_overflow() -> None:
    """512 equal logits: their exponentials sum to 512, and times a weight of 200 to more than float16 holds."""
    x, weight = torch.zeros(3, 2, dtype=torch.float16), torch.full((512, 2), 200.0, dtype=torch.float16)
    x.requires_grad_()
    (grad,) = torch.autograd.grad(linear_cross_entropy(x, weight, torch.tensor([1, 2, 3])), x)
    torch.testing.assert_close(grad, torch.zeros_like(grad), rtol=0, atol=0.1)  # 200 / 3 - 200 / 3, each rounded


def test_only_the_gradients_that_are_needed() -> None:
    x, weight, targets = inputs(9)
    for wanted in ((True, False), (False, True), (False, False)):
        leaves = [t.clone().requires_grad_(needed) for t, needed in zip((x, weight), wanted, strict=True)]
        loss = linear_cross_entropy(leaves[0], leaves[1], targets)
        assert loss.requires_grad == any(wanted)
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]  # torch's
        assert [leaf.grad is not None for leaf in leaves] == list(wanted)
    with torch.no_grad():
        assert not linear_cross_entropy(x.requires_grad_(), weight.requires_grad_(), targets).requires_grad


def test_tied_weights_get_the_gradients_of_both_uses() -> None:
    _, weight, targets = inputs(6)
    ids = targets.flip(0)
    grads: list[Tensor] = []
    for function in (linear_cross_entropy, ops.linear_cross_entropy):
        table = weight.clone().requires_grad_()
        grads += torch.autograd.grad(function(table[ids] * 2, table, targets), table)
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-13)


def test_a_retained_graph_gives_the_same_again() -> None:
    x, weight, targets = inputs(5)
    x.requires_grad_()
    weight.requires_grad_()
    loss = linear_cross_entropy(x, weight, targets)
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]  # torch's
    assert x.grad is not None
    once = x.grad.clone()
    loss.backward()  # type: ignore[no-untyped-call]  # torch's
    torch.testing.assert_close(x.grad, 2 * once, rtol=0, atol=0)


def test_under_autocast() -> None:
    x, weight, targets = inputs(9, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear_cross_entropy(x, weight, targets).dtype == torch.float32
        for mine, theirs in zip(
            *(_loss_and_gradients(f, x, weight, targets) for f in (linear_cross_entropy, ops.linear_cross_entropy)),
            strict=True,
        ):
            torch.testing.assert_close(mine, theirs, rtol=0.03, atol=0.03)
        mixed = linear_cross_entropy(x.bfloat16(), weight, targets)
    torch.testing.assert_close(mixed, linear_cross_entropy(x, weight, targets), rtol=0.03, atol=0.03)

    low = linear_cross_entropy(x.bfloat16(), weight.bfloat16(), targets)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(linear_cross_entropy(x, weight, targets), low)
        wide = linear_cross_entropy(x.double(), weight.double(), targets)
    assert torch.equal(wide, linear_cross_entropy(x.double(), weight.double(), targets))


def test_infinite_logits_and_ignored_ones_too_large_to_square() -> None:
    x, weight = torch.tensor([[torch.inf]]), torch.tensor([[1.0], [-1.0]])
    for function in (linear_cross_entropy, ops.linear_cross_entropy):
        assert function(x, weight, torch.tensor([1])) == torch.inf
    x, weight, targets = inputs(5, dtype=torch.float32)
    x[1], targets[1] = 1e25, -1
    options: dict[str, Any] = {"ignore_index": -1, "z_loss": 0.1}
    mine, theirs = (f(x, weight, targets, **options) for f in (linear_cross_entropy, ops.linear_cross_entropy))
    torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=0)


def test_compiles_whole_and_knows_its_shapes_without_values() -> None:
    x, weight, targets = inputs(9)
    torch._dynamo.reset()
    compiled = torch.compile(linear_cross_entropy, fullgraph=True, backend="aot_eager")
    assert_twins(compiled, ops.linear_cross_entropy, x, weight, targets, z_loss=0.1)
    with FakeTensorMode() as mode:
        fake = [mode.from_tensor(t).requires_grad_(t.is_floating_point()) for t in (x, weight, targets)]
        loss = linear_cross_entropy(*fake)
        assert (loss.shape, loss.dtype) == ((), torch.float64)
        assert [g.shape for g in torch.autograd.grad(loss, fake[:2])] == [x.shape, weight.shape]
    assert linear_cross_entropy(x.to("meta"), weight.to("meta"), targets.to("meta")).shape == ()


def test_a_second_derivative_is_refused() -> None:
    x, weight, targets = inputs(5)
    x.requires_grad_()
    (grad,) = torch.autograd.grad(linear_cross_entropy(x, weight, targets), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivatives"):
        grad.sum().backward()  # type: ignore[no-untyped-call]  # torch's


def test_refuses_what_the_specification_refuses() -> None:
    x, weight, targets = inputs(5)
    for arguments, options in (
        ((x, weight, targets), {"z_loss": -1.0}),
        ((x, weight, targets), {"ignore_index": 0.5}),
        ((x, weight.float(), targets), {}),
        ((x, weight[:, :3], targets), {}),
        ((x, weight, targets[:2]), {}),
        ((x, weight, targets.double()), {}),
        ((x[:0], weight, targets[:0]), {}),
        ((x, weight, targets.index_fill(0, torch.tensor([4]), VOCAB)), {}),
        ((x, weight, targets.index_fill(0, torch.tensor([1]), -1)), {}),
        ((x, weight, targets.index_fill(0, torch.tensor([1]), -1)), {"ignore_index": 0}),
    ):
        assert_both_refuse(linear_cross_entropy, ops.linear_cross_entropy, *arguments, **options)


def test_has_the_signature_of_the_specification() -> None:
    assert str(inspect.signature(linear_cross_entropy)) == str(inspect.signature(ops.linear_cross_entropy))


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's
    """The most entries of any tensor that an operator makes."""

    most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for made in result if isinstance(result, tuple | list) else (result,):
            if isinstance(made, Tensor):
                self.most = max(self.most, made.numel())
        return result


def test_never_holds_all_logits() -> None:
    x, weight, targets = inputs(400)
    x.requires_grad_()
    with Largest() as kernel:  # type: ignore[no-untyped-call]  # torch's
        kernels._loss._init_fn(x.detach(), weight, targets, None, 0.0, True, True)
    assert 4 * VOCAB <= kernel.most <= 400 * WIDTH  # a chunk, or a gradient
    with Largest() as spec:  # type: ignore[no-untyped-call]  # torch's
        ops.linear_cross_entropy(x, weight, targets).backward()  # type: ignore[no-untyped-call]  # torch's
    assert spec.most == 400 * VOCAB


def _loss_and_gradients(function: Any, x: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    leaves = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
    loss = function(*leaves, targets)
    return loss, *torch.autograd.grad(loss, leaves)
