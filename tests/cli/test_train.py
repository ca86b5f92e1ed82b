"""What only `cs336 train` does: traces of chosen updates, and the whole engine by two flags."""

import json
from pathlib import Path

import pytest

from tests.cli.small import MODEL, TRAIN, run

pytestmark = pytest.mark.e2e

WORDS = "train --run {} --data.train text.bin --data.tokenizer tok --train.steps 4"


def test_profile_writes_a_trace_of_each_chosen_update(work: Path) -> None:
    assert run(work, WORDS.format("traced"), "--profile", "2:4", *TRAIN, *MODEL) == 0
    traces = sorted((work / "traced" / "traces").iterdir())
    assert [path.name for path in traces] == ["step-00000002.json", "step-00000003.json"]
    events = json.loads(traces[0].read_text())["traceEvents"]
    assert "cs336_basics::attention" in {event.get("name") for event in events}


@pytest.mark.parametrize("span", ["3", "3:2", "-1:2", "a:b"])
def test_profile_refuses_what_is_no_span_of_updates(work: Path, span: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(work, WORDS.format("refused"), f"--profile={span}", *TRAIN, *MODEL) == 2
    assert "profile must be two updates such as 20:23, from 1 to " in capsys.readouterr().err
    assert not (work / "refused").exists()


def test_without_kernels_the_losses_are_the_same(work: Path) -> None:
    losses = {}
    for name, flag in (("fast", "--train.kernels"), ("plain", "--train.no-kernels")):
        assert run(work, WORDS.format(name), flag, *TRAIN, *MODEL) == 0
        lines = map(json.loads, (work / name / "metrics.jsonl").read_text().splitlines())
        losses[name] = [line["train_loss"] for line in lines if "train_loss" in line]
    assert losses["fast"] == pytest.approx(losses["plain"], rel=1e-5)
