"""Newton-Schulz against the singular value decomposition, muon_update against its formula and torch.optim.Muon."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from cs336_basics.contracts import ContractError
from cs336_basics.optim import Muon, MuonState, adamw_init, adamw_update, muon_init, muon_update, newton_schulz
from cs336_basics.optim import split_parameters as split

OPTIONS: dict[str, Any] = {"lr": 1e-2, "momentum": 0.95, "weight_decay": 0.1, "ns_dtype": torch.float32}
SHAPES = [(1, 1), (1, 7), (7, 1), (16, 16), (16, 40), (40, 16)]


def matrix(rows: int, cols: int, *, seed: int = 0, spread: float = 20.0) -> Tensor:
    """A float64 matrix whose singular values run from 1 to `spread`."""
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(rows, cols, generator=generator, dtype=torch.float64)
    u, s, v = torch.linalg.svd(gaussian, full_matrices=False)
    result: Tensor = (u * torch.linspace(1, spread, len(s), dtype=torch.float64)) @ v
    return result


def by_svd(x: Tensor) -> Tensor:
    """The quintic applied to each singular value: what newton_schulz computes without a decomposition."""
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    s = s / s.square().sum().sqrt()
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    result: Tensor = (u * s) @ v
    return result


@pytest.mark.parametrize("shape", SHAPES)
def test_newton_schulz_equals_the_quintic_of_singular_values(shape: tuple[int, int]) -> None:
    x = matrix(*shape)
    torch.testing.assert_close(newton_schulz(x), by_svd(x), rtol=0.0, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [(torch.float32, 0.68, 1.14), (torch.bfloat16, 0.66, 1.16), (torch.float16, 0.67, 1.15)]
)
@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_end_near_one(shape: tuple[int, int], dtype: torch.dtype, low: float, high: float) -> None:
    result = newton_schulz(matrix(*shape).to(dtype))
    assert result.dtype == dtype
    values = torch.linalg.svdvals(result.double())
    assert low <= values.min().item() <= values.max().item() <= high


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
@pytest.mark.parametrize("shape", SHAPES)
def test_transposed_input_gives_transposed_output(shape: tuple[int, int], dtype: torch.dtype, tolerance: float) -> None:
    x = matrix(*shape).to(dtype)
    torch.testing.assert_close(newton_schulz(x.mT), newton_schulz(x).mT, rtol=0.0, atol=tolerance)


@given(power=st.integers(-15, 40), seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=20)
def test_scale_does_not_matter(power: int, seed: int) -> None:
    x = matrix(5, 8, seed=seed).float()
    assert torch.equal(newton_schulz(x * 2.0**power), newton_schulz(x))


def test_zero_stays_zero() -> None:
    assert newton_schulz(torch.zeros(3, 4)).count_nonzero() == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_update_equals_its_formula(shape: tuple[int, int]) -> None:
    theta = expected = matrix(*shape, seed=1)
    state, mean = muon_init(theta), torch.zeros(shape, dtype=torch.float64)
    for step in range(5):
        grad = matrix(*shape, seed=step + 2)
        theta, state = muon_update(theta, grad, state, **{**OPTIONS, "ns_dtype": torch.float64})
        mean = 0.95 * mean + 0.05 * grad
        orthogonal = by_svd(0.05 * grad + 0.95 * mean)
        expected = expected * (1 - 1e-2 * 0.1) - 1e-2 * 0.2 * math.sqrt(max(shape)) * orthogonal
    torch.testing.assert_close(theta, expected, rtol=0.0, atol=1e-11)


def test_agrees_with_torch() -> None:
    generator = torch.Generator().manual_seed(3)
    start = torch.randn(24, 40, generator=generator)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    optimizer = Muon([ours], lr=1e-2)  # bfloat16 products, as torch's always are
    oracle = torch.optim.Muon([theirs], lr=1e-2, adjust_lr_fn="match_rms_adamw")
    for _ in range(30):
        grad = torch.randn(24, 40, generator=generator)
        ours.grad, theirs.grad = grad.clone(), grad.clone()
        optimizer.step()
        oracle.step()  # type: ignore[no-untyped-call,unused-ignore]  # not typed in every torch
    buffer = optimizer.state[ours]["momentum_buffer"]
    torch.testing.assert_close(buffer, oracle.state[theirs]["momentum_buffer"])
    moved = (theirs - start).norm().item()
    assert (ours - theirs).norm().item() < 0.01 * moved  # bfloat16 keeps 8 bits


@given(rows=st.integers(2, 60), cols=st.integers(2, 60))
@settings(deadline=None, max_examples=20)
def test_a_step_has_the_size_of_an_adamw_step(rows: int, cols: int) -> None:
    zeros = torch.zeros(rows, cols, dtype=torch.float64)
    options = {**OPTIONS, "lr": 1.0, "weight_decay": 0.0, "ns_dtype": torch.float64}
    theta, _ = muon_update(zeros, matrix(rows, cols), muon_init(zeros), **options)
    # 0.2 times the singular values' range: an orthogonal matrix would give 0.2 exactly.
    assert 0.2 * 0.68 <= theta.square().mean().sqrt().item() <= 0.2 * 1.14


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("ns_dtype", [torch.bfloat16, torch.float32])
def test_writes_no_argument(dtype: torch.dtype, ns_dtype: torch.dtype) -> None:
    param, grad = torch.randn(6, 4).to(dtype), torch.randn(6, 4).to(dtype)
    options = {**OPTIONS, "ns_dtype": ns_dtype}
    _, state = muon_update(param, grad, muon_init(param), **options)
    arguments = [param, grad, state.momentum_buffer]
    before, versions = [a.clone() for a in arguments], [a._version for a in arguments]
    theta, new = muon_update(param, grad, state, **options)
    assert [a._version for a in arguments] == versions
    assert all(map(torch.equal, arguments, before))
    assert theta.dtype == dtype
    assert new.momentum_buffer.dtype == torch.promote_types(dtype, torch.float32)


def test_traces_in_one_graph_for_all_steps() -> None:
    counter = CompileCounter()
    compiled = torch.compile(muon_update, fullgraph=True, backend=counter)
    theta = expected = torch.ones(6, 4)
    state = expected_state = muon_init(theta)
    for step in range(12):
        grad, options = matrix(6, 4, seed=step).float(), {**OPTIONS, "lr": 1e-2 / (step + 1)}
        theta, state = compiled(theta, grad, state, **options)
        expected, expected_state = muon_update(expected, grad, expected_state, **options)
    torch.testing.assert_close(theta, expected)
    assert counter.frame_count <= 2


class TestSplit:
    def model(self) -> torch.nn.Module:
        block = torch.nn.ModuleDict({"q_proj": torch.nn.Linear(4, 4, bias=False), "ln1": torch.nn.LayerNorm(4)})
        parts: dict[str, torch.nn.Module] = {
            "token_embeddings": torch.nn.Embedding(9, 4),
            "layers": torch.nn.ModuleList([block]),
            "lm_head": torch.nn.Linear(4, 9, bias=False),
        }
        return torch.nn.ModuleDict(parts)

    def test_matrices_of_hidden_layers_only(self) -> None:
        named = dict(self.model().named_parameters())
        matrices, others = split(named.items())
        assert [id(p) for p in matrices] == [id(named["layers.0.q_proj.weight"])]
        assert {id(p) for p in matrices} | {id(p) for p in others} == {id(p) for p in named.values()}
        assert len(matrices) + len(others) == len(named)

    def test_a_name_counts_by_its_parts(self) -> None:
        weight = torch.ones(2, 2)
        names = ["lm_head.weight", "model.token_embeddings.weight", "lm_header.weight", "not_lm_head.weight"]
        matrices, others = split((name, weight) for name in names)
        assert (len(matrices), len(others)) == (2, 2)

    def test_refuses_parameters_without_names(self) -> None:
        with pytest.raises(ContractError, match=r"must give \(name, tensor\) pairs, got a Parameter"):
            split(self.model().parameters())  # type: ignore[arg-type]  # what must be refused

    def test_the_wrapper_sends_each_to_its_update(self) -> None:
        matrices, others = split(self.model().named_parameters())
        groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "use_muon": False}]
        optimizer = Muon(groups, lr=1e-2, betas=(0.8, 0.9))
        expected = []
        for param in [*matrices, *others]:
            param.grad = torch.randn(param.shape)
        adamw: dict[str, Any] = {"lr": 1e-2, "betas": (0.8, 0.9), "eps": 1e-8, "weight_decay": 0.1}
        bfloat16 = {**OPTIONS, "ns_dtype": torch.bfloat16}
        for param in matrices:
            assert param.grad is not None
            expected.append(muon_update(param.detach(), param.grad, muon_init(param), **bfloat16)[0])
        for param in others:
            assert param.grad is not None
            expected.append(adamw_update(param.detach(), param.grad, adamw_init(param), **adamw)[0])
        optimizer.step()
        assert all(map(torch.equal, [*matrices, *others], expected))


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("lr", -1.0),
        ("momentum", 1.0),
        ("momentum", -0.1),
        ("weight_decay", -1.0),
        ("ns_dtype", torch.int32),
        ("ns_dtype", "float32"),
    ],
)
def test_refuses_bad_options(argument: str, value: object) -> None:
    param = torch.ones(2, 2)
    options = {**OPTIONS, argument: value}
    with pytest.raises(ContractError, match=f"^muon_update: {argument} must"):
        muon_update(param, param, muon_init(param), **options)
    with pytest.raises(ContractError, match=argument):
        Muon([torch.nn.Parameter(param)], **options)


def test_refuses_bad_tensors() -> None:
    param = torch.ones(2, 2)
    for wrong in (torch.ones(2), torch.ones(2, 2, 2), torch.ones(2, 2, dtype=torch.complex64)):
        with pytest.raises(ContractError, match="matrix must be"):
            newton_schulz(wrong)
        with pytest.raises(ContractError, match="param must be"):
            muon_init(wrong)
    with pytest.raises(ContractError, match="grad must be dense"):
        muon_update(param, param.to_sparse(), muon_init(param), **OPTIONS)
    with pytest.raises(ContractError, match=r"state\.momentum_buffer must be"):
        muon_update(param, param, MuonState(torch.ones(3, 2)), **OPTIONS)
    with pytest.raises(ContractError, match=r"Muon: params .* must be matrices, got one with 1 axes.*use_muon=False"):
        Muon(torch.nn.Linear(2, 2).parameters())
    with pytest.raises(ContractError, match="betas must be"):
        Muon([{"params": [torch.nn.Parameter(torch.ones(2))], "use_muon": False}], betas=(0.9, 1.0))
