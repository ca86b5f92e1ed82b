"""The language model: its state, its first weights, and its logits against a reference in double precision."""

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cs336_basics.config import ModelConfig
from cs336_basics.nn import TransformerLM
from cs336_basics.ops.attention import scaled_dot_product_attention

VOCAB, CONTEXT, WIDTH, HEADS, LAYERS = 30, 12, 16, 4, 2

ABLATIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "post-norm": {"norm": "post"},
    "no norm": {"norm": "none"},
    "no position": {"position": "none"},
    "silu": {"ffn": "silu"},
    "grouped": {"n_kv_heads": 2},
    "one key head": {"n_kv_heads": 1},
    "qk norm": {"qk_norm": True},
    "fused": {"fuse_qkv": True},
    "tied": {"tie_embeddings": True},
    "another base and eps": {"rope_theta": 100.0, "norm_eps": 0.1},
    "everything": {
        "norm": "post",
        "ffn": "silu",
        "n_kv_heads": 2,
        "qk_norm": True,
        "fuse_qkv": True,
        "tie_embeddings": True,
    },
}
EVERY = pytest.mark.parametrize("ablation", ABLATIONS)


@EVERY
def test_state_has_exactly_the_documented_keys_and_shapes(ablation: str) -> None:
    config = _config(ablation)
    state = TransformerLM(config, device="meta").state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == _shapes(config)


@EVERY
def test_state_loads_strictly_into_another_model(ablation: str) -> None:
    model, other = _model(ablation, seed=1), _model(ablation, seed=2)
    ids = _ids(2, 9)
    assert not torch.equal(model(ids), other(ids))
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(ids), other(ids))
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({})


@EVERY
@pytest.mark.parametrize("shape", [(CONTEXT,), (3, 7), (2, 2, 5), (2, 1)], ids=str)
def test_logits_are_those_of_the_reference(ablation: str, shape: tuple[int, ...]) -> None:
    model = _model(ablation)
    expected = _reference(model.config, model.state_dict(), _ids(*shape))
    single = model(_ids(*shape))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.double()(_ids(*shape)), expected, rtol=1e-11, atol=1e-11)


@EVERY
def test_built_in_double_precision_is_the_reference_too(ablation: str) -> None:
    model = TransformerLM(_config(ablation), dtype=torch.float64)
    expected = _reference(model.config, model.state_dict(), _ids(2, 9))
    torch.testing.assert_close(model(_ids(2, 9)), expected, rtol=1e-11, atol=1e-11)


@EVERY
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.06), (torch.float16, 0.01)])
def test_half_precision_stays_near_the_reference(ablation: str, dtype: torch.dtype, tolerance: float) -> None:
    model = _model(ablation).to(dtype)
    logits = model(_ids(2, 9))
    assert logits.dtype == dtype
    expected = _reference(model.config, model.state_dict(), _ids(2, 9))
    error = (logits.double() - expected).abs().max() / expected.abs().max()
    assert error < tolerance


@EVERY
@pytest.mark.parametrize("shape", [(9,), (2, CONTEXT)])
def test_the_head_makes_the_logits_of_the_hidden_states(ablation: str, shape: tuple[int, ...]) -> None:
    model, ids = _model(ablation), _ids(*shape)
    hidden = model.hidden(ids)
    assert hidden.shape == (*shape, WIDTH)
    assert torch.equal(hidden @ model.head_weight.mT, model(ids))
    names = [name for name, param in model.named_parameters() if param is model.head_weight]
    assert names == ["token_embeddings.weight" if model.config.tie_embeddings else "lm_head.weight"]


@EVERY
def test_every_parameter_learns(ablation: str) -> None:
    model = _model(ablation)
    ids = _ids(2, 9)
    logits = model(ids[:, :-1])
    (logits.logsumexp(-1) - logits.gather(-1, ids[:, 1:, None]).squeeze(-1)).mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@settings(max_examples=30, deadline=None)
