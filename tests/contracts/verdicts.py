"""`python -m tests.contracts.verdicts`: what comes of right and of damaged calls of the library's functions, as JSON.

Run once in each mode of CS336_CONTRACTS, the verdicts can be compared: one process holds one mode.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
from torch import Tensor, nn

from cs336_basics.config import ModelConfig
from cs336_basics.contracts import ContractError
from cs336_basics.nn import (
    Embedding,
    Linear,
    MultiHeadSelfAttention,
    RMSNorm,
    RotaryEmbedding,
    SiLUFeedForward,
    SwiGLU,
    TransformerBlock,
    TransformerLM,
)
from cs336_basics.nn.layers import Identity
from cs336_basics.ops.attention import (
    KVCache,
    RopeTables,
    merge_heads,
    multihead_self_attention,
    repeat_kv,
    scaled_dot_product_attention,
    split_heads,
)
from cs336_basics.ops.feed_forward import silu, silu_feed_forward, swiglu
from cs336_basics.ops.linear import embedding, linear
from cs336_basics.ops.loss import cross_entropy
from cs336_basics.ops.norm import rms_norm
from cs336_basics.ops.rope import rope, rope_tables
from cs336_basics.ops.sampling import keep_min_p, keep_top_k, keep_top_p
from cs336_basics.ops.softmax import log_softmax, logsumexp, softmax
from cs336_basics.ops.transformer import pre_norm_block

Call = tuple[Callable[..., Any], list[Any], dict[str, Any]]

_CONFIG: Final = ModelConfig(vocab_size=11, context_length=16, d_model=8, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=12)
_X, _IDS, _POSITIONS = torch.ones(2, 3, 8), torch.ones(2, 3, dtype=torch.long), torch.tensor([[0, 1, 2]])
_CACHE: Final = KVCache(torch.ones(2, 2, 5, 2), torch.ones(2, 2, 5, 2))
_TABLES: Final = RopeTables(*rope_tables(16, 2))
_ROTARY: Final = RotaryEmbedding(2, 16)
_BLOCK: Final = TransformerBlock(_CONFIG, rotary=_ROTARY)


def calls() -> dict[str, Call]:
    """One right call of each function."""
    q, kv, weight = torch.ones(2, 4, 3, 2), torch.ones(2, 2, 3, 2), torch.ones(8, 8)
    mask = torch.ones(3, 3, dtype=torch.bool)
    attend = {"heads": 4, "kv_heads": 2, "tables": _TABLES, "cache": _CACHE, "token_positions": _POSITIONS + 5}
    made: list[tuple[Callable[..., Any], list[Any], dict[str, Any]]] = [
        (silu, [_X], {}),
        (softmax, [_X], {}),
        (log_softmax, [_X], {}),
        (logsumexp, [_X], {}),
        (linear, [_X, torch.ones(5, 8)], {}),
        (embedding, [_IDS, weight], {}),
        (rms_norm, [_X, torch.ones(8)], {}),
        (rope, [kv, *_TABLES, _POSITIONS[0]], {}),
        (swiglu, [_X, torch.ones(12, 8), torch.ones(8, 12), torch.ones(12, 8)], {}),
        (silu_feed_forward, [_X, torch.ones(12, 8), torch.ones(8, 12)], {}),
        (split_heads, [_X], {"heads": 4}),
        (merge_heads, [q], {}),
        (repeat_kv, [kv], {"heads": 4}),
        (scaled_dot_product_attention, [q, q, torch.ones(2, 4, 3, 5), mask], {"is_causal": True}),
        (multihead_self_attention, [_X, weight, weight[:4], weight[:4], weight], attend),
        (pre_norm_block, [_X, _CACHE], {"attention": _BLOCK.attn, "feed_forward": silu, "ln1": silu, "ln2": silu}),
        (cross_entropy, [_X, _IDS], {}),
        (keep_top_k, [_X], {"k": 2}),
        (keep_top_p, [_X], {"p": 0.5}),
        (keep_min_p, [_X], {"min_p": 0.5}),
    ]
    named = {f"{function.__name__}": call for call in made for function in call[:1]}
    return named | {
        "Linear": (Linear(8, 5), [_X], {}),
        "Embedding": (Embedding(11, 8), [_IDS], {}),
        "RMSNorm": (RMSNorm(8), [_X], {}),
        "SwiGLU": (SwiGLU(8, 12), [_X], {}),
        "SiLUFeedForward": (SiLUFeedForward(8, 12), [_X], {}),
        "RotaryEmbedding": (_ROTARY, [kv, _POSITIONS[0]], {}),
        "MultiHeadSelfAttention": (MultiHeadSelfAttention(8, 4, n_kv_heads=2, rotary=_ROTARY), [_X, _CACHE], {}),
        "TransformerBlock": (_BLOCK, [_X, _CACHE], {}),
        "TransformerLM": (TransformerLM(_CONFIG), [_IDS], {}),
        "Identity": (Identity(), [_X], {}),
        "extend": (TransformerLM(_CONFIG).extend, [_IDS, (_CACHE, _CACHE)], {}),
    }


def damaged(value: Any) -> Iterator[tuple[str, Any]]:
    """A value in each of the ways in which it can come wrong."""
    if isinstance(value, Tensor):
        yield "an axis more", value.unsqueeze(0)
        yield "an axis behind", value.unsqueeze(-1)
        yield "an axis less", value[0]
        yield "narrower", value[..., :-1]
        yield "shorter", value[:-1]
        yield "of width one", value[..., :1]
        yield "turned", value.transpose(0, -1)
        yield "of another kind", value.double() if value.dtype == torch.long else value.long()
        yield "of bools", value.bool()
        yield "a scalar", value.sum()
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            for how, wrong in damaged(item):
                parts = [*value[:index], wrong, *value[index + 1 :]]
                yield f"{index} {how}", type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    yield "a list", [value]
    yield "a name", "x"


def verdicts() -> dict[str, str]:
    """By call: accepted, or the class of the error."""
    found = {}
    for name, (function, args, options) in calls().items():
        found[name] = verdict(function, args, options)
        for index, value in enumerate(args):
            for how, wrong in damaged(value):
                found[f"{name}: {index} {how}"] = verdict(function, [*args[:index], wrong, *args[index + 1 :]], options)
        for key, value in options.items():
            for how, wrong in damaged(value):
                found[f"{name}: {key} {how}"] = verdict(function, args, {**options, key: wrong})
        module = getattr(function, "__self__", function)
        if not isinstance(module, nn.Module):
            continue
        for weight, value in list(module.named_parameters()):
            owner, _, attribute = weight.rpartition(".")
            for how, wrong in damaged(value.detach()):
                if isinstance(wrong, Tensor) and wrong.is_floating_point():
                    setattr(module.get_submodule(owner), attribute, nn.Parameter(wrong))
                    found[f"{name}: {weight} {how}"] = verdict(function, args, options)
            setattr(module.get_submodule(owner), attribute, value)
    return found


def verdict(function: Callable[..., Any], args: list[Any], options: dict[str, Any]) -> str:
    try:
        function(*args, **options)
    except ContractError:
        return "ContractError"
    except Exception as error:
        return type(error).__name__
    return "accepted"


if __name__ == "__main__":
    print(json.dumps(verdicts()))  # noqa: T201  # what it is for
