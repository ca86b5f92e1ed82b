"""Sizes that the counts share."""

from cs336_basics.config import ModelConfig
from cs336_basics.contracts import require


def tokens_of(function: str, config: ModelConfig, batch_size: int, seq_len: int | None) -> tuple[int, int]:
    """(tokens of the batch, tokens of a sequence); seq_len defaults to the context.

    Raises: ContractError naming `function` if batch_size < 1 or seq_len is outside [1, context_length].
    """
    seq_len = config.context_length if seq_len is None else seq_len
    require(batch_size >= 1, "{}: batch_size must be at least 1, got {}", function, batch_size)
    fits = 1 <= seq_len <= config.context_length
    require(fits, "{}: seq_len must be in [1, context_length = {}], got {}", function, config.context_length, seq_len)
    return batch_size * seq_len, seq_len


def kv_width(config: ModelConfig) -> int:
    """Width of all keys of a position, and of all values: kv_heads · d_head."""
    return config.kv_heads * config.d_head


def norm_count(config: ModelConfig) -> int:
    """RMSNorms on the residual stream: two a block, and a final one after pre-norm blocks."""
    return {"pre": 2 * config.n_layers + 1, "post": 2 * config.n_layers, "none": 0}[config.norm]
