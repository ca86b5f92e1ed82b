"""Every function of `ops` on the device: value and gradients against float64 on the CPU."""

from typing import Final

import pytest
import torch
from torch import Tensor

from cs336_basics.ops.loss import bits_per_byte, cross_entropy
from cs336_basics.ops.rope import rope_tables
from cs336_basics.ops.sampling import sample
from cs336_basics.ops.softmax import softmax
from tests.gpu.cases_loss import LOSSES, loss_inputs
from tests.gpu.cases_ops import OPS
from tests.gpu.compare import DTYPES, ON_DEVICE, Case, assert_close, bound, check, covers, no_synchronisation, normal

pytestmark = ON_DEVICE

CASES: Final = (*OPS, *LOSSES)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_agrees_with_float64_on_the_cpu(case: Case, dtype: torch.dtype, gpu_device: torch.device) -> None:
    check(case, gpu_device, dtype)


# A loss read as a number, tables made on the CPU: nothing of a training step.
WAITS = (bits_per_byte, rope_tables)


@pytest.mark.parametrize("case", [case for case in CASES if case.of not in WAITS], ids=lambda case: case.name)
def test_does_not_wait_for_the_device(case: Case, gpu_device: torch.device) -> None:
    leaves = [x.to(gpu_device).requires_grad_(x.is_floating_point()) for x in case.inputs(torch.float32)]

    def forward_and_backward() -> None:
        returned = case.call(*leaves)
        results = [returned] if isinstance(returned, Tensor) else returned
        sums = [result.sum() for result in results if result.requires_grad]
        if sums:
            torch.autograd.grad(sums, [leaf for leaf in leaves if leaf.requires_grad], allow_unused=True)

    forward_and_backward()  # makes what is made once, such as workspaces
    with no_synchronisation(gpu_device):
        forward_and_backward()


@covers(sample)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_draws_follow_the_probabilities(dtype: torch.dtype, gpu_device: torch.device) -> None:
    n_draws, temperature = 100_000, 1.5
    logits = normal(12, dtype=dtype)
    p = softmax(logits.double() / temperature)
    generator = torch.Generator(gpu_device).manual_seed(0)
    ids = sample(logits.to(gpu_device).expand(n_draws, 12), generator=generator, temperature=temperature)
    assert ids.device == gpu_device
    observed = ids.cpu().bincount(minlength=12)
    chi_square = ((observed - n_draws * p) ** 2 / (n_draws * p)).sum().item()
    assert chi_square < 43.2  # 11 degrees of freedom pass it once in 100,000 seeds


def test_the_same_generator_draws_the_same(gpu_device: torch.device) -> None:
    logits = normal(1000, 50).float().to(gpu_device)
    first, second = (
        sample(logits, generator=torch.Generator(gpu_device).manual_seed(3), top_k=20, top_p=0.9, min_p=0.01)
        for _ in range(2)
    )
    assert torch.equal(first, second)


def test_filters_leave_only_what_they_allow(gpu_device: torch.device) -> None:
    logits = normal(2000, 50).float().to(gpu_device)
    ids = sample(logits, generator=torch.Generator(gpu_device).manual_seed(4), top_k=3)
    ranks = (logits > logits.gather(-1, ids.unsqueeze(-1))).sum(-1)
    assert ranks.max() == 2  # each of the three best is drawn, and no other


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_loss_of_huge_logits_is_finite(dtype: torch.dtype, gpu_device: torch.device) -> None:
    logits, targets = loss_inputs(dtype)
    huge = (1e4 * logits).to(dtype)
    found = cross_entropy(huge.to(gpu_device), targets.to(gpu_device))
    within = bound(torch.float32, roundings=2, terms=50)
    assert_close(found, cross_entropy(huge.double(), targets), device=gpu_device, within=within, what="huge logits")
