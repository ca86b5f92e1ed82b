"""The block: each field of the config becomes the parts and the arrangement it names."""

from typing import Any

import pytest
import torch
from torch import Tensor

from cs336_basics.config import ModelConfig
from cs336_basics.contracts import ContractError
from cs336_basics.nn import RMSNorm, RotaryEmbedding, SiLUFeedForward, SwiGLU, TransformerBlock
from cs336_basics.nn.layers import Identity
from cs336_basics.ops.attention import scaled_dot_product_attention

ATTENTION = {f"attn.{name}_proj.weight" for name in ("q", "k", "v", "output")}
NORMS = {"ln1.weight", "ln2.weight"}
FFN = {"ffn.w1.weight", "ffn.w2.weight", "ffn.w3.weight"}

KEYS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "default": ({}, ATTENTION | NORMS | FFN),
    "post-norm": ({"norm": "post"}, ATTENTION | NORMS | FFN),
    "no norm": ({"norm": "none"}, ATTENTION | FFN),
    "silu": ({"ffn": "silu"}, ATTENTION | NORMS | FFN - {"ffn.w3.weight"}),
    "no position": ({"position": "none"}, ATTENTION | NORMS | FFN),
    "grouped": ({"n_kv_heads": 2}, ATTENTION | NORMS | FFN),
    "fused": ({"fuse_qkv": True}, ATTENTION | NORMS | FFN),
    "qk norm": ({"qk_norm": True}, ATTENTION | NORMS | FFN | {"attn.q_norm.weight", "attn.k_norm.weight"}),
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("case", KEYS)
def test_keys(case: str) -> None:
    options, keys = KEYS[case]
    assert set(TransformerBlock(_config(**options)).state_dict()) == keys


@pytest.mark.parametrize("case", KEYS)
def test_runs_forward_and_backward(case: str) -> None:
    block = TransformerBlock(_config(**KEYS[case][0]), rotary=RotaryEmbedding(4, 12))
    x = torch.randn(2, 9, 16, requires_grad=True)
    y, cache = block(x)
    assert y.shape == x.shape
    assert cache.length == 9
    y.square().sum().backward()
    for name, tensor in [*block.named_parameters(), ("x", x)]:
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name
        assert tensor.grad.abs().max() > 0, name


def test_arrangements() -> None:
    x = torch.randn(2, 9, 16)
    for norm in ("pre", "post", "none"):
        block = TransformerBlock(_config(norm=norm))
        attention, ffn, ln1, ln2 = (_part(getattr(block, name)) for name in ("attn", "ffn", "ln1", "ln2"))
        if norm == "pre":
            h = x + attention(ln1(x))
            expected = h + ffn(ln2(h))
        elif norm == "post":
            h = ln1(x + attention(x))
            expected = ln2(h + ffn(h))
        else:
            h = x + attention(x)
            expected = h + ffn(h)
        torch.testing.assert_close(block(x)[0], expected, rtol=0, atol=0)


def test_parts_are_those_of_the_config() -> None:
    rotary = RotaryEmbedding(4, 12)
    block = TransformerBlock(
        _config(n_kv_heads=2, norm_eps=0.5, fuse_qkv=True, qk_norm=True, d_ff=40),
        rotary=rotary,
        attention_fn=scaled_dot_product_attention,
    )
    assert isinstance(block.ffn, SwiGLU)
    assert block.ffn.w1.weight.shape == (40, 16)
    assert block.attn.rotary is rotary
    assert (block.attn.n_kv_heads, block.attn.fuse_qkv, block.attn.norm_eps) == (2, True, 0.5)
    norms = [block.ln1, block.ln2, block.attn.q_norm, block.attn.k_norm]
    assert [norm.eps for norm in norms if isinstance(norm, RMSNorm)] == [0.5] * 4
    other = TransformerBlock(_config(norm="none", ffn="silu", d_ff=None))
    assert isinstance(other.ffn, SiLUFeedForward)
    assert other.ffn.w1.weight.shape == (64, 16)
    assert isinstance(other.ln1, Identity)
    assert isinstance(other.ln2, Identity)
    assert other.attn.rotary is None


def test_refuses_input_that_does_not_fit() -> None:
    block = TransformerBlock(_config())
    with pytest.raises(ContractError, match=r"(TransformerBlock.forward|pre_norm_block): x must be Float\[Tensor"):
        block(torch.ones(2, 3, 16).long())
    with pytest.raises(ContractError, match="rms_norm: weight must be"):
        block(torch.ones(2, 3, 15))


def _config(**options: Any) -> ModelConfig:
    return ModelConfig(**{"d_model": 16, "n_heads": 4, "d_ff": 24, "context_length": 12} | options)


def _part(module: Any) -> Any:
    def call(x: Tensor) -> Tensor:
        result = module(x)
        tensor: Tensor = result[0] if isinstance(result, tuple) else result
        return tensor

    return call
