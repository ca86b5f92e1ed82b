"""Parameters and FLOPs against torch's own counters, on real models over all ablations."""

from collections import Counter
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from cs336_basics.accounting import GPT2_SIZES, flops, mfu, parameters
from cs336_basics.config import ModelConfig
from cs336_basics.contracts import ContractError
from cs336_basics.nn import TransformerLM
from cs336_basics.ops.loss import cross_entropy
from tests.accounting.models import TINY, batches, configs, tokens


@settings(deadline=None, max_examples=40)
@given(configs())
def test_parameters_by_part(config: ModelConfig) -> None:
    counted: Counter[str] = Counter()
    for name, param in TransformerLM(config, device="meta").named_parameters():
        words = name.split(".")
        part = "norms" if any(word.startswith("ln") or word.endswith("norm") for word in words) else words[-3:-1]
        counted[part if isinstance(part, str) else " ".join(part)] += param.numel()
    ours = parameters(config)
    assert ours.total == counted.total()
    assert ours.token_embeddings == counted["token_embeddings"]
    assert ours.lm_head == counted["lm_head"]
    assert ours.attention == sum(counted[f"attn {name}_proj"] for name in ("q", "k", "v", "output"))
    assert ours.feed_forward == sum(counted[f"ffn {name}"] for name in ("w1", "w2", "w3"))
    assert ours.norms == counted["norms"]
    assert ours.non_embedding == parameters(replace(config, tie_embeddings=not config.tie_embeddings)).non_embedding


def count_flops(
    config: ModelConfig, batch_size: int, seq_len: int, *, frozen: str = "nothing"
) -> tuple[dict[str, Counter[str]], int]:
    """What torch counts on the meta device: the forward pass by module and operator, and the backward pass."""
    model = TransformerLM(config, device="meta")
    for name, param in model.named_parameters():
        param.requires_grad_(not name.startswith(frozen))
    ids = tokens(config, batch_size, seq_len, device="meta")
    with FlopCounterMode(display=False) as forward:
        loss = cross_entropy(model(ids), ids)
    with FlopCounterMode(display=False) as backward:
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    by_module = {
        module: Counter({str(op).removeprefix("aten."): count for op, count in ops.items()})
        for module, ops in forward.get_flop_counts().items()
    }
    return by_module, backward.get_total_flops()


@settings(deadline=None, max_examples=20)
@given(configs(), batches)
def test_flops_by_part(config: ModelConfig, batch: tuple[int, int]) -> None:
    by_module, backward = count_flops(config, *batch)
    attention = sum((ops for name, ops in by_module.items() if name.endswith(".attn")), Counter[str]())
    feed_forward = sum((ops for name, ops in by_module.items() if name.endswith(".ffn")), Counter[str]())
    ours = flops(config, batch_size=batch[0], seq_len=batch[1])
    assert ours.attention_projections_flops == attention["mm"]
    assert ours.attention_scores_flops + ours.attention_values_flops == attention["bmm"]
    assert ours.feed_forward_flops == feed_forward.total()
    assert ours.head_flops == by_module["Global"].total() - attention.total() - feed_forward.total()
    assert ours.forward_flops == by_module["Global"].total()
    assert ours.backward_flops == backward
    assert ours.total_flops == 3 * by_module["Global"].total()


@pytest.mark.parametrize(("norm", "missing"), [("none", 1), ("post", 1), ("pre", 0)])
def test_only_frozen_embeddings_spare_the_first_layer_its_input_gradient(norm: Any, missing: int) -> None:
    """With frozen embeddings, nothing learns below q, k and v of the first layer but a norm that stands before them."""
    config = replace(TINY, norm=norm, n_kv_heads=1)
    q_k_v = 2 * 3 * 5 * config.d_model * (config.d_model + 2 * config.d_head)
    assert count_flops(config, 3, 5)[1] == flops(config, batch_size=3, seq_len=5).backward_flops
    less = flops(config, batch_size=3, seq_len=5).backward_flops - missing * q_k_v
    assert count_flops(config, 3, 5, frozen="token_embeddings")[1] == less


@pytest.mark.parametrize("size", GPT2_SIZES)
def test_parameters_of_gpt2_sizes(size: str) -> None:
    model = TransformerLM(GPT2_SIZES[size], device="meta")
    assert parameters(GPT2_SIZES[size]).total == sum(param.numel() for param in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("size", ["small", "xl"])
def test_flops_of_gpt2_sizes(size: str) -> None:
    config = GPT2_SIZES[size]
    by_module, backward = count_flops(config, 1, config.context_length)
    assert flops(config).forward_flops == by_module["Global"].total()
    assert flops(config).backward_flops == backward


def test_gpt2_xl_by_hand() -> None:
    """The figures of the usual exercise: 2.127 billion parameters, 4.51 TFLOPs forward."""
    assert parameters(GPT2_SIZES["xl"]).total == 2 * 50_257 * 1_600 + 48 * (10 * 1_600 * 2_560 + 3_200) + 1_600
    assert flops(GPT2_SIZES["xl"]).forward_flops == 4_513_336_524_800


@settings(deadline=None, max_examples=20)
@given(configs(), st.integers(1, 5))
def test_a_batch_costs_what_its_sequences_cost(config: ModelConfig, batch_size: int) -> None:
    assert flops(config, batch_size=batch_size).total_flops == batch_size * flops(config).total_flops


def test_mfu() -> None:
    per_token = flops(TINY).total_flops / TINY.context_length
    assert mfu(100.0, per_token, 100.0 * per_token) == 1.0
    assert mfu(0.0, per_token, 1.0) == 0.0


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"batch_size": 0}, "flops: batch_size must be at least 1, got 0"),
        ({"seq_len": 0}, r"flops: seq_len must be in \[1, context_length = 8\], got 0"),
        ({"seq_len": 9}, r"flops: seq_len must be in \[1, context_length = 8\], got 9"),
    ],
)
def test_flops_refuses(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        flops(TINY, **sizes)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((1.0, 1.0, 0.0), r"mfu: peak_flops must be above 0, got 0\.0"),
        ((1.0, 1.0, float("nan")), "mfu: peak_flops must be above 0, got nan"),
        ((-1.0, 1.0, 1.0), r"mfu: tokens_per_s must be at least 0, got -1\.0"),
        ((1.0, -1.0, 1.0), r"mfu: flops_per_token must be at least 0, got -1\.0"),
    ],
)
def test_mfu_refuses(values: tuple[float, float, float], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        mfu(*values)


def test_results_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        parameters(TINY).norms = 0  # type: ignore[misc]  # what must be refused
    with pytest.raises(FrozenInstanceError):
        flops(TINY).head_flops = 0  # type: ignore[misc]  # what must be refused
