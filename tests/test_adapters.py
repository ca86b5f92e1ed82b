"""The adapters, called as an outside suite would call them, each against an oracle that is not ours."""

import inspect
import io
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests import adapters

SIGNATURES = {
    "run_linear": "d_in, d_out, weights, in_features",
    "run_embedding": "vocab_size, d_model, weights, token_ids",
    "run_swiglu": "d_model, d_ff, w1_weight, w2_weight, w3_weight, in_features",
    "run_scaled_dot_product_attention": "Q, K, V, mask=None",
    "run_multihead_self_attention": "d_model, num_heads, q_proj_weight, k_proj_weight, v_proj_weight, o_proj_weight, "
    "in_features",
    "run_multihead_self_attention_with_rope": "d_model, num_heads, max_seq_len, theta, q_proj_weight, k_proj_weight, "
    "v_proj_weight, o_proj_weight, in_features, token_positions=None",
    "run_rope": "d_k, theta, max_seq_len, in_query_or_key, token_positions",
    "run_transformer_block": "d_model, num_heads, d_ff, max_seq_len, theta, weights, in_features",
    "run_transformer_lm": "vocab_size, context_length, d_model, num_layers, num_heads, d_ff, rope_theta, weights, "
    "in_indices",
    "run_rmsnorm": "d_model, eps, weights, in_features",
    "run_silu": "in_features",
    "run_get_batch": "dataset, batch_size, context_length, device",
    "run_softmax": "in_features, dim",
    "run_cross_entropy": "inputs, targets",
    "run_gradient_clipping": "parameters, max_l2_norm",
    "get_adamw_cls": "",
    "run_get_lr_cosine_schedule": "it, max_learning_rate, min_learning_rate, warmup_iters, cosine_cycle_iters",
    "run_save_checkpoint": "model, optimizer, iteration, out",
    "run_load_checkpoint": "src, model, optimizer",
    "get_tokenizer": "vocab, merges, special_tokens=None",
    "run_train_bpe": "input_path, vocab_size, special_tokens, **kwargs",
}
THETA, CONTEXT = 10_000.0, 16
BATCHES = pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", SIGNATURES)
def test_signature(name: str) -> None:
    parameters = inspect.signature(getattr(adapters, name)).parameters.values()
    assert ", ".join(str(p.replace(annotation=p.empty)) for p in parameters) == SIGNATURES[name]


@BATCHES
def test_linear(batch: tuple[int, ...]) -> None:
    x, w = torch.randn(*batch, 5), torch.randn(7, 5)
    torch.testing.assert_close(adapters.run_linear(5, 7, w, x), F.linear(x, w))


@BATCHES
def test_embedding(batch: tuple[int, ...]) -> None:
    ids, w = torch.randint(11, batch), torch.randn(11, 5)
    torch.testing.assert_close(adapters.run_embedding(11, 5, w, ids), F.embedding(ids, w), rtol=0, atol=0)


@BATCHES
def test_swiglu(batch: tuple[int, ...]) -> None:
    x, w1, w2, w3 = torch.randn(*batch, 6), torch.randn(10, 6), torch.randn(6, 10), torch.randn(10, 6)
    expected = F.linear(F.silu(F.linear(x, w1)) * F.linear(x, w3), w2)
    torch.testing.assert_close(adapters.run_swiglu(6, 10, w1, w2, w3, x), expected, rtol=1e-5, atol=1e-5)


@BATCHES
@pytest.mark.parametrize("masked", [False, True])
def test_scaled_dot_product_attention(batch: tuple[int, ...], masked: bool) -> None:
    q, k, v = torch.randn(*batch, 4, 8), torch.randn(*batch, 6, 8), torch.randn(*batch, 6, 3)
    mask = (torch.rand(*batch, 4, 6) < 0.5).index_fill(-1, torch.tensor([0]), True) if masked else None
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    torch.testing.assert_close(adapters.run_scaled_dot_product_attention(q, k, v, mask), expected, rtol=1e-5, atol=1e-5)


@BATCHES
def test_multihead_self_attention(batch: tuple[int, ...]) -> None:
    x, weights = torch.randn(*batch, 9, 16), _square()
    got = adapters.run_multihead_self_attention(16, 4, *weights, x)
    torch.testing.assert_close(got, _attention(x, *weights, heads=4, positions=None), rtol=1e-5, atol=1e-5)


@BATCHES
@pytest.mark.parametrize("given", ["none", "one row", "per sequence"])
def test_multihead_self_attention_with_rope(batch: tuple[int, ...], given: str) -> None:
    x, weights = torch.randn(*batch, 9, 16), _square()
    positions = {
        "none": torch.arange(9),
        "one row": torch.randint(CONTEXT, (1,) * len(batch) + (9,)),
        "per sequence": torch.randint(CONTEXT, (*batch, 9)),
    }[given]
    token_positions = None if given == "none" else positions
    got = adapters.run_multihead_self_attention_with_rope(16, 4, CONTEXT, THETA, *weights, x, token_positions)
    torch.testing.assert_close(got, _attention(x, *weights, heads=4, positions=positions), rtol=1e-5, atol=1e-5)