@given(ablation=st.sampled_from(list(ABLATIONS)), length=st.integers(1, CONTEXT), cuts=st.sets(st.integers(1, CONTEXT)))
def test_extending_a_cache_by_any_pieces_gives_the_whole(ablation: str, length: int, cuts: set[int]) -> None:
    model = _model(ablation).double()
    edges = sorted({0, length} | {cut for cut in cuts if cut < length})
    ids = _ids(2, length)
    cache, parts = None, []
    for start, end in pairwise(edges):
        logits, cache = model.extend(ids[:, start:end], cache)
        parts.append(logits)
    assert cache is not None
    assert [layer.length for layer in cache] == [length] * LAYERS
    torch.testing.assert_close(torch.cat(parts, dim=1), model(ids), rtol=1e-11, atol=1e-11)


@EVERY
def test_no_future_token_changes_a_logit(ablation: str) -> None:
    model = _model(ablation)
    ids = _ids(2, 9)
    changed = ids.clone()
    changed[:, 5:] = (ids[:, 5:] + 1) % VOCAB
    assert torch.equal(model(ids)[:, :5], model(changed)[:, :5])
    assert not torch.equal(model(ids)[:, 5:], model(changed)[:, 5:])


def test_without_positions_the_order_of_the_past_is_unseen() -> None:
    ids = _ids(1, 9)
    shuffled = torch.cat((ids[:, :8].flip(-1), ids[:, 8:]), dim=1)
    # One layer: in the second, what the past tokens saw of each other differs.
    for position, same in (("none", True), ("rope", False)):
        model = TransformerLM(_config(position=position, n_layers=1)).double()
        assert torch.allclose(model(ids)[:, -1], model(shuffled)[:, -1], rtol=1e-10, atol=1e-10) == same


def test_first_weights_are_those_stated() -> None:
    model = TransformerLM(_config(vocab_size=4000, d_model=64, d_ff=128), generator=_generator(0))
    stds = {"token_embeddings": 1.0, "lm_head": math.sqrt(2 / 4064), "_proj": math.sqrt(2 / 128)}
    stds["ffn"] = math.sqrt(2 / 192)
    for name, value in model.state_dict().items():
        if ".ln" in f".{name}":
            assert torch.equal(value, torch.ones(64)), name
            continue
        std = next(std for part, std in stds.items() if part in name)
        # The cut takes 1.3 % of the deviation; four standard errors of the 4,096 draws of a projection are 4.4 %.
        assert float(value.std()) / std == pytest.approx(0.987, rel=0.045), name
        assert value.abs().max() <= 3 * std * (1 + 1e-6), name


def test_a_tied_head_starts_as_a_linear_map() -> None:
    model = TransformerLM(_config(vocab_size=4000, d_model=64, tie_embeddings=True))
    assert float(model.token_embeddings.weight.detach().std()) == pytest.approx(0.987 * math.sqrt(2 / 4064), rel=0.02)
    assert model.lm_head is None


@EVERY
def test_the_generator_decides_the_weights(ablation: str) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, again, other = (_model(ablation, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before), "the global generator must stay as it was"
    for name, value in first.items():
        assert torch.equal(value, again[name])
        assert torch.equal(value, other[name]) == (value.ndim == 1)


def test_fusing_and_swapping_change_neither_keys_nor_logits() -> None:
    model = _model("default").double()
    calls = 0

    def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, is_causal: bool = False) -> Tensor:
        nonlocal calls
        calls += 1
        return scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal)

    for config, options in ((_config("fused"), {}), (_config("default"), {"attention_fn": attention})):
        other = TransformerLM(config, **options).double()  # type: ignore[arg-type]  # ** of one type
        assert list(other.state_dict()) == list(model.state_dict())
        other.load_state_dict(model.state_dict())
        torch.testing.assert_close(other(_ids(2, 9)), model(_ids(2, 9)), rtol=1e-12, atol=1e-12)
    assert calls == LAYERS


def _config(ablation: str = "default", **options: Any) -> ModelConfig:
    sizes = {"vocab_size": VOCAB, "context_length": CONTEXT, "d_model": WIDTH, "n_heads": HEADS, "n_layers": LAYERS}
    return ModelConfig(**{**sizes, "d_ff": 24, **ABLATIONS[ablation], **options})


