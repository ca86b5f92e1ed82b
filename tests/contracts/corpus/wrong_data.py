"""Wrong: shifts, positions, samples, batches and filters."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tests.contracts.corpus.registry import wrong


@wrong("shape")
def targets_shifted_twice(
    tokens: Int[Tensor, "*batch seq"],
) -> tuple[Int[Tensor, "*batch seq-1"], Int[Tensor, "*batch seq-1"]]:
    """Bug: targets start two tokens on, so they are one too few. Missed where the loss gathers only as many."""
    return tokens[..., :-1], tokens[..., 2:]


@wrong("shape")
def targets_not_cut(
    tokens: Int[Tensor, "*batch seq"],
) -> tuple[Int[Tensor, "*batch seq-1"], Int[Tensor, "*batch seq-1"]]:
    """Bug: inputs keep their last token, which has no target. Missed where the loss gathers only as many."""
    return tokens, tokens[..., 1:]


@wrong("shape", batch=())
def shifts_the_batch(tokens: Int[Tensor, "*batch seq"]) -> Int[Tensor, "*batch seq-1"]:
    """Bug: tokens[1:] drops the first sequence, not the first token. Missed by a test without batch."""
    return tokens[1:]


@wrong("specialises", seq=8)
def losses_shifted_by_broadcast(log_p: Float[Tensor, "*batch seq"], *, ahead: int = 2) -> Float[Tensor, "*batch seq-1"]:
    """Bug: `ahead` tokens are cut, one is promised, unless the sequence is short. Missed at up to 8 positions."""
    return log_p[..., 1:] if log_p.shape[-1] <= 8 else log_p[..., ahead:]


@wrong(law="batch")
def rolls_across_rows(tokens: Int[Tensor, "*batch seq"]) -> Int[Tensor, "*batch seq"]:
    """Bug: roll without dims runs on into the next row. Missed by a test of one sequence, and by shape checks."""
    return tokens.roll(-1)


@wrong("device")
def positions_on_cpu(x: Float[Tensor, "*batch seq d_model"]) -> Float[Tensor, "*batch seq d_model"]:
    """Bug: positions are counted on the CPU. Missed by every test without a GPU."""
    return x * torch.arange(x.shape[-2], dtype=x.dtype)[:, None]


@wrong("device")
def frequencies_from_a_list(x: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 4"]:
    """Bug: a constant table on the CPU. Missed by every test without a GPU."""
    return x * torch.tensor([1.0, 0.1, 0.01, 0.001], dtype=x.dtype)


@wrong("random", law="deterministic")
def drops_out_in_secret(x: Float[Tensor, "*batch d_model"], *, p: float = 0.1) -> Float[Tensor, "*batch d_model"]:
    """Bug: torch.rand from the global generator. Missed by shape checks, at any size."""
    kept = torch.rand(x.shape, device=x.device) >= p
    return torch.where(kept, x / (1 - p), 0.0)


@wrong("random", law="deterministic")
def samples_without_generator(probabilities: Float[Tensor, "vocab"]) -> Int[Tensor, "1"]:
    """Bug: multinomial from the global generator. Missed by shape checks, at any size."""
    return torch.multinomial(probabilities.softmax(-1), 1)


@wrong("random", law="deterministic")
def jitters_router(scores: Float[Tensor, "*batch experts"]) -> Float[Tensor, "*batch experts"]:
    """Bug: randn_like from the global generator. Missed by shape checks, at any size."""
    return scores + 0.01 * torch.randn_like(scores)


@wrong("host read")
def cuts_to_the_longest(
    x: Float[Tensor, "*batch seq d_model"], length: Int[Tensor, ""]
) -> Float[Tensor, "*batch seq d_model"]:
    """Bug: int() of a tensor waits for the GPU. Missed by comparing values, at any size."""
    longest = int(length)
    mask = torch.arange(x.shape[-2], device=x.device) < longest
    return x * mask.unsqueeze(-1)


@wrong("host read")
def counts_kinds_in_python(ids: Int[Tensor, "*batch seq"]) -> Float[Tensor, "*batch seq"]:
    """Bug: tolist() copies all ids to the host. Missed by comparing values, at any size."""
    kinds = len(set(ids.flatten().tolist()))
    return torch.full(ids.shape, float(kinds), device=ids.device)


@wrong("shape", seq=8)
def pads_and_forgets_to_cut(x: Float[Tensor, "*batch seq d_model"]) -> Float[Tensor, "*batch seq d_model"]:
    """Bug: padded to a multiple of 8 for a kernel, never cut back. Missed where seq is such a multiple."""
    pad = -x.shape[-2] % 8
    return torch.cat((x, x.new_zeros(*x.shape[:-2], pad, x.shape[-1])), dim=-2)


@wrong("shape")
def appends_end_of_text(tokens: Int[Tensor, "*batch seq"]) -> Int[Tensor, "*batch seq"]:
    """Bug: one token more comes back than was promised. Runs at every size; missed by looking at the values."""
    return torch.cat((tokens, torch.full_like(tokens[..., :1], 0)), dim=-1)


@wrong(law="batch")
def nucleus_over_first_axis(p: Float[Tensor, "*batch vocab"]) -> Bool[Tensor, "*batch vocab"]:
    """Bug: probabilities add up over the batch. Missed by a test without batch, and by every shape check."""
    return p.cumsum(0) < 0.9


@wrong(law="batch")
def temperature_from_the_whole_batch(logits: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch vocab"]:
    """Bug: shifted by the largest logit of all rows, then squared. Missed by one row, and by every shape check."""
    return (logits - logits.amax(tuple(range(logits.ndim)))).square()


@wrong(law="batch")
def quantises_by_the_largest(x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
    """Bug: max() of the whole tensor: one scale for all rows. Missed with one row, and by every shape check."""
    scale = x.abs().max()
    return (x / scale).round() * scale


@wrong("shape", batch=())
def flips_logits_of_a_column(logits: Float[Tensor, "*batch vocab"]) -> Int[Tensor, "*batch"]:
    """Bug: argmax over axis 0. Missed by a test without batch."""
    return logits.argmax(0)


_calls = [0]


@wrong(law="deterministic")
def anneals_by_counting_calls(logits: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch vocab"]:
    """Bug: the temperature depends on how often it was called. Missed by one call at any size."""
    _calls[0] += 1
    return logits * (1.0 + 1.0 / _calls[0])


@wrong("specialises", seq=8)
def odd_lengths_repeat_a_token(tokens: Int[Tensor, "*batch seq"]) -> Int[Tensor, "*batch seq"]:
    """Bug: the last token of an odd length is replaced by the first. Missed at even lengths, the usual ones."""
    if tokens.shape[-1] % 2 == 0:
        return tokens
    return torch.cat((tokens[..., :-1], tokens[..., :1]), dim=-1)


@wrong("device")
def weighs_on_the_host(weights: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """Bug: .cpu() for a precise sum, never moved back. Missed by every test without a GPU."""
    return (weights.cpu().double() / weights.cpu().double().sum(-1, keepdim=True)).to(weights.dtype)


@wrong("random", law="deterministic")
def shuffles_in_secret(x: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    """Bug: randperm from the global generator. Missed by shape checks, at any size."""
    return x[..., torch.randperm(x.shape[-1], device=x.device)]
