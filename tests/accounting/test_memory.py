"""Bytes against torch's own accounts of them, on real models over all ablations."""

import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributed._tools.mem_tracker import MemTracker

from cs336_basics.accounting import (
    GPT2_SIZES,
    Precision,
    activations,
    kv_cache_bytes,
    optimizer_bytes,
    training_memory,
)
from cs336_basics.config import ModelConfig, OptimizerConfig
from cs336_basics.contracts import ContractError
from cs336_basics.nn import TransformerLM
from cs336_basics.ops.loss import cross_entropy
from cs336_basics.optim import SGD, AdamW, Muon, split_parameters
from tests.accounting.models import TINY, batches, configs, tokens

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


def precision(dtype: Precision) -> AbstractContextManager[object]:
    return torch.autocast("cpu", dtype=torch.bfloat16) if dtype == "bfloat16" else nullcontext()


def nbytes(tensors: Iterable[object]) -> int:
    return sum(t.nbytes for t in tensors if isinstance(t, Tensor))


class Held:
    """What a graph keeps instead of a saved tensor; it dies with its place in the graph."""

    def __init__(self, tensor: Tensor) -> None:
        # Detached: an operation that saves its own output would else hold itself, and never be freed.
        self.tensor = tensor.detach()


def saved_bytes(config: ModelConfig, batch_size: int, seq_len: int, dtype: Precision) -> int:
    """What autograd holds between the passes: each storage once, those of parameters left out."""
    model = TransformerLM(config)
    ids, targets = tokens(config, batch_size, seq_len), tokens(config, batch_size, seq_len)
    alive: weakref.WeakSet[Held] = weakref.WeakSet()

    def pack(tensor: Tensor) -> Held:
        held = Held(tensor)
        alive.add(held)
        return held

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda held: held.tensor), precision(dtype):
        loss = cross_entropy(model(ids), targets)
    storages = [held.tensor.untyped_storage() for held in alive]
    sizes = {storage.data_ptr(): storage.nbytes() for storage in storages}
    assert loss.grad_fn is not None
    for param in model.parameters():
        sizes.pop(param.untyped_storage().data_ptr(), None)
    return sum(sizes.values())


