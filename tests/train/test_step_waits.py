"""A step never waits for the device: it reads no tensor, on a CPU that shows as well as on a GPU."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from cs336_basics.optim import SGD
from cs336_basics.train.optimizer import build_optimizer
from cs336_basics.train.step import loss_fn, train_step
from tests.train.tiny import each_optimizer, optimizer_config, tiny_batch, tiny_model


class NoHostReads(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    """Fails where the value of a tensor is asked for: on a GPU the host would wait there."""

    READS = frozenset({"_local_scalar_dense", "equal", "nonzero", "masked_select", "_unique2"})

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.__name__.split(".")[0] not in self.READS, f"the step reads a tensor: {func}"
        return func(*args, **(kwargs or {}))


class NoCopiesOut(TorchFunctionMode):
    """Fails at the reads that a CPU tensor answers without the dispatcher."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert getattr(func, "__name__", "") not in {"tolist", "numpy", "__array__"}, f"the step reads a tensor: {func}"
        return func(*args, **(kwargs or {}))


def no_reads() -> ExitStack:
    both = ExitStack()
    both.enter_context(NoHostReads())  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    both.enter_context(NoCopiesOut())
    return both


@each_optimizer
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_reads_no_tensor(name: str, autocast: torch.dtype | None) -> None:
    model = tiny_model()
    optimizer, loss = build_optimizer(model, optimizer_config(name)), loss_fn(model, z_loss=1e-4)
    options: dict[str, Any] = {"lr": 0.1, "max_grad_norm": 0.1, "grad_accumulation": 2, "autocast": autocast}
    for step in range(2):  # the second finds a state to go on from
        with no_reads():
            result = train_step(loss, optimizer, tiny_batch(seed=step), **options)
        assert float(result.grad_norm) > 0.1


class _ReadsGoingBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004  # as autograd calls it
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # noqa: ARG004  # as autograd calls it
        return grad * float(grad)


def _reads_going_back(x: Tensor) -> Tensor:
    out: Tensor = _ReadsGoingBack.apply(x)  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    return out


@pytest.mark.parametrize(
    "reading",
    [lambda x: x * float(x), lambda x: x if x > 0 else -x, lambda x: x * x.tolist(), _reads_going_back],
    ids=["float", "if", "tolist", "backward"],
)
def test_the_watch_sees_a_read(reading: Callable[[Tensor], Tensor]) -> None:
    model = tiny_model()
    inner = loss_fn(model)
    with no_reads(), pytest.raises(AssertionError, match="the step reads a tensor"):
        train_step(
            lambda ids, targets: reading(inner(ids, targets)),
            SGD(model.parameters()),
            tiny_batch(),
            lr=0.1,
            max_grad_norm=1.0,
        )
