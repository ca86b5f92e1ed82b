"""The table of models, and what importing it costs."""

import subprocess
import sys
from dataclasses import replace

import pytest

from cs336_basics.accounting import GPT2_SIZES, flops, format_table, parameters, table_rows, training_memory
from cs336_basics.contracts import ContractError
from tests.accounting.models import TINY


def test_table() -> None:
    rows = table_rows({"tiny": TINY, "a longer name": replace(TINY, n_layers=400)}, batch_size=3)
    for row, config in zip(rows, (TINY, replace(TINY, n_layers=400)), strict=True):
        assert sum(row[3:8]) == pytest.approx(100)
        assert row.feed_forward_percent == pytest.approx(
            100 * flops(config).feed_forward_flops / flops(config).forward_flops
        )
        assert row.parameters == parameters(config).total
        assert row.training_bytes == training_memory(config, batch_size=3).total_bytes
    lines = format_table(rows).splitlines()
    assert len(lines) == 3
    assert len({len(line) for line in lines}) == 1
    assert [line.split("  ")[0] for line in lines] == ["model", "tiny", "a longer name"]


def test_an_empty_table_is_its_headings() -> None:
    assert format_table([]).startswith("model  parameters")


def test_never_imports_torch() -> None:
    code = "import sys, cs336_basics.accounting; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_bad_input() -> None:
    with pytest.raises(ContractError, match="batch_size must be at least 1, got 0"):
        table_rows(batch_size=0)


def test_the_sizes_are_fixed() -> None:
    with pytest.raises(TypeError):
        GPT2_SIZES["tiny"] = TINY  # type: ignore[index]  # what must be refused
