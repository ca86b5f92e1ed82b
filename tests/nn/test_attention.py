"""Attention as a module: it is its operation with weights; its rotary tables are a shared, exact, stateless buffer."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cs336_basics.contracts import ContractError
from cs336_basics.nn import MultiHeadSelfAttention, RotaryEmbedding
from cs336_basics.ops.attention import multihead_self_attention, scaled_dot_product_attention
from cs336_basics.ops.rope import rope, rope_tables

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "grouped": {"n_kv_heads": 2},
    "one key head": {"n_kv_heads": 1},
    "qk norm": {"qk_norm": True},
    "fused": {"fuse_qkv": True},
    "everything": {"n_kv_heads": 2, "qk_norm": True, "fuse_qkv": True, "norm_eps": 0.01},
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)
def test_attention_is_its_operation(variant: str, rotary: bool, batch: tuple[int, ...]) -> None:
    options = VARIANTS[variant]
    module = MultiHeadSelfAttention(16, 4, rotary=RotaryEmbedding(4, 12) if rotary else None, **options)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(*batch, 9, 16)
    positions = torch.randint(12, (*batch, 9))
    for token_positions in (None, positions) if rotary else (None,):
        y, cache = module(x, token_positions=token_positions)
        expected, expected_cache = multihead_self_attention(
            x,
            module.q_proj.weight,
            module.k_proj.weight,
            module.v_proj.weight,
            module.output_proj.weight,
            heads=4,
            kv_heads=options.get("n_kv_heads", 4),
            tables=module.rotary.tables if module.rotary else None,
            token_positions=token_positions,
            q_norm=module.q_norm.weight if module.q_norm else None,
            k_norm=module.k_norm.weight if module.k_norm else None,
            norm_eps=options.get("norm_eps", 1e-5),
            fuse_qkv=options.get("fuse_qkv", False),
        )
        assert torch.equal(y, expected)
        assert torch.equal(cache.keys, expected_cache.keys)
        assert torch.equal(cache.values, expected_cache.values)
        assert cache.keys.shape == (*batch, options.get("n_kv_heads", 4), 9, 4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_state_and_cache_hold_what_the_variant_needs(variant: str) -> None:
    options = VARIANTS[variant]
    module = MultiHeadSelfAttention(16, 4, rotary=RotaryEmbedding(4, 12), **options)
    width = 4 * options.get("n_kv_heads", 4)
    expected: dict[str, tuple[int, ...]] = {
        "q_proj.weight": (16, 16),
        "k_proj.weight": (width, 16),
        "v_proj.weight": (width, 16),
        "output_proj.weight": (16, 16),
    }
    if options.get("qk_norm"):
        expected |= {"q_norm.weight": (4,), "k_norm.weight": (4,)}
    assert {name: tuple(value.shape) for name, value in module.state_dict().items()} == expected


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_token_at_a_time_gives_the_whole(variant: str) -> None:
    module = MultiHeadSelfAttention(16, 4, rotary=RotaryEmbedding(4, 12), **VARIANTS[variant]).double()
    x = torch.randn(2, 9, 16, dtype=torch.float64)
    whole, whole_cache = module(x)
    cache, parts = None, []
    for t in range(9):
        y, cache = module(x[:, t : t + 1], cache)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(cache, whole_cache, rtol=1e-12, atol=1e-12)


def test_a_cache_is_a_value() -> None:
    module = MultiHeadSelfAttention(16, 4)
    x = torch.randn(2, 5, 16)
    _, cache = module(x)
    before = [part.clone() for part in cache]
    module(x, cache)
    assert all(torch.equal(part, copied) for part, copied in zip(cache, before, strict=True))


def test_calls_the_attention_function_it_was_given() -> None:
    calls: list[tuple[tuple[int, ...], bool]] = []

    def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, is_causal: bool = False) -> Tensor:
        calls.append((tuple(k.shape), is_causal))
        return scaled_dot_product_attention(q, k, v, mask, is_causal=is_causal)

    module = MultiHeadSelfAttention(16, 4, n_kv_heads=2, attention_fn=attention)
    plain = MultiHeadSelfAttention(16, 4, n_kv_heads=2)
    plain.load_state_dict(module.state_dict())
    x = torch.randn(2, 9, 16)
    assert torch.equal(module(x)[0], plain(x)[0])
    assert calls == [((2, 4, 9, 4), True)]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((16, 3), {}, "n_heads must divide d_model = 16, got 3"),
        ((16, 0), {}, "n_heads must divide d_model = 16, got 0"),
        ((16, 4), {"n_kv_heads": 3}, "n_kv_heads must divide n_heads = 4, got 3"),
        ((16, 4), {"n_kv_heads": 0}, "n_kv_heads must divide n_heads = 4, got 0"),
    ],
)
def test_refuses_heads_that_do_not_divide(arguments: tuple[int, int], options: dict[str, int], message: str) -> None:
    with pytest.raises(ContractError, match=f"^MultiHeadSelfAttention: {message}$"):
        MultiHeadSelfAttention(*arguments, **options)  # type: ignore[arg-type]  # ** of one type


def test_refuses_input_that_does_not_fit() -> None:
    module = MultiHeadSelfAttention(16, 4, rotary=RotaryEmbedding(4, 12))
    with pytest.raises(ContractError, match=r"(forward|attention): x must be Float\[Tensor, '\*batch seq d_model'\]"):
        module(torch.ones(16))
    with pytest.raises(ContractError, match=r"q_weight must be .* where .*d_model=15"):
        module(torch.ones(2, 3, 15))
    with pytest.raises(ContractError, match="x must end within the 12 positions of the tables, got 13"):
        module(torch.ones(2, 13, 16))
    with pytest.raises(ContractError, match=r"token_positions must be in \[0, 12\)"):
        module(torch.ones(2, 3, 16), token_positions=torch.tensor([0, 1, 12]))
    with pytest.raises(ContractError, match="token_positions must be Int"):
        module(torch.ones(2, 3, 16), token_positions=torch.arange(4))
    with pytest.raises(ContractError, match="tables must be 4 / 2 wide, got 3"):
        MultiHeadSelfAttention(16, 4, rotary=RotaryEmbedding(6, 12))(torch.ones(2, 3, 16))


def test_rotary_is_its_operation() -> None:
    rotary, x = RotaryEmbedding(8, 20, theta=500.0), torch.randn(2, 9, 8)
    positions = torch.randint(20, (2, 9))
    assert torch.equal(rotary(x, positions), rope(x, *rope_tables(20, 8, theta=500.0), positions))


def test_rotary_tables_are_no_state() -> None:
    rotary = RotaryEmbedding(8, 20)
    assert not rotary.state_dict()
    assert not list(rotary.parameters())
    assert {name for name, _ in rotary.named_buffers()} == {"cos", "sin"}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_rotary_tables_have_the_dtype_of_the_model_or_float32(dtype: torch.dtype) -> None:
    wide = torch.promote_types(dtype, torch.float32)
    built = RotaryEmbedding(64, 5000, dtype=dtype)
    moved = RotaryEmbedding(64, 5000).to(dtype)
    back = RotaryEmbedding(64, 5000).to(torch.bfloat16).to(dtype)
    for rotary in (built, moved, back):
        for table, exact in zip(rotary.tables, _exact(64, 5000, 10_000.0), strict=True):
            assert table.dtype == wide
            assert torch.equal(table, exact.to(wide)), "the nearest number of the dtype to the exact one"


def test_rotary_tables_follow_the_default_dtype() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert RotaryEmbedding(8, 20).cos.dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_rotary_tables_come_back_from_meta() -> None:
    rotary = RotaryEmbedding(8, 20, device="meta")
    assert rotary.cos.is_meta
    rotary.to_empty(device="cpu")
    assert all(torch.equal(a, b) for a, b in zip(rotary.tables, RotaryEmbedding(8, 20).tables, strict=True))


def test_rotary_copies_and_pickles() -> None:
    rotary = RotaryEmbedding(8, 20, theta=500.0)
    for twin in (copy.deepcopy(rotary), pickle.loads(pickle.dumps(rotary))):  # noqa: S301  # our own bytes
        assert all(torch.equal(a, b) for a, b in zip(twin.tables, rotary.tables, strict=True))
        assert repr(twin) == "RotaryEmbedding(d_k=8, max_seq_len=20, theta=500.0)"


def _exact(d_k: int, positions: int, theta: float) -> tuple[Tensor, Tensor]:
    frequencies = theta ** -(torch.arange(0, d_k, 2, dtype=torch.float64) / d_k)
    angles = torch.arange(positions, dtype=torch.float64).unsqueeze(-1) * frequencies
    return angles.cos(), angles.sin()
