"""The Transformer language model."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from cs336_basics.config import ModelConfig
from cs336_basics.contracts import contract
from cs336_basics.nn.attention import RotaryEmbedding
from cs336_basics.nn.block import TransformerBlock
from cs336_basics.nn.layers import Embedding, Identity, Linear, RMSNorm, linear_std
from cs336_basics.ops.attention import AttentionFn, GrownKVCache, KVCache, scaled_dot_product_attention
from cs336_basics.ops.linear import linear
from cs336_basics.ops.transformer import transformer_lm

ModelCache = tuple[KVCache, ...]


class TransformerLM(nn.Module):
    """A decoder-only language model; `ops.transformer.transformer_lm` with the weights of `config`.

    Its state holds `token_embeddings.weight`, `layers.N.attn.{q,k,v,output}_proj.weight`,
    `layers.N.{ln1,ln2}.weight`, `layers.N.ffn.{w1,w2,w3}.weight`, `ln_final.weight` and `lm_head.weight`;
    a part that the config leaves out has no key (a final norm stands only after pre-norm blocks).
    """

    def __init__(
        self,
        config: ModelConfig,
        *,
        attention_fn: AttentionFn = scaled_dot_product_attention,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        width = config.d_model
        tied = config.tie_embeddings
        # A tied table is also the head: at variance 1 its first logits would be sqrt(d_model) wide.
        std = linear_std(width, config.vocab_size) if tied else 1.0
        self.token_embeddings = Embedding(
            config.vocab_size, width, std=std, device=device, dtype=dtype, generator=generator
        )
        rotary = None
        if config.position == "rope":
            rotary = RotaryEmbedding(
                config.d_head, config.context_length, theta=config.rope_theta, device=device, dtype=dtype
            )
        self.layers = nn.ModuleList(
            TransformerBlock(
                config, rotary=rotary, attention_fn=attention_fn, device=device, dtype=dtype, generator=generator
            )
            for _ in range(config.n_layers)
        )
        pre = config.norm == "pre"
        self.ln_final = RMSNorm(width, eps=config.norm_eps, device=device, dtype=dtype) if pre else Identity()
        self.lm_head = (
            None if tied else Linear(width, config.vocab_size, device=device, dtype=dtype, generator=generator)
        )

    @contract(held_by="callee")
    def forward(self, ids: Int[Tensor, "*batch seq"]) -> Float[Tensor, "*batch seq vocab"]:
        """Logits of the next token after each position."""
        return self.extend(ids)[0]

    @contract(held_by="callee")
    def extend(
        self, ids: Int[Tensor, "*batch seq"], cache: ModelCache | None = None
    ) -> tuple[Float[Tensor, "*batch seq vocab"], tuple[GrownKVCache, ...]]:
        """Logits for ids that follow what the cache holds, and the cache grown by them.

        Raises: ContractError where both together are longer than the context.
        """
        return self._with_head(self.lm_head or (lambda x: linear(x, self.head_weight)), ids, cache)

    @contract(held_by="callee")
    def hidden(self, ids: Int[Tensor, "*batch seq"]) -> Float[Tensor, "*batch seq d_model"]:
        """What the head makes logits of; with `head_weight`, for a loss that need not hold them all."""
        return self._with_head(lambda x: x, ids, None)[0]

    @property
    def head_weight(self) -> nn.Parameter:
        """The weight of the head (vocab, d_model): its own, or the token embedding where they are tied."""
        return (self.lm_head or self.token_embeddings).weight

    def _with_head(
        self, head: Callable[[Tensor], Tensor], ids: Tensor, cache: ModelCache | None
    ) -> tuple[Tensor, tuple[GrownKVCache, ...]]:
        return transformer_lm(
            ids,
            cache,
            embed=self.token_embeddings,
            blocks=list(self.layers),
            final_norm=self.ln_final,
            head=head,
            context_length=self.config.context_length,
        )
