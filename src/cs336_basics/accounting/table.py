"""The table of models: what each costs, a line each."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from cs336_basics.accounting.compute import flops, parameters
from cs336_basics.accounting.memory import ADAMW, Precision, training_memory
from cs336_basics.config import ModelConfig, OptimizerConfig


def _gpt2(d_model: int, n_layers: int, n_heads: int) -> ModelConfig:
    return ModelConfig(
        vocab_size=50_257,
        context_length=1_024,
        d_model=d_model,
        n_layers=n_layers,
        n_heads=n_heads,
        d_ff=4 * d_model,
    )


# GPT-2's sizes (Radford et al. 2019) in this library's architecture: SwiGLU, RMSNorm, RoPE, two vocabulary tables.
GPT2_SIZES: Final[Mapping[str, ModelConfig]] = MappingProxyType(
    {
        "small": _gpt2(768, 12, 12),
        "medium": _gpt2(1_024, 24, 16),
        "large": _gpt2(1_280, 36, 20),
        "xl": _gpt2(1_600, 48, 25),
    }
)


class Row(NamedTuple):
    """What one model costs."""

    model: str
    parameters: int
    forward_flops: int  # of one sequence as long as the context
    attention_projections_percent: float  # parts of forward_flops
    attention_scores_percent: float
    attention_values_percent: float
    feed_forward_percent: float
    head_percent: float
    training_bytes: int


def table_rows(
    models: Mapping[str, ModelConfig] = GPT2_SIZES,
    *,
    batch_size: int = 1,
    dtype: Precision = "float32",
    optimizer: OptimizerConfig = ADAMW,
) -> list[Row]:
    """A row for each named model; batch_size, dtype and optimizer are those of its `training_memory`.

    Raises: ContractError as `training_memory`.
    """
    rows = []
    for name, config in models.items():
        cost = flops(config)
        percent = 100 / cost.forward_flops
        row = Row(
            model=name,
            parameters=parameters(config).total,
            forward_flops=cost.forward_flops,
            attention_projections_percent=percent * cost.attention_projections_flops,
            attention_scores_percent=percent * cost.attention_scores_flops,
            attention_values_percent=percent * cost.attention_values_flops,
            feed_forward_percent=percent * cost.feed_forward_flops,
            head_percent=percent * cost.head_flops,
            training_bytes=training_memory(config, batch_size=batch_size, dtype=dtype, optimizer=optimizer).total_bytes,
        )
        rows.append(row)
    return rows


def format_table(rows: Iterable[Row]) -> str:
    """The rows as plain text below a line of headings, in columns.

    >>> print(format_table(table_rows()))
    model      parameters  forward GFLOPs  q k v o %  scores %  values %  ffn %  head %   GiB
    small     190,460,160           349.6       16.6       5.5       5.5   49.8    22.6   5.8
    medium    505,629,696         1,033.1       20.0       5.0       5.0   59.9    10.2  14.2
    large   1,072,469,760         2,257.8       21.4       4.3       4.3   64.2     5.8  27.7
    xl      2,127,057,600         4,513.3       22.3       3.6       3.6   66.9     3.6  50.7
    """
    headings = ("model", "parameters", "forward GFLOPs", "q k v o %", "scores %", "values %", "ffn %", "head %", "GiB")
    lines = [headings, *map(_cells, rows)]
    name_width, *widths = (max(map(len, column)) for column in zip(*lines, strict=True))
    return "\n".join("  ".join((name.ljust(name_width), *map(str.rjust, cells, widths))) for name, *cells in lines)


def _cells(row: Row) -> tuple[str, ...]:
    percents = (f"{percent:.1f}" for percent in row[3:8])
    return (
        row.model,
        f"{row.parameters:,}",
        f"{row.forward_flops / 1e9:,.1f}",
        *percents,
        f"{row.training_bytes / 2**30:,.1f}",
    )