@settings(deadline=None, max_examples=40)
@given(configs(), batches, st.sampled_from(PRECISIONS))
def test_activations(config: ModelConfig, batch: tuple[int, int], dtype: Precision) -> None:
    ours = activations(config, batch_size=batch[0], seq_len=batch[1], dtype=dtype)
    assert ours.total_bytes == saved_bytes(config, *batch, dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("position", ["rope", "none"])
@pytest.mark.parametrize(("batch_size", "n_heads", "n_kv_heads"), [(1, 2, 2), (1, 2, 1), (3, 1, 1), (3, 2, 2)])
def test_activations_of_fused_projections(
    batch_size: int, n_heads: int, n_kv_heads: int, position: Any, qk_norm: bool, dtype: Precision
) -> None:
    """Whether q, k and v are kept as views or copies hangs on all of these; chance meets few of the cases."""
    config = replace(
        TINY, n_heads=n_heads, n_kv_heads=n_kv_heads, position=position, qk_norm=qk_norm, fuse_qkv=True, n_layers=1
    )
    ours = activations(config, batch_size=batch_size, seq_len=5, dtype=dtype)
    assert ours.total_bytes == saved_bytes(config, batch_size, 5, dtype)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("fuse_qkv", [False, True])
def test_activations_of_a_usual_shape(fuse_qkv: bool, dtype: Precision) -> None:
    config = ModelConfig(vocab_size=500, context_length=64, d_model=64, n_layers=2, n_heads=4, fuse_qkv=fuse_qkv)
    assert activations(config, batch_size=4, dtype=dtype).total_bytes == saved_bytes(config, 4, 64, dtype)


def test_activations_by_part_grow_as_they_say() -> None:
    once, twice = (activations(replace(GPT2_SIZES["small"], position="none"), seq_len=n) for n in (512, 1_024))
    assert twice.attention_bytes == 2 * once.attention_bytes
    assert twice.norms_bytes == 2 * once.norms_bytes
    assert twice.loss_bytes == 2 * once.loss_bytes
    assert twice.scores_bytes / once.scores_bytes == pytest.approx(4, rel=1e-2)


@settings(deadline=None, max_examples=15)
@given(configs(), st.sampled_from(["adamw", "sgd", "muon"]), st.sampled_from([0.0, 0.9]))
def test_optimizer_state_and_gradients(config: ModelConfig, name: Any, momentum: float) -> None:
    chosen = OptimizerConfig(name=name, momentum=momentum)
    model = TransformerLM(config)
    for param in model.parameters():
        param.grad = torch.zeros_like(param)
    optimizer = build(model, chosen)
    optimizer.step()
    held = [value for state in optimizer.state.values() for value in state.values()]
    memory = training_memory(config, optimizer=chosen)
    assert memory.optimizer_bytes == optimizer_bytes(config, chosen) == nbytes(held)
    assert memory.gradients_bytes == nbytes(param.grad for param in model.parameters())
    assert memory.parameters_bytes == nbytes(model.parameters())
    assert memory.activations_bytes == activations(config).total_bytes


def build(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    if config.name == "muon":
        matrices, others = split_parameters(model.named_parameters())
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "use_muon": False}]
        return Muon(groups, momentum=config.momentum)
    if config.name == "sgd":
        return SGD(model.parameters(), momentum=config.momentum)
    return AdamW(model.parameters())


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("accumulating", [False, True])
def test_training_memory_against_torchs_tracker(accumulating: bool, dtype: Precision) -> None:
    """To the byte between the passes, and at the peak."""
    config = ModelConfig(vocab_size=2_048, context_length=64, d_model=64, n_layers=2, n_heads=4)
    model = TransformerLM(config)
    optimizer = AdamW(model.parameters())
    for param in model.parameters():
        param.grad = torch.zeros_like(param)
    optimizer.step()  # its state is there from the second step on
    if not accumulating:
        optimizer.zero_grad()
    ids, targets = tokens(config, 4, 64), tokens(config, 4, 64)
    tracker = MemTracker()
    tracker.track_external(model, optimizer, ids, targets)
    with tracker:
        with precision(dtype):
            loss = cross_entropy(model(ids), targets)
        between = total_bytes(tracker, "current")
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        optimizer.step()
        optimizer.zero_grad()
    ours = training_memory(config, batch_size=4, dtype=dtype)
    absent = 0 if accumulating else ours.gradients_bytes
    tables_and_loss = nbytes(model.buffers()) + loss.nbytes
    assert between == ours.total_bytes - ours.loss_gradients_bytes - absent + tables_and_loss
    assert total_bytes(tracker, "peak") == ours.total_bytes - absent + tables_and_loss + loss.nbytes  # 1: its gradient


def total_bytes(tracker: MemTracker, kind: str) -> int:
    return sum(parts["Total"] for parts in tracker.get_tracker_snapshot(kind).values())


@settings(deadline=None, max_examples=15)
@given(configs(), batches, st.sampled_from(PRECISIONS))
def test_kv_cache(config: ModelConfig, batch: tuple[int, int], dtype: Precision) -> None:
    with torch.inference_mode(), precision(dtype):
        _, cache = TransformerLM(config).extend(tokens(config, *batch))
    held = nbytes(tensor for layer in cache for tensor in layer)
    assert kv_cache_bytes(config, batch_size=batch[0], seq_len=batch[1], dtype=dtype) == held


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: activations(TINY, batch_size=0), "activations: batch_size must be at least 1, got 0"),
        (lambda: activations(TINY, seq_len=9), r"activations: seq_len must be in \[1, context_length = 8\], got 9"),
        (lambda: activations(TINY, dtype="int8"), "activations: dtype must be float32 or bfloat16, got 'int8'"),  # type: ignore[arg-type]  # the bad input
        (lambda: training_memory(TINY, batch_size=-1), "training_memory: batch_size must be at least 1, got -1"),
        (lambda: kv_cache_bytes(TINY, seq_len=0), r"kv_cache_bytes: seq_len must be in \[1, .* = 8\], got 0"),
        (lambda: kv_cache_bytes(TINY, dtype="auto"), "kv_cache_bytes: dtype must be float32 or bfloat16, got 'auto'"),  # type: ignore[arg-type]  # the bad input
    ],
)
def test_bad_input(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        call()


def test_results_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        activations(TINY).norms_bytes = 0  # type: ignore[misc]  # what must be refused
    with pytest.raises(FrozenInstanceError):
        training_memory(TINY).gradients_bytes = 0  # type: ignore[misc]  # what must be refused
