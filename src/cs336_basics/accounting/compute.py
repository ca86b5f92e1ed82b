"""Parameters and FLOPs of a model."""

from dataclasses import astuple, dataclass

from cs336_basics.accounting._sizes import kv_width, norm_count, tokens_of
from cs336_basics.config import ModelConfig
from cs336_basics.contracts import require


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Numbers in a model's weights, by part; a tied table counts once, as token_embeddings."""

    token_embeddings: int
    attention: int  # query, key, value and output projections
    feed_forward: int
    norms: int  # all RMSNorm weights, those of queries and keys included
    lm_head: int

    @property
    def total(self) -> int:
        return self.embedding + self.non_embedding

    @property
    def embedding(self) -> int:
        """The vocabulary tables, in and out."""
        return self.token_embeddings + self.lm_head

    @property
    def non_embedding(self) -> int:
        """N of the scaling laws (Kaplan et al. 2020, arXiv:2001.08361): tying the tables does not change it."""
        return self.attention + self.feed_forward + self.norms


def parameters(config: ModelConfig) -> Parameters:
    """L · (2·D² + 2·D·D_kv + 3·D·F) + 2·V·D and the norms: L layers of width D, D_kv = kv_heads · d_head, F = d_ff,
    V = vocab_size; without the gate (`ffn="silu"`) 2·D·F, with tied tables V·D.

    >>> from cs336_basics.accounting import GPT2_SIZES
    >>> parameters(GPT2_SIZES["xl"]).total
    2127057600
    """
    layers, width, table = config.n_layers, config.d_model, config.vocab_size * config.d_model
    matrices = 3 if config.ffn == "swiglu" else 2
    return Parameters(
        token_embeddings=table,
        attention=layers * 2 * width * (width + kv_width(config)),
        feed_forward=layers * matrices * width * config.ffn_width,
        norms=norm_count(config) * width + (layers * 2 * config.d_head if config.qk_norm else 0),
        lm_head=0 if config.tie_embeddings else table,
    )


@dataclass(frozen=True, kw_only=True)
class Flops:
    """Floating-point operations of a batch's matrix products, by part of the forward pass."""

    attention_projections_flops: int  # queries, keys, values, output
    attention_scores_flops: int  # q kᵀ
    attention_values_flops: int  # probabilities times v
    feed_forward_flops: int
    head_flops: int

    @property
    def forward_flops(self) -> int:
        return sum(astuple(self))

    @property
    def backward_flops(self) -> int:
        """Twice the forward pass: for each product y = a b, the backward pass computes dy bᵀ and aᵀ dy.

        The first layer is no exception: the gradient of its input is what the embeddings learn from. (A look-up
        takes no FLOPs either way. With frozen embeddings and nothing else to learn below the first projections,
        their dy bᵀ falls away.)
        """
        return 2 * self.forward_flops

    @property
    def total_flops(self) -> int:
        return self.forward_flops + self.backward_flops


def flops(config: ModelConfig, *, batch_size: int = 1, seq_len: int | None = None) -> Flops:
    """2·m·n·k for every product of an (m, k) and a (k, n) matrix in the model.

    Scores count for all pairs of positions, since masked ones are computed too. What is no matrix product does not
    count: embedding rows, norms, rotations, softmax, SiLU, the loss, the optimizer.

    Units:  FLOPs, a multiply and an add being two. seq_len in tokens, by default the context.
    Raises: ContractError if batch_size < 1 or seq_len is outside [1, context_length].
    Source: the products that Chowdhery et al. 2022, arXiv:2204.02311, appendix B, count for MFU.

    >>> from cs336_basics.accounting import GPT2_SIZES
    >>> flops(GPT2_SIZES["xl"]).forward_flops
    4513336524800
    """
    tokens, seq_len = tokens_of("flops", config, batch_size, seq_len)
    weights = parameters(config)
    pairs = 2 * config.n_layers * tokens * seq_len * config.d_model
    return Flops(
        attention_projections_flops=2 * tokens * weights.attention,
        attention_scores_flops=pairs,
        attention_values_flops=pairs,
        feed_forward_flops=2 * tokens * weights.feed_forward,
        head_flops=2 * tokens * config.vocab_size * config.d_model,
    )


def mfu(tokens_per_s: float, flops_per_token: float, peak_flops: float) -> float:
    """Model FLOPs utilisation: tokens_per_s · flops_per_token / peak_flops.

    Units:  flops_per_token is `Flops.total_flops` over the tokens of its batch; peak_flops in FLOP/s; the result is
        a part of 1. Work that is done again (activation checkpointing) does not count.
    Raises: ContractError if tokens_per_s or flops_per_token is below 0 or peak_flops is not above 0.
    Source: Chowdhery et al. 2022, arXiv:2204.02311, section 4.1.

    >>> mfu(1_000.0, 6e9, 12e12)
    0.5
    """
    require(tokens_per_s >= 0, "mfu: tokens_per_s must be at least 0, got {}", tokens_per_s)
    require(flops_per_token >= 0, "mfu: flops_per_token must be at least 0, got {}", flops_per_token)
    require(peak_flops > 0, "mfu: peak_flops must be above 0, got {}", peak_flops)
    return tokens_per_s * flops_per_token / peak_flops