@BATCHES
def test_rope(batch: tuple[int, ...]) -> None:
    x, positions = torch.randn(*batch, 9, 8), torch.randint(CONTEXT, (*batch, 9))
    torch.testing.assert_close(adapters.run_rope(8, THETA, CONTEXT, x, positions), _rotate(x, positions))
    torch.testing.assert_close(adapters.run_rope(8, THETA, CONTEXT, x, torch.arange(9)), _rotate(x, torch.arange(9)))


@BATCHES
def test_transformer_block(batch: tuple[int, ...]) -> None:
    weights = _block_weights("")
    x = torch.randn(*batch, 9, 16)
    got = adapters.run_transformer_block(16, 4, 24, CONTEXT, THETA, weights, x)
    torch.testing.assert_close(got, _block(x, weights, ""), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(CONTEXT,), (2, CONTEXT), (2, 5), (2, 3, 5)], ids=str)
def test_transformer_lm(shape: tuple[int, ...]) -> None:
    weights = {
        "token_embeddings.weight": torch.randn(30, 16),
        **_block_weights("layers.0."),
        **_block_weights("layers.1."),
        "ln_final.weight": 1 + 0.1 * torch.randn(16),
        "lm_head.weight": torch.randn(30, 16) / 4,
    }
    ids = torch.randint(30, shape)
    x = F.embedding(ids, weights["token_embeddings.weight"])
    for layer in range(2):
        x = _block(x, weights, f"layers.{layer}.")
    expected = F.linear(F.rms_norm(x, (16,), weights["ln_final.weight"], 1e-5), weights["lm_head.weight"])
    got = adapters.run_transformer_lm(30, CONTEXT, 16, 2, 4, 24, THETA, weights, ids)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@BATCHES
def test_rmsnorm(batch: tuple[int, ...]) -> None:
    x, w = torch.randn(*batch, 8), torch.randn(8)
    torch.testing.assert_close(adapters.run_rmsnorm(8, 1e-5, w, x), F.rms_norm(x, (8,), w, 1e-5))


@BATCHES
def test_silu(batch: tuple[int, ...]) -> None:
    x = 10 * torch.randn(*batch, 8)
    torch.testing.assert_close(adapters.run_silu(x), F.silu(x))


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_softmax(dim: int) -> None:
    x = torch.randn(3, 4, 5)
    torch.testing.assert_close(adapters.run_softmax(x, dim), F.softmax(x, dim))
    torch.testing.assert_close(adapters.run_softmax(x + 100, dim), F.softmax(x, dim), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_cross_entropy(scale: float) -> None:
    logits, targets = scale * torch.randn(8, 5), torch.randint(5, (8,))
    torch.testing.assert_close(adapters.run_cross_entropy(logits, targets), F.cross_entropy(logits, targets))


@pytest.mark.parametrize("max_norm", [0.01, 100.0])
def test_gradient_clipping(max_norm: float) -> None:
    ours = [nn.Parameter(torch.randn(5, 5)) for _ in range(4)]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    ours[-1].requires_grad_(False)
    theirs[-1].requires_grad_(False)
    for parameters in (ours, theirs):
        torch.cat([p.square() for p in parameters]).sum().backward()  # type: ignore[no-untyped-call]  # torch's
    adapters.run_gradient_clipping(ours, max_norm)
    nn.utils.clip_grad_norm_(theirs, max_norm)
    for our, their in zip(ours[:-1], theirs[:-1], strict=True):
        assert our.grad is not None
        torch.testing.assert_close(our.grad, their.grad)
    assert ours[-1].grad is None


def test_adamw() -> None:
    ours, theirs = _trained(adapters.get_adamw_cls()), _trained(torch.optim.AdamW)
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-5, atol=1e-6)


def test_lr_cosine_schedule() -> None:
    got = [adapters.run_get_lr_cosine_schedule(it, 1.0, 0.1, 7, 21) for it in range(25)]
    expected = [it / 7 for it in range(7)]
    expected += [0.1 + 0.45 * (1 + math.cos(math.pi * (it - 7) / 14)) for it in range(7, 22)]
    np.testing.assert_allclose(got, expected + [0.1] * 3, rtol=1e-12)


