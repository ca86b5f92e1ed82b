"""Batches: every row is a window of the corpus, and every window is equally likely; the oracle is a loop."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cs336_basics.contracts import ContractError
from cs336_basics.data.batches import _draw, batch_at, get_batch
from cs336_basics.data.errors import DataError
from cs336_basics.data.sampler import sample_starts
from cs336_basics.data.sidecar import to_json
from cs336_basics.data.token_file import TokenFileInfo, open_tokens, sidecar_path, write_tokens

DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", ">u2", ">i8"]


def naive(dataset: Any, starts: list[int], context_length: int) -> tuple[list[list[int]], list[list[int]]]:
    tokens = [int(token) for token in dataset]
    return (
        [[tokens[start + i] for i in range(context_length)] for start in starts],
        [[tokens[start + i + 1] for i in range(context_length)] for start in starts],
    )


def check(x: Tensor, y: Tensor, expected: tuple[list[list[int]], list[list[int]]]) -> None:
    assert (x.tolist(), y.tolist()) == expected
    for tensor in (x, y):
        assert tensor.dtype == torch.int64
        assert tensor.is_contiguous()
        assert tensor.device.type == "cpu"


def same_starts(seed: int, n_tokens: int, batch_size: int, context_length: int) -> list[int]:
    """The starts that a generator with this seed gives, read off a corpus in which token i is i."""
    generator = torch.Generator().manual_seed(seed)
    x, _ = get_batch(np.arange(n_tokens), batch_size, context_length, "cpu", generator=generator)
    return [int(start) for start in x[:, 0]]


# Every row is a window


@given(
    n_tokens=st.integers(2, 100),
    context_length=st.integers(1, 20),
    batch_size=st.integers(1, 9),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**63 - 1),
)
@settings(deadline=None, max_examples=100)
def test_equal_to_a_loop(n_tokens: int, context_length: int, batch_size: int, dtype: str, seed: int) -> None:
    context_length = min(context_length, n_tokens - 1)
    dataset = np.random.default_rng(seed).integers(0, 127, n_tokens).astype(dtype)
    generator = torch.Generator().manual_seed(seed)
    x, y = get_batch(dataset, batch_size, context_length, "cpu", generator=generator)
    starts = same_starts(seed, n_tokens, batch_size, context_length)
    check(x, y, naive(dataset, starts, context_length))
    for replacement in (True, False):
        sizes: dict[str, Any] = {"batch_size": batch_size, "context_length": context_length}
        starts = sample_starts(n_tokens, seed=seed, step=3, replacement=replacement, **sizes).tolist()
        x, y = batch_at(dataset, seed=seed, step=3, device="cpu", replacement=replacement, **sizes)
        check(x, y, naive(dataset, starts, context_length))


@pytest.mark.parametrize(
    "view",
    [
        lambda tokens: tokens[::2],
        lambda tokens: tokens[::-1],
        lambda tokens: np.stack([tokens, tokens], axis=1)[:, 0],
        lambda tokens: np.frombuffer(tokens.tobytes(), tokens.dtype),  # read-only
    ],
)
def test_any_layout_in_memory(view: Callable[[np.ndarray], np.ndarray]) -> None:
    dataset = view(np.random.default_rng(0).integers(0, 60_000, 200).astype(np.uint16))
    x, y = get_batch(dataset, 4, 7, "cpu", generator=torch.Generator().manual_seed(1))
    check(x, y, naive(dataset, same_starts(1, dataset.size, 4, 7), 7))


@pytest.mark.parametrize("vocab_size", [1 << 16, 1 << 32])
def test_from_a_token_file(tmp_path: Path, vocab_size: int) -> None:
    ids = np.random.default_rng(0).integers(0, vocab_size, 500)
    write_tokens(tmp_path / "a.bin", [ids], vocab_size=vocab_size, tokenizer_hash="demo")
    dataset = open_tokens(tmp_path / "a.bin")
    x, y = get_batch(dataset, 16, 33, "cpu", generator=torch.Generator().manual_seed(1))
    check(x, y, naive(ids, same_starts(1, 500, 16, 33), 33))


def test_inputs_targets_and_corpus_share_no_element() -> None:
    dataset = np.arange(100)
    x, y = get_batch(dataset, 8, 5, "cpu")
    before = y.clone()
    x.fill_(-1)
    assert torch.equal(y, before)
    assert np.array_equal(dataset, np.arange(100))


# Every window is equally likely

GENERATORS: dict[str, Callable[[], np.random.Generator | torch.Generator | None]] = {
    "global": lambda: None,
    "torch": lambda: torch.Generator().manual_seed(3),
    "numpy": lambda: np.random.default_rng(3),
}


@pytest.mark.parametrize("source", list(GENERATORS))
def test_every_start_is_equally_likely(source: str) -> None:
    torch.manual_seed(3)
    generator = GENERATORS[source]()
    draws = [get_batch(np.arange(100), 200, 7, "cpu", generator=generator)[0][:, 0] for _ in range(500)]
    counts = torch.bincount(torch.cat(draws)).double()
    assert counts.numel() == 93  # 0 to 92, first and last included
    chi_square = float(((counts - counts.mean()) ** 2 / counts.mean()).sum())
    assert abs(chi_square - 92) / (2 * 92) ** 0.5 < 4


@pytest.mark.parametrize("source", list(GENERATORS))
def test_starts_stay_equally_likely_in_a_huge_corpus(source: str) -> None:
    """32 random bits modulo 260 million would draw the lower half of the corpus 6 % too often."""
    torch.manual_seed(4)
    n_starts = 260_000_000
    edge = 2**32 % n_starts
    share = float((_draw(n_starts, 1_000_000, GENERATORS[source]()) < edge).mean())
    assert abs(share - edge / n_starts) < 4 * 0.5e-3  # four standard deviations


@pytest.mark.parametrize("source", list(GENERATORS))
def test_a_seed_fixes_the_draws(source: str) -> None:
    batches = []
    for _ in range(2):
        torch.manual_seed(3)
        generator = GENERATORS[source]()
        batches.append([get_batch(np.arange(10_000), 32, 7, "cpu", generator=generator)[0] for _ in range(2)])
    assert torch.equal(batches[0][0], batches[1][0])
    assert torch.equal(batches[0][1], batches[1][1])
    assert not torch.equal(batches[0][0], batches[0][1])


@pytest.mark.parametrize("source", ["torch", "numpy"])
def test_a_generator_of_ones_own_leaves_the_global_one_alone(source: str) -> None:
    state = torch.get_rng_state()
    get_batch(np.arange(100), 8, 5, "cpu", generator=GENERATORS[source]())
    batch_at(np.arange(100), seed=0, step=0, batch_size=8, context_length=5, device="cpu")
    assert torch.equal(torch.get_rng_state(), state)


# The batch of a step


@pytest.mark.parametrize("replacement", [True, False])
def test_resuming_sees_what_an_unbroken_run_sees(replacement: bool) -> None:
    def batch(step: int) -> Tensor:
        dataset = np.arange(500, dtype=np.uint16)
        x, y = batch_at(
            dataset, seed=1, step=step, batch_size=8, context_length=16, device="cpu", replacement=replacement
        )
        return torch.stack([x, y])

    unbroken = [batch(step) for step in range(20)]
    torch.manual_seed(0)
    for step in range(13, 20):
        assert torch.equal(batch(step), unbroken[step])


def test_an_epoch_without_replacement_shows_each_target_once() -> None:
    targets = [
        batch_at(np.arange(161), seed=0, step=step, batch_size=2, context_length=16, device="cpu", replacement=False)[1]
        for step in range(5)
    ]
    counts = torch.bincount(torch.cat(targets).flatten(), minlength=161)
    assert int(counts.sum()) == 160
    # All of them, but that the offset's tokens at the front make way for as many twice seen near the end.
    assert int((counts != 1).nonzero().numel()) < 2 * 16


# Memory


def peak_kb() -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_only_the_windows_of_a_large_file_are_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.bin"
    path.touch()
    os.truncate(path, 1 << 28)  # a hole
    info = TokenFileInfo(dtype="uint16", count=1 << 27, vocab_size=9, tokenizer_hash="demo", sha256="0" * 64)
    sidecar_path(path).write_bytes(to_json(info))
    dataset = open_tokens(path, verify=False)
    before = peak_kb()
    for step in range(20):
        get_batch(dataset, 32, 256, "cpu")
        batch_at(dataset, seed=0, step=step, batch_size=32, context_length=256, device="cpu", replacement=False)
    assert peak_kb() - before < 100_000


# Bad input


@pytest.mark.parametrize(
    ("dataset", "batch_size", "context_length", "message"),
    [
        (np.arange(7), 4, 7, r"dataset must hold at least context_length \+ 1 = 8 tokens, got 7; lower context_leng"),
        (np.arange(0), 4, 7, r"dataset must hold at least context_length \+ 1 = 8 tokens, got 0; lower"),
        (np.arange(9), 0, 7, "batch_size must be 1 or more, got 0"),
        (np.arange(9), 4, -1, "context_length must be 1 or more, got -1"),
        (np.zeros((9, 9), int), 4, 7, r"dataset must be a row of integer token ids, got ndarray int64\(9, 9\); open"),
        (np.array(3), 4, 7, r"dataset must be a row of integer token ids, got ndarray int64\(\)"),
        (np.zeros(9), 4, 7, r"dataset must be a row of integer token ids, got ndarray float64\(9,\)"),
        (np.zeros(9, bool), 4, 7, r"dataset must be a row of integer token ids, got ndarray bool\(9,\)"),
        (np.array(["a"] * 9), 4, 7, r"dataset must be a row of integer token ids, got ndarray <U1\(9,\)"),
    ],
)
def test_bad_values_are_named(dataset: np.ndarray, batch_size: int, context_length: int, message: str) -> None:
    with pytest.raises(DataError, match=f"^get_batch: {message}"):
        get_batch(dataset, batch_size, context_length, "cpu")
    with pytest.raises(DataError, match=f"^batch_at: {message}"):
        batch_at(dataset, seed=0, step=0, batch_size=batch_size, context_length=context_length, device="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": [1, 2, 3]}, r"dataset must be ndarray.*, got list \[1, 2, 3\]"),
        ({"dataset": torch.arange(9)}, r"dataset must be ndarray.*, got tensor int64\(9,\)"),
        ({"batch_size": 2.0}, "batch_size must be int.*, got float 2.0"),
        ({"context_length": "3"}, "context_length must be int.*, got str '3'"),
        ({"device": None}, "device must be .*, got NoneType None"),
        ({"generator": 5}, "generator must be .*, got int 5"),
    ],
)
def test_wrong_types_are_named(options: dict[str, Any], message: str) -> None:
    options = {"dataset": np.arange(9), "batch_size": 2, "context_length": 3, "device": "cpu", **options}
    with pytest.raises(ContractError, match=f"^get_batch: {message}"):
        get_batch(**options)


def test_a_device_that_is_not_there_is_torchs_to_refuse() -> None:
    with pytest.raises((RuntimeError, AssertionError), match=r"CUDA error|Torch not compiled with CUDA enabled"):
        get_batch(np.arange(100), 4, 7, "cuda:99")
    with pytest.raises(RuntimeError, match="device"):
        get_batch(np.arange(100), 4, 7, "nonsense")


# On a GPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_equal_to_the_cpu() -> None:
    dataset = np.random.default_rng(0).integers(0, 60_000, 100_000).astype(np.uint16)
    options: dict[str, Any] = {"seed": 0, "batch_size": 64, "context_length": 1024}
    on_cpu = [batch_at(dataset, step=step, device="cpu", **options) for step in range(200)]
    # All in flight at once: a pinned block reused before its copy is done would show.
    on_cuda = [batch_at(dataset, step=step, device="cuda", **options) for step in range(200)]
    for cpu, cuda in zip(on_cpu, on_cuda, strict=True):
        for left, right in zip(cpu, cuda, strict=True):
            assert right.device.type == "cuda"
            assert right.is_contiguous()
            assert torch.equal(left, right.cpu())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_generator_on_cuda_is_refused() -> None:
    with pytest.raises(DataError, match="get_batch: generator must be on the CPU, got one on cuda"):
        get_batch(np.arange(100), 4, 7, "cuda", generator=torch.Generator(device="cuda"))
