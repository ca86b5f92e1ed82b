"""Bytes of training and of generation."""

from dataclasses import astuple, dataclass
from typing import Final, Literal, TypeAlias

from cs336_basics.accounting._sizes import kv_width, norm_count, tokens_of
from cs336_basics.accounting.compute import parameters
from cs336_basics.config import ModelConfig, OptimizerConfig
from cs336_basics.contracts import require

Precision: TypeAlias = Literal["float32", "bfloat16"]

ADAMW: Final = OptimizerConfig()
_ITEM: Final[dict[str, int]] = {"float32": 4, "bfloat16": 2}  # bytes of a number
_WIDE: Final = 4  # bytes of a number in weights, gradients, moments, the residual stream and every reduction
_ID: Final = 8  # bytes of a token id, int64


@dataclass(frozen=True, kw_only=True)
class Activations:
    """Bytes that autograd holds once the forward pass is done, parameters not counted, by what asked for them."""

    norms_bytes: int
    attention_bytes: int  # all of attention that grows with seq_len
    scores_bytes: int  # all of attention that grows with seq_len²
    feed_forward_bytes: int
    loss_bytes: int  # token ids, the head's input, logits and their exponentials
    weight_copies_bytes: int  # weights cast to bfloat16, or put together by fuse_qkv

    @property
    def total_bytes(self) -> int:
        return sum(astuple(self))


def activations(
    config: ModelConfig, *, batch_size: int = 1, seq_len: int | None = None, dtype: Precision = "float32"
) -> Activations:
    """The tensors that `cross_entropy(model(ids), targets)` keeps for its backward pass, each storage once.

    For eager mode, `scaled_dot_product_attention`, int64 ids, no z_loss and no ignored target; a compiled model
    keeps less. bfloat16 is autocast's: weights, residual stream and reductions stay float32, and every matrix
    product casts its operands anew.

    Units:  bytes; seq_len in tokens, by default the context.
    Raises: ContractError if batch_size < 1, seq_len is outside [1, context_length], or for another dtype.
    Source: what the backward formula of each operation reads, as Korthikanti et al. 2022, arXiv:2205.05198,
        section 4.1, do for their model.

    >>> from cs336_basics.accounting import GPT2_SIZES
    >>> xl = activations(GPT2_SIZES["xl"])
    >>> round(xl.scores_bytes / xl.total_bytes, 2)  # what flash attention saves
    0.51
    """
    tokens, seq_len = tokens_of("activations", config, batch_size, seq_len)
    item = _item_bytes("activations", dtype)
    cast = dtype == "bfloat16"
    layers, heads, kv = config.n_layers, config.n_heads, kv_width(config)
    stream, hidden = tokens * config.d_model, tokens * config.ffn_width

    # Each norm: its input, that over its root mean square, and the inverse root.
    norms = norm_count(config) * _WIDE * (2 * stream + tokens)

    # The input of the projections (once, or a cast of it for each); q, k, v, for all heads; the heads, merged.
    inputs = 3 if cast and not config.fuse_qkv else 1
    attention = item * stream * (inputs + 4) + _fused_views(config, batch_size, tokens, item)
    if config.qk_norm:  # two more norms, over heads
        attention += _WIDE * (2 * (stream + tokens * kv) + tokens * (heads + config.kv_heads))
    if config.position == "rope":  # rows of the tables, looked up for q and again for k
        attention += 2 * _WIDE * seq_len * config.d_head

    # Exponentials and their sums; probabilities as they meet v; a mask of pairs and one of rows, a byte each.
    scores = heads * tokens * (_WIDE * (seq_len + 1) + item * seq_len) + seq_len * (seq_len + 1)

    # W1 x, its sigmoid, their product; with a gate W3 x and the product with it too.
    inputs, kept = (2 if cast else 1, 5) if config.ffn == "swiglu" else (1, 3)
    feed_forward = item * (inputs * stream + kept * hidden)

    # The head's input; logits, exponentials and their sum, in float32; ids and targets.
    loss = item * stream + _WIDE * tokens * (2 * config.vocab_size + 1) + 2 * _ID * tokens

    weights = parameters(config)
    cast_weights = item * (weights.attention + weights.feed_forward + config.vocab_size * config.d_model)
    fused_weights = _WIDE * layers * config.d_model * (config.d_model + 2 * kv) if config.fuse_qkv else 0
    return Activations(
        norms_bytes=norms,
        attention_bytes=layers * attention,
        scores_bytes=layers * scores,
        feed_forward_bytes=layers * feed_forward,
        loss_bytes=loss,
        weight_copies_bytes=cast_weights if cast else fused_weights,
    )


