"""The table of losses and of what is made of them: their results are wider than what they are given."""

from typing import Final

import torch

from cs336_basics.ops.linear import linear
from cs336_basics.ops.loss import bits_per_byte, cross_entropy, linear_cross_entropy, perplexity
from tests.gpu.cases_ops import D_MODEL, SEQ, VOCAB, matrix, x_inputs
from tests.gpu.compare import Case, Inside, Tensors, integers, normal


def loss_inputs(t: torch.dtype) -> Tensors:
    return normal(2, SEQ, VOCAB, dtype=t), integers(VOCAB, 2, SEQ)


def linear_loss_inputs(t: torch.dtype) -> Tensors:
    return *x_inputs(t), matrix(VOCAB, D_MODEL, t, seed=1), integers(VOCAB, 2, SEQ)


LOGITS: Final = Inside(
    value=lambda x, weight, _: linear(x, weight), rest=lambda logits, *inputs: cross_entropy(logits, inputs[-1])
)


LOSSES: Final = (
    Case(of=cross_entropy, name="cross_entropy", inputs=loss_inputs, call=cross_entropy, roundings=1, terms=VOCAB),
    Case(
        of=linear_cross_entropy,
        name="linear_cross_entropy",
        inputs=linear_loss_inputs,
        call=linear_cross_entropy,
        roundings=2,
        terms=VOCAB + D_MODEL,
        inside=LOGITS,
    ),
    Case(
        of=cross_entropy,
        name="cross_entropy with ignore_index and z_loss",
        inputs=loss_inputs,
        call=lambda x, targets: cross_entropy(x, targets, ignore_index=3, z_loss=0.01),
        roundings=1,
        terms=VOCAB,
    ),
    Case(
        of=cross_entropy,
        name="cross_entropy with nothing counted",
        inputs=lambda t: (loss_inputs(t)[0], torch.full((2, SEQ), 3)),
        call=lambda x, targets: cross_entropy(x, targets, ignore_index=3),
        roundings=0,
    ),
    Case(of=perplexity, name="perplexity", inputs=x_inputs, call=perplexity, roundings=2, terms=2),
    Case(
        of=bits_per_byte,
        name="bits_per_byte",
        inputs=x_inputs,
        call=lambda x: x.new_full((), bits_per_byte(x.abs().sum(dtype=torch.float64).item(), n_bytes=100)),
        roundings=1,
    ),
)