def _model(ablation: str, *, seed: int = 0) -> TransformerLM:
    return TransformerLM(_config(ablation), generator=_generator(seed))


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _ids(*shape: int) -> Tensor:
    return torch.randint(VOCAB, shape, generator=_generator(7))


def _shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    width, kv_width, d_head = config.d_model, config.kv_heads * config.d_head, config.d_head
    shapes: dict[str, tuple[int, ...]] = {"token_embeddings.weight": (config.vocab_size, width)}
    for layer in range(config.n_layers):
        block: dict[str, tuple[int, ...]] = {
            "attn.q_proj": (width, width),
            "attn.k_proj": (kv_width, width),
            "attn.v_proj": (kv_width, width),
            "attn.output_proj": (width, width),
            "ffn.w1": (config.ffn_width, width),
            "ffn.w2": (width, config.ffn_width),
        }
        if config.ffn == "swiglu":
            block["ffn.w3"] = (config.ffn_width, width)
        if config.qk_norm:
            block |= {"attn.q_norm": (d_head,), "attn.k_norm": (d_head,)}
        if config.norm != "none":
            block |= {"ln1": (width,), "ln2": (width,)}
        shapes |= {f"layers.{layer}.{name}.weight": shape for name, shape in block.items()}
    if config.norm == "pre":
        shapes["ln_final.weight"] = (width,)
    if not config.tie_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, width)
    return shapes


def _reference(config: ModelConfig, state: dict[str, Tensor], ids: Tensor) -> Tensor:
    """The model again, one query at a time, in double precision, from torch's plain operations alone."""
    w = {key.removesuffix(".weight"): value.double() for key, value in state.items()}

    def norm(x: Tensor, name: str) -> Tensor:
        return x / ((x * x).mean(-1, keepdim=True) + config.norm_eps) ** 0.5 * w[name] if name in w else x

    def turn(x: Tensor) -> Tensor:
        if config.position == "none":
            return x
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
        exponents = torch.arange(pairs.shape[-1]) * 2 / config.d_head
        angles = torch.outer(torch.arange(x.shape[-2]).double(), config.rope_theta ** -exponents.double())
        return torch.view_as_real(pairs * torch.exp(1j * angles)).flatten(-2)

    def attention(x: Tensor, name: str) -> Tensor:
        heads = []
        for head in range(config.n_heads):
            group = head * config.kv_heads // config.n_heads
            rows = {"q": head, "k": group, "v": group}
            q, k, v = (
                x @ w[f"{name}.{part}_proj"][row * config.d_head : (row + 1) * config.d_head].T
                for part, row in rows.items()
            )
            q, k = turn(norm(q, f"{name}.q_norm")), turn(norm(k, f"{name}.k_norm"))
            outputs = []
            for t in range(x.shape[-2]):
                scores = (k[..., : t + 1, :] * q[..., t : t + 1, :]).sum(-1) / math.sqrt(config.d_head)
                weights = torch.exp(scores) / torch.exp(scores).sum(-1, keepdim=True)
                outputs.append((weights[..., None] * v[..., : t + 1, :]).sum(-2))
            heads.append(torch.stack(outputs, dim=-2))
        return torch.cat(heads, dim=-1) @ w[f"{name}.output_proj"].T

    def feed_forward(x: Tensor, name: str) -> Tensor:
        hidden = x @ w[f"{name}.w1"].T
        hidden = hidden / (1 + torch.exp(-hidden))
        gate = x @ w[f"{name}.w3"].T if config.ffn == "swiglu" else 1.0
        return (hidden * gate) @ w[f"{name}.w2"].T

    x = w["token_embeddings"][ids]
    for layer in range(config.n_layers):
        for part, function in ((f"layers.{layer}.attn", attention), (f"layers.{layer}.ffn", feed_forward)):
            ln = f"layers.{layer}.{'ln1' if function is attention else 'ln2'}"
            x = norm(x + function(x, part), ln) if config.norm == "post" else x + function(norm(x, ln), part)
    head = w["token_embeddings"] if config.tie_embeddings else w["lm_head"]
    return norm(x, "ln_final") @ head.T
