"""What a model costs, from its config alone: parameters, FLOPs, bytes of training and of generation.

Counts of the eager implementation in `ops` and `nn`, part by part, in integers. The tests hold each of them to
torch's own counters on real models: equal, but for the total of `TrainingMemory`, which is an estimate of the peak.
Never imports torch.
"""

from cs336_basics.accounting.compute import Flops, Parameters, flops, mfu, parameters
from cs336_basics.accounting.memory import (
    Activations,
    Precision,
    TrainingMemory,
    activations,
    kv_cache_bytes,
    optimizer_bytes,
    training_memory,
)
from cs336_basics.accounting.table import GPT2_SIZES, Row, format_table, table_rows

__all__ = [
    "GPT2_SIZES",
    "Activations",
    "Flops",
    "Parameters",
    "Precision",
    "Row",
    "TrainingMemory",
    "activations",
    "flops",
    "format_table",
    "kv_cache_bytes",
    "mfu",
    "optimizer_bytes",
    "parameters",
    "table_rows",
    "training_memory",
]
