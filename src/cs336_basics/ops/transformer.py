"""How the parts stand together: the block, in its two arrangements, and the language model.

The parts come as functions, so that weights stay with whoever owns them.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor

from cs336_basics.contracts import contract, require
from cs336_basics.ops.attention import GrownKVCache, KVCache

Map = Callable[[Tensor], Tensor]
Cached = Callable[[Tensor, KVCache | None], tuple[Tensor, KVCache]]


class BlockFn(Protocol):
    """An arrangement of two sublayers and two norms around the residual stream."""

    def __call__(
        self, x: Tensor, cache: KVCache | None, *, attention: Cached, feed_forward: Map, ln1: Map, ln2: Map
    ) -> tuple[Tensor, KVCache]: ...


@contract
def pre_norm_block(
    x: Float[Tensor, "*batch seq d_model"],
    cache: KVCache | None,
    *,
    attention: Cached,
    feed_forward: Map,
    ln1: Map,
    ln2: Map,
) -> tuple[Float[Tensor, "*batch seq d_model"], GrownKVCache]:
    """h = x + attention(ln1(x)); y = h + feed_forward(ln2(h)).

    Shapes: x (*batch, seq, d_model) -> the same, and the cache grown by seq positions.
    Raises: ContractError on shape or dtype, also of what a sublayer returns.
    Source: Xiong et al. 2020, arXiv:2002.04745. With the identity for both norms: no norm at all.
    """
    attended, cache = attention(ln1(x), cache)
    h = x + attended
    return h + feed_forward(ln2(h)), cache


@contract
def post_norm_block(
    x: Float[Tensor, "*batch seq d_model"],
    cache: KVCache | None,
    *,
    attention: Cached,
    feed_forward: Map,
    ln1: Map,
    ln2: Map,
) -> tuple[Float[Tensor, "*batch seq d_model"], GrownKVCache]:
    """h = ln1(x + attention(x)); y = ln2(h + feed_forward(h)).

    Shapes: x (*batch, seq, d_model) -> the same, and the cache grown by seq positions.
    Raises: ContractError on shape or dtype, also of what a sublayer returns.
    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.1.
    """
    attended, cache = attention(x, cache)
    h = ln1(x + attended)
    return ln2(h + feed_forward(h)), cache


@contract
def transformer_lm(
    ids: Int[Tensor, "*batch seq"],
    cache: tuple[KVCache, ...] | None,
    *,
    embed: Map,
    blocks: Sequence[Cached],
    final_norm: Map,
    head: Map,
    context_length: int | None = None,
) -> tuple[Float[Tensor, "*batch seq vocab"], tuple[GrownKVCache, ...]]:
    """logits = head(final_norm(block_N(... block_1(embed(ids))))): for each position, scores of the next token.

    Shapes: ids (*batch, seq) -> logits (*batch, seq, vocab), and each block's cache grown by seq positions.
    Raises: ContractError on shape or dtype, where the cache was made by another number of blocks, or where what it
        holds and ids together are longer than context_length.
    Source: Radford et al. 2019 (GPT-2); Touvron et al. 2023, arXiv:2302.13971.
    """
    caches = (None,) * len(blocks) if cache is None else cache
    require(len(caches) == len(blocks), "transformer_lm: cache must have {} layers, got {}", len(blocks), len(caches))
    if context_length is not None:
        end = ids.shape[-1] + (cache[0].length if cache else 0)
        message = "transformer_lm: ids must end within context_length = {}, got {}"
        require(end <= context_length, message, context_length, end)
    x = embed(ids)
    grown = []
    for block, layer_cache in zip(blocks, caches, strict=True):
        x, layer_cache = block(x, layer_cache)
        grown.append(layer_cache)
    return head(final_norm(x)), tuple(grown)