def _fused_views(config: ModelConfig, batch_size: int, tokens: int, item: int) -> int:
    """Bytes of a layer that fuse_qkv keeps and nobody reads: q, k and v are views of one product, and a view that
    is kept keeps it whole."""
    # A cast would have made the input of the norm a copy.
    normed_views = config.qk_norm and item == _WIDE
    # A batched product wants batch and heads as one axis: still a view where either is 1, else a copy.
    attended_views = config.kv_heads == config.n_heads and 1 in (batch_size, config.n_heads)
    if not config.fuse_qkv or not (normed_views or attended_views):
        return 0
    kv = kv_width(config)
    keys_untouched = config.position == "none" and not config.qk_norm
    read = config.d_model + kv if normed_views else 0
    read += kv * (1 + keys_untouched) if attended_views else 0
    return item * tokens * (config.d_model + 2 * kv - read)


@dataclass(frozen=True, kw_only=True)
class TrainingMemory:
    """Bytes of a training step, each part at its largest."""

    parameters_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    loss_gradients_bytes: int  # of the logits, twice over, in float32: how the backward pass begins

    @property
    def total_bytes(self) -> int:
        return sum(astuple(self))


def training_memory(
    config: ModelConfig,
    *,
    batch_size: int = 1,
    seq_len: int | None = None,
    dtype: Precision = "float32",
    optimizer: OptimizerConfig = ADAMW,
) -> TrainingMemory:
    """Weights, gradients and optimizer state in float32, the `activations` of one pass, and what its loss adds.

    Each part is exact. All of them meet as the second of several accumulated passes turns back, so the sum is the
    peak of a step with gradient accumulation; without it, gradients come as activations go, and the peak is up to
    gradients_bytes lower (GPT-2 small at a batch of 1: 12 %, of 8: 3 %). Other temporaries are not counted. Where
    they decide the peak, the sum is too low, by up to a quarter in what was measured: those of attention's backward
    pass, where vocab_size is below about 1.5 · n_heads · seq_len, and of the optimizer's step, where a batch has
    few tokens.

    Units:  bytes; seq_len in tokens, by default the context; batch_size is that of one pass, so with accumulation a
        part of the batch.
    Raises: ContractError as `activations`.

    >>> from cs336_basics.accounting import GPT2_SIZES
    >>> memory = training_memory(GPT2_SIZES["xl"])
    >>> round(memory.total_bytes / 2**30, 1), round(memory.activations_bytes / 2**30, 1)  # GiB
    (50.7, 18.6)
    """
    tokens, _ = tokens_of("training_memory", config, batch_size, seq_len)
    weights = _WIDE * parameters(config).total
    kept = activations(config, batch_size=batch_size, seq_len=seq_len, dtype=dtype)
    return TrainingMemory(
        parameters_bytes=weights,
        gradients_bytes=weights,
        optimizer_bytes=optimizer_bytes(config, optimizer),
        activations_bytes=kept.total_bytes,
        loss_gradients_bytes=2 * _WIDE * tokens * config.vocab_size,
    )


def optimizer_bytes(config: ModelConfig, optimizer: OptimizerConfig = ADAMW) -> int:
    """Moments in float32, after a step: AdamW has two for each weight; SGD one, where momentum > 0; Muon one for
    the matrices of layers and AdamW's two for the rest.

    >>> from cs336_basics.accounting import GPT2_SIZES
    >>> optimizer_bytes(GPT2_SIZES["small"]) // parameters(GPT2_SIZES["small"]).total
    8
    """
    weights = parameters(config)
    moments = {
        "adamw": 2 * weights.total,
        "sgd": weights.total if optimizer.momentum > 0 else 0,
        "muon": 2 * weights.total - weights.attention - weights.feed_forward,
    }
    return _WIDE * moments[optimizer.name]


def kv_cache_bytes(
    config: ModelConfig, *, batch_size: int = 1, seq_len: int | None = None, dtype: Precision = "float32"
) -> int:
    """2 · n_layers · batch_size · seq_len · kv_heads · d_head numbers: the keys and values of the positions seen.

    Units:  bytes; seq_len in tokens, by default the context; dtype is that of the cache: autocast's, or the weights'.
    Raises: ContractError if batch_size < 1, seq_len is outside [1, context_length], or for another dtype.
    Source: Shazeer 2019, arXiv:1911.02150, for why kv_heads should be few.

    >>> from cs336_basics.accounting import GPT2_SIZES
    >>> kv_cache_bytes(GPT2_SIZES["small"], dtype="bfloat16") // 2**20  # MiB
    36
    """
    tokens, _ = tokens_of("kv_cache_bytes", config, batch_size, seq_len)
    return 2 * config.n_layers * tokens * kv_width(config) * _item_bytes("kv_cache_bytes", dtype)


def _item_bytes(function: str, dtype: str) -> int:
    require(dtype in _ITEM, "{}: dtype must be float32 or bfloat16, got {!r}", function, dtype)
    return _ITEM[dtype]
