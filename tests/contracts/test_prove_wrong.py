"""`prove` on wrong functions: each breaks one rule, and is found by that rule, with the expression that tells."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor

from cs336_basics.contracts import contract, prove, require
from cs336_basics.contracts.proof.report import RULES

F = torch.nn.functional
WRONG: list[tuple[Callable[..., Any], str, str]] = []


def breaks(rule: str, message: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function that must be found by `rule`, in words that hold `message`."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        WRONG.append((function, rule, message))
        return function

    return enter


@breaks("shape", "here (d_k,), got (seq,)")
def mean_over_the_wrong_axis(x: Float[Tensor, "*batch seq d_k"]) -> Float[Tensor, "*batch d_k"]:
    return x.mean(-1)


@breaks("shape", "'*batch seq d_model'")
def shifted_by_one(x: Float[Tensor, "*batch seq d_model"]) -> Float[Tensor, "*batch seq d_model"]:
    return x[..., 1:, :]


@breaks("shape", "got ()")
def mean_of_the_batch_too(x: Float[Tensor, "*batch seq"]) -> Float[Tensor, "*batch"]:
    return x.mean()


@breaks("shape", "here (seq, heads*d_v), got (heads*seq, d_v)")
def heads_merged_with_positions(x: Float[Tensor, "*batch heads seq d_v"]) -> Float[Tensor, "*batch seq heads*d_v"]:
    return x.flatten(-3, -2)


@breaks("error", "heads")
def heads_scrambled(x: Float[Tensor, "*batch seq heads*d_k"], *, heads: int) -> Float[Tensor, "*batch heads seq d_k"]:
    return x.transpose(-1, -2).reshape(*x.shape[:-2], heads, x.shape[-2], -1)[..., : x.shape[-1], :] + x.unsqueeze(-3)


@dataclass
class Moments:
    mean: Float[Tensor, "*batch"]
    n: int


@breaks("shape", "the result.mean must be '*batch'")
def axis_kept_in_a_field(x: Float[Tensor, "*batch seq"]) -> Moments:
    return Moments(x.mean(-1, keepdim=True), 1)


class Pair(NamedTuple):
    one: Float[Tensor, "seq d_k"]
    other: Float[Tensor, "seq d_v"]


@breaks("shape", "the result[0].other")
def fields_swapped(x: Float[Tensor, "seq d_k"], y: Float[Tensor, "seq d_v"]) -> tuple[Pair, int]:
    return Pair(x, x), y.ndim


@breaks("shape", "got list")
def wrong_container(x: Float[Tensor, "seq"]) -> tuple[Float[Tensor, "seq"], ...]:
    return [x]  # type: ignore[return-value]  # what is wrong with it


@breaks("dtype", "must keep the arguments' dtype bfloat16, got float32")
def float32_leak(x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    return x.to(torch.promote_types(x.dtype, torch.float32)).sin()


@breaks("dtype", "must keep the arguments' dtype float64, got float32")
def float64_lost(x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    return x.float().to(x.dtype) if x.dtype == torch.bfloat16 else x.float()


@breaks("dtype", "must be float32, got bfloat16")
def float32_promised(x: Float[Tensor, "*batch d_model"]) -> Float32[Tensor, "*batch"]:
    return x.sum(-1)


@breaks("specialises", "it is right only where Eq(d_k, 5)")
def square_root_of_a_size(x: Float[Tensor, "d_k"]) -> Float[Tensor, "d_k"]:
    return x / math.sqrt(x.shape[-1])


@breaks("specialises", "seq <= 128")
def branch_on_a_size(x: Float[Tensor, "*batch seq"]) -> Float[Tensor, "*batch seq"]:
    return x if x.shape[-1] <= 128 else 2 * x


@breaks("specialises", "test_prove_wrong.py")
def loop_over_positions(x: Float[Tensor, "*batch seq"]) -> Float[Tensor, "*batch"]:
    return sum((x[..., i] for i in range(x.shape[-1])), torch.zeros_like(x[..., 0]))


@breaks("specialises", "let the annotation say so")
def requires_a_number(x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    require(x.shape[-1] == 64, "requires_a_number: x must be 64 wide")
    return x


@breaks("writes", "aten::mul_ writes into y")
def in_place(x: Float[Tensor, "*batch"], y: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    return y.mul_(x)


@breaks("writes", "aten::copy_ writes into x")
def in_place_through_a_view(x: Float[Tensor, "*batch seq"]) -> Float[Tensor, "*batch seq"]:
    x.unsqueeze(-1)[..., 0, :] = 0
    return x


@breaks("writes", "was changed in place")
def data_replaced(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    x.data = 2 * x
    return x


@breaks("writes", "aten::exp")
def out_is_an_argument(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    return torch.exp(x, out=x)


@breaks("random", "aten::rand_like")
def hidden_noise(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    return x + torch.rand_like(x)


@breaks("random", "global generator")
def generator_ignored(x: Float[Tensor, "*batch"], *, generator: torch.Generator) -> Float[Tensor, "*batch"]:  # noqa: ARG001  # what is wrong with it
    return x + torch.randn(x.shape, dtype=x.dtype, device=x.device)


@breaks("random", "aten::bernoulli_")
def dropout_left_on(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    return F.dropout(x, 0.1)


@breaks("random", "Python's random")
def noise_from_python(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    return x * random.random()


@breaks("host read", "aten::_local_scalar_dense")
def item(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    return x / x.abs().max().item()


@breaks("host read", "aten::_local_scalar_dense")
def branch_on_a_value(x: Float[Tensor, "*batch seq"]) -> Float[Tensor, "*batch seq"]:
    return x if x.sum() > 0 else -x


@breaks("host read", "test_prove_wrong.py")
def row_of_one_id(ids: Int[Tensor, "*batch"], table: Float[Tensor, "vocab d_k"]) -> Float[Tensor, "*batch d_k"]:
    return table[ids]  # of a tensor without axes torch makes a Python int


@breaks("host read", "makes a shape that depends on values")
def masked_select(x: Float[Tensor, "*batch seq"], mask: Bool[Tensor, "*batch seq"]) -> Float[Tensor, ""]:
    return x[mask].sum()


@breaks("host read", "moves values to the CPU")
def through_the_cpu(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    return x.cpu().sin().to(x.device)


@breaks("broadcast", "broadcasts batch against itself: (batch, 1) and (batch) make every pair")
def hidden_by_a_mean(scores: Float[Tensor, "batch 1"], truth: Float[Tensor, "batch"]) -> Float[Tensor, ""]:
    return (scores - truth).square().mean()


@breaks("broadcast", "aten::mse_loss")
def hidden_in_a_loss(scores: Float[Tensor, "batch 1"], truth: Float[Tensor, "batch"]) -> Float[Tensor, ""]:
    loss: Tensor = F.mse_loss(scores, truth)
    return loss


@breaks("broadcast", "batch")
def one_side_transposed(scores: Float[Tensor, "batch 1"], truth: Float[Tensor, "batch 1"]) -> Float[Tensor, ""]:
    return (scores - truth.T).square().mean()


@breaks("broadcast", "seq")
def kept_axis_forgotten(x: Float[Tensor, "seq d_model"]) -> Float[Tensor, ""]:
    return (x.sum(-1) / x.norm(dim=-1, keepdim=True)).mean()  # type: ignore[no-any-return]  # torch's


@breaks("device", "aten::add meets tensors on cpu and the arguments' device")
def positions_on_the_cpu(x: Float[Tensor, "*batch seq d_k"]) -> Float[Tensor, "*batch seq d_k"]:
    return x + torch.arange(x.shape[-1])


@breaks("device", "must be on the arguments' device, got cpu")
def zeros_on_the_cpu(x: Float[Tensor, "*batch seq"]) -> Float[Tensor, "seq"]:
    return torch.zeros(x.shape[-1], dtype=x.dtype)


@breaks("device", "aten::index")
def index_on_the_cpu(x: Float[Tensor, "seq d_k"]) -> Float[Tensor, "seq d_k"]:
    return x[torch.arange(x.shape[0])]


@breaks("edge", "here (1, 5), got (5,)")
def squeezed(x: Float[Tensor, "*batch seq"]) -> Float[Tensor, "*batch seq"]:
    return x.squeeze()


@breaks("edge", "zero-size")
def largest_of_the_batch(x: Float[Tensor, "*batch seq"], y: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    return y - y.amax(0) if y.ndim else x.sum(-1)


@breaks("error", "RuntimeError")
def marked_axis_multiplied(x: Float[Tensor, "*batch d_k"], weight: Float[Tensor, "#d_k"]) -> Float[Tensor, "*batch"]:
    return x @ weight


@breaks("shape", "here (batch[0], seq), got (seq,)")
def marked_axes_returned(
    x: Float[Tensor, "*batch seq"], mask: Float[Tensor, "*#batch seq"]
) -> Float[Tensor, "*batch seq"]:
    return mask if mask.ndim < x.ndim else x * mask


@contract
def inner(x: Float[Tensor, "*batch d_in"], weight: Float[Tensor, "d_out d_in"]) -> Float[Tensor, "*batch d_out"]:
    return x @ weight.mT


@breaks("contract", "inner: weight must be")
def weight_of_the_wrong_side(
    x: Float[Tensor, "*batch d_in"], weight: Float[Tensor, "d_in d_out"]
) -> Float[Tensor, "*batch d_out"]:
    return inner(x, weight)  # type: ignore[shape]  # the bug


@breaks("contract", "must be given a reason")
def refuses_its_default(x: Float[Tensor, "*batch"], *, reason: str = "") -> Float[Tensor, "*batch"]:
    require(reason != "", "refuses_its_default: must be given a reason")
    return x


@breaks("error", "RuntimeError")
def keys_for_values(
    q: Float[Tensor, "*batch queries d_k"], k: Float[Tensor, "*batch keys d_k"], v: Float[Tensor, "*batch keys d_v"]
) -> Float[Tensor, "*batch queries d_v"]:
    return torch.exp(q @ v.mT) @ k


@breaks("error", "AttributeError")
def no_such_method(x: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    return x.softmaxed()  # type: ignore[attr-defined,no-any-return]  # what is wrong with it


@breaks("error", "RuntimeError")
def mask_the_other_way(
    scores: Float[Tensor, "*batch queries keys"], mask: Bool[Tensor, "keys queries"] | None = None
) -> Float[Tensor, "*batch queries keys"]:
    return scores if mask is None else scores.masked_fill(~mask, -torch.inf)


@breaks("error", "got input (vocabxd_model)")
def ids_of_two_kinds(ids: Int[Tensor, "*batch"], weight: Float[Tensor, "vocab d_model"]) -> Float[Tensor, "*batch"]:
    return (weight @ ids.to(weight.dtype).flatten()).reshape(ids.shape)


@pytest.mark.parametrize(("function", "rule", "message"), WRONG, ids=lambda value: getattr(value, "__name__", ""))
def test_the_rule_finds_it(function: Callable[..., Any], rule: str, message: str) -> None:
    proof = prove(function)
    assert not proof.ok
    found = [failure for failure in proof.failures if failure.rule == rule]
    assert any(message in failure.message for failure in found), str(proof)


def test_every_rule_is_broken_by_one() -> None:
    assert {rule for _, rule, _ in WRONG} == set(RULES)
