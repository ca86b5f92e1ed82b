"""The table of what other tools say: counted right, rewritten right, and honest about who is missing."""

from pathlib import Path

import pytest

from tests.contracts.corpus import peers, rivals
from tests.contracts.corpus.registry import RIGHT, WRONG, load

load()

FILE = """import torch
from tests.contracts.corpus.registry import wrong

@wrong(
    "shape",
    batch=(2,),
)
def f(x: Float[Tensor, "*batch kv_heads*groups seq"], m: Bool[Tensor, "*#batch seq"]) -> Float[Tensor, "*batch"]:
    return x
"""


def test_counts_complaints_and_leaves_out_what_cannot_be_read() -> None:
    names = [*WRONG, *RIGHT]
    verdicts = dict.fromkeys(names, "")
    first, second = list(WRONG)[:2]
    verdicts |= {first: "shape: no", second: f"{peers.UNREAD}a formula", next(iter(RIGHT)): "false alarm"}
    line = rivals.table({"tool": verdicts}, {"tool": 2.0}).splitlines()[-1]
    assert line == f"| tool | 1 / {len(WRONG)} | 1 / {len(RIGHT)} | 1, 0 | 2 |"
    marks = {line.split()[1]: line.split()[0] for line in rivals.rows({"tool": verdicts}).splitlines() if "  " in line}
    assert (marks[first], marks[second], marks[list(WRONG)[2]]) == ("x", "?", "-")


def test_declares_axes_to_pyrefly_on_the_same_lines() -> None:
    text = peers.declared(FILE, {})
    assert text.splitlines()[1] == "from shape_extensions import static_jaxtyping"
    assert text.splitlines()[3] == '@static_jaxtyping("*batch kv_heads groups seq")'
    assert text.count("\n") == FILE.count("\n")
    plain = peers.declared(FILE, {"*#batch": "batch", "*batch": "batch"})
    assert '@static_jaxtyping("batch kv_heads groups seq")' in plain
    assert 'Bool[Tensor, "batch seq"]' in plain


@pytest.mark.parametrize("tool", [peers.torchtyc, peers.pyrefly])
def test_says_which_tool_is_missing(tool: object, tmp_path: Path) -> None:
    with pytest.raises(peers.Missing, match="--install puts it there"):
        tool(tmp_path)  # type: ignore[operator]  # one of the two functions above


def test_one_call_at_run_time_sees_what_it_can() -> None:
    distinct, equal = peers.jaxtyping_distinct(Path()), peers.jaxtyping_equal(Path())
    assert peers.complains(distinct["mask_transposed"])
    assert not peers.complains(equal["mask_transposed"])
    assert not peers.complains(distinct["value_loss"])
    assert distinct["heads_split_by_einops"].startswith(peers.UNREAD)
    assert not any(peers.complains(distinct[name]) or peers.complains(equal[name]) for name in RIGHT)
