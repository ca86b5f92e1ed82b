"""Every kernel on the device against its specification in float64 on the CPU, and that wrong ones are told from it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import pytest
import torch
from torch import Tensor

from cs336_basics import ops
from cs336_basics.kernels.attention import scaled_dot_product_attention
from cs336_basics.kernels.loss import linear_cross_entropy
from tests.gpu.cases_loss import LOGITS, linear_loss_inputs
from tests.gpu.cases_ops import ATTENTION, D_K, D_MODEL, SEQ, VOCAB, sdpa_inputs
from tests.gpu.compare import DTYPES, ON_DEVICE, Case, check, no_synchronisation

pytestmark = ON_DEVICE


def causal(attention: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda q, k, v: attention(q, k, v, is_causal=True)


LOSS: Final = Case(
    of=linear_cross_entropy,
    name="linear_cross_entropy",
    inputs=linear_loss_inputs,
    call=linear_cross_entropy,
    specification=ops.loss.linear_cross_entropy,
    roundings=2,
    terms=VOCAB + D_MODEL,
    inside=LOGITS,
)
KERNELS: Final = (
    LOSS,
    *(
        Case(
            of=scaled_dot_product_attention,
            name=name,
            inputs=sdpa_inputs,
            call=kind(scaled_dot_product_attention),
            specification=kind(ops.attention.scaled_dot_product_attention),
            roundings=ATTENTION,
            terms=D_K + 2 * SEQ,
        )
        for name, kind in (("attention to all", lambda attention: attention), ("attention to the past", causal))
    ),
)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", KERNELS, ids=lambda case: case.name)
def test_agrees_with_float64_on_the_cpu(case: Case, dtype: torch.dtype, gpu_device: torch.device) -> None:
    check(case, gpu_device, dtype)


@pytest.mark.parametrize("case", KERNELS, ids=lambda case: case.name)
def test_does_not_wait_for_the_device(case: Case, cuda_only: torch.device) -> None:
    """On the CPU, where nothing waits, a kernel may look at a number."""
    leaves = [x.to(cuda_only).requires_grad_(x.is_floating_point()) for x in case.inputs(torch.float32)]
    wanted = [leaf for leaf in leaves if leaf.requires_grad]

    def forward_and_backward() -> None:
        result = case.call(*leaves)
        assert isinstance(result, Tensor)
        torch.autograd.grad(result.sum(), wanted)

    forward_and_backward()  # makes what is made once, such as workspaces
    with no_synchronisation(cuda_only):
        forward_and_backward()


# What a hurried author of a kernel could write, each with the loss, its gradients or both a little wrong.
WRONG: Final[dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
    "the last id is left out": lambda x, weight, ids: linear_cross_entropy(x, weight[:-1], ids.clamp(max=VOCAB - 2)),
    "the last position is left out": lambda x, weight, ids: linear_cross_entropy(x[:, :-1], weight, ids[:, :-1]),
    "the logits are a hundredth too large": lambda x, weight, ids: linear_cross_entropy(1.01 * x, weight, ids),
    "the mean is over one position more": lambda x, weight, ids: linear_cross_entropy(x, weight, ids) * 24 / 25,
    "the penalty is not asked for": lambda x, weight, ids: linear_cross_entropy(x, weight, ids, z_loss=1e-3),
    "the weight gets no gradient": lambda x, weight, ids: (
        linear_cross_entropy(x, weight.detach(), ids) + 0 * weight.sum()
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_loss_in_bfloat16_is_caught(name: str, gpu_device: torch.device) -> None:
    with pytest.raises(AssertionError, match=r"times the (worst|typical) error allowed"):
        check(replace(LOSS, call=WRONG[name]), gpu_device, torch.bfloat16)