def test_get_batch() -> None:
    dataset = np.arange(100)
    starts: Counter[int] = Counter()
    for _ in range(300):
        x, y = adapters.run_get_batch(dataset, 32, 7, "cpu")
        assert x.shape == y.shape == (32, 7)
        assert x.dtype == torch.int64
        torch.testing.assert_close(y, x + 1)
        torch.testing.assert_close(x, x[:, :1] + torch.arange(7))
        starts.update(x[:, 0].tolist())
    assert set(starts) == set(range(93))
    mean, deviation = 9600 / 93, math.sqrt(9600 / 93 * (1 - 1 / 93))
    assert all(abs(count - mean) < 5 * deviation for count in starts.values())


def test_get_batch_uses_the_device_asked_for() -> None:
    with pytest.raises((RuntimeError, AssertionError)):
        adapters.run_get_batch(np.arange(100), 2, 7, "cuda:99")


@pytest.mark.parametrize("kind", ["path", "file"])
def test_checkpoint(kind: str, tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    optimizer = adapters.get_adamw_cls()(model.parameters(), lr=0.1)  # type: ignore[call-arg]  # as a suite calls it
    F.mse_loss(model(torch.ones(1, 3)), torch.zeros(1, 2)).backward()  # type: ignore[no-untyped-call]  # torch's
    optimizer.step()
    file = io.BytesIO()
    adapters.run_save_checkpoint(model, optimizer, 7, file if kind == "file" else tmp_path / "a.pt")
    file.seek(0)
    other = nn.Linear(3, 2)
    other_optimizer = adapters.get_adamw_cls()(other.parameters(), lr=0.3)  # type: ignore[call-arg]  # as a suite calls it
    source = file if kind == "file" else tmp_path / "a.pt"
    assert adapters.run_load_checkpoint(source, other, other_optimizer) == 7
    torch.testing.assert_close(other.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert str(other_optimizer.state_dict()) == str(optimizer.state_dict())


def _square() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights for queries, keys, values and output."""
    return torch.randn(16, 16) / 4, torch.randn(16, 16) / 4, torch.randn(16, 16) / 4, torch.randn(16, 16) / 4


def _rotate(x: Tensor, positions: Tensor) -> Tensor:
    """RoPE by multiplication of complex numbers, in double precision."""
    d_k = x.shape[-1]
    frequencies = THETA ** -(torch.arange(0, d_k, 2, dtype=torch.float64) / d_k)
    angles = positions.unsqueeze(-1) * frequencies
    pairs = torch.view_as_complex(x.double().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2).to(x.dtype)


def _attention(x: Tensor, *weights: Tensor, heads: int, positions: Tensor | None) -> Tensor:
    q, k, v = (F.linear(x, w).reshape(*x.shape[:-1], heads, -1).transpose(-3, -2) for w in weights[:3])
    if positions is not None:
        q, k = _rotate(q, positions.unsqueeze(-2)), _rotate(k, positions.unsqueeze(-2))
    attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return F.linear(attended.transpose(-3, -2).flatten(-2), weights[3])


def _block(x: Tensor, weights: dict[str, Tensor], prefix: str) -> Tensor:
    w = {key.removeprefix(prefix).removesuffix(".weight"): value for key, value in weights.items()}
    projections = [w[f"attn.{name}_proj"] for name in ("q", "k", "v", "output")]
    normed = F.rms_norm(x, (16,), w["ln1"], 1e-5)
    h = x + _attention(normed, *projections, heads=4, positions=torch.arange(x.shape[-2]))
    normed = F.rms_norm(h, (16,), w["ln2"], 1e-5)
    return h + F.linear(F.silu(F.linear(normed, w["ffn.w1"])) * F.linear(normed, w["ffn.w3"]), w["ffn.w2"])


def _block_weights(prefix: str) -> dict[str, Tensor]:
    shapes = {f"attn.{name}_proj": (16, 16) for name in ("q", "k", "v", "output")}
    shapes |= {"ffn.w1": (24, 16), "ffn.w2": (16, 24), "ffn.w3": (24, 16)}
    weights = {f"{prefix}{name}.weight": torch.randn(shape) / 4 for name, shape in shapes.items()}
    return weights | {f"{prefix}{name}.weight": 1 + 0.1 * torch.randn(16) for name in ("ln1", "ln2")}


def _trained(cls: type[torch.optim.Optimizer]) -> nn.Linear:
    torch.manual_seed(0)
    model = nn.Linear(3, 2, bias=False)
    optimizer = cls(model.parameters(), lr=1e-2, weight_decay=0.01, betas=(0.9, 0.999), eps=1e-8)  # type: ignore[call-arg]  # as a suite calls it
    for _ in range(200):
        optimizer.zero_grad()
        x = torch.rand(3)
        F.mse_loss(model(x), torch.stack([x[0] + x[1], -x[2]])).backward()  # type: ignore[no-untyped-call]  # torch's
        optimizer.step()
    return model
