"""That the measuring helper measures as it says; the measurements themselves are no part of the tests."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.bench import __main__ as command
from tests.bench import contracts, memory, models, tokenizer, train
from tests.bench.measure import Bound, Figure, compare, medians, ratio, take_turns, take_turns_once


class FakeClock:
    """A clock that only the candidates move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def __call__(self) -> float:
        return self.now

    def candidate(self, name: str, costs: Iterator[float]) -> Callable[[], None]:
        def call() -> None:
            self.order.append(name)
            self.now += next(costs)

        return call


def repeat(*costs: float) -> Iterator[float]:
    """The costs, and the last of them for ever."""
    yield from costs
    while True:
        yield costs[-1]


def test_candidates_take_turns_in_alternating_order() -> None:
    clock = FakeClock()
    candidates = {name: clock.candidate(name, repeat(1.0)) for name in "ab"}
    take_turns(candidates, rounds=8, clock=clock)
    calibration, measured = clock.order[:4], clock.order[4:]
    assert calibration == ["a", "a", "b", "b"]  # to make what is made once, and to count the calls
    assert measured == ["a", "b", "b", "a"] * 4


def test_a_short_call_is_repeated_until_it_lasts() -> None:
    clock = FakeClock()
    seconds = take_turns({"a": clock.candidate("a", repeat(0.001))}, least_s=0.05, clock=clock)
    assert seconds["a"] == pytest.approx([0.001] * 7)
    assert len(clock.order) >= 7 * 50


def test_medians_shrug_off_a_disturbed_round() -> None:
    clock = FakeClock()
    a = clock.candidate("a", repeat(2.0, 2.0, 2.0, 90.0, 2.0))
    b = clock.candidate("b", repeat(1.0))
    seconds = take_turns({"a": a, "b": b}, clock=clock)
    assert 90.0 in seconds["a"]
    assert medians(seconds) == {"a": 2.0, "b": 1.0}
    assert ratio(seconds, "a", "b") == 2.0


def test_a_ratio_compares_within_a_round() -> None:
    """A machine that slows down tenfold halfway changes both medians, and not the ratio."""
    slow_down = {"a": [2.0, 2.0, 2.0, 20.0, 20.0, 20.0, 20.0], "b": [1.0, 1.0, 1.0, 10.0, 10.0, 10.0, 10.0]}
    assert ratio(slow_down, "a", "b") == 2.0


def test_a_slower_function_has_a_ratio_above_one() -> None:
    figure = compare("test", "slow", {"slow": lambda: sum(range(30_000)), "fast": lambda: sum(range(3_000))}, rounds=7)
    assert figure.ratios["slow/fast"] > 3
    assert figure.seconds["slow"] > figure.seconds["fast"]
    assert "slow/fast" in figure.line()


def test_fewer_than_seven_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="rounds must be at least 7, got 3"):
        take_turns({"a": int}, rounds=3)


def test_the_copy_without_contracts_has_none_and_leaves_the_package_alone() -> None:
    on = contracts.modules()["ops.feed_forward"]
    before = {name: module for name, module in sys.modules.items() if name.startswith("cs336_basics")}
    off = contracts.second_copy()["ops.feed_forward"]
    assert hasattr(on.silu, "__wrapped__")
    assert not hasattr(off.silu, "__wrapped__")
    assert {name: module for name, module in sys.modules.items() if name.startswith("cs336_basics")} == before
    assert importlib.import_module(on.__name__) is on


def test_the_command_prints_a_line_and_writes_a_row_for_each_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [Figure(group="ops", name=name, seconds={"ours": 0.25}, ratios={"ours/torch": 1.5}) for name in "xy"]
    monkeypatch.setattr(command, "figures", lambda group, rounds: made if (group, rounds) == ("ops", 9) else [])
    monkeypatch.setattr(torch, "set_num_threads", int)  # other tests keep theirs
    monkeypatch.setattr(sys, "argv", ["bench", "ops", "--rounds", "9", "--out", str(tmp_path / "rows.jsonl")])
    command.main()
    assert "1.500  |  ours 250 ms" in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["group"], row["name"], row["ratios"], row["rounds"]) for row in rows] == [
        ("ops", name, {"ours/torch": 1.5}, 9) for name in "xy"
    ]


def bounded(found: float, sign: Any, bound: float) -> Figure:
    must = {"ours/theirs": Bound(sign, bound)}
    return Figure(group="ops", name="x", seconds={}, ratios={"ours/theirs": found}, must=must)


@pytest.mark.parametrize(
    ("found", "sign", "bound", "is_met"),
    [(0.7, "<=", 0.7, True), (0.71, "<=", 0.7, False), (1.0, ">=", 1.0, True), (0.99, ">=", 1.0, False)],
)
def test_the_command_fails_where_a_figure_falls_short(
    found: float, sign: str, bound: float, is_met: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure = bounded(found, sign, bound)
    monkeypatch.setattr(command, "figures", lambda *_: [figure])
    monkeypatch.setattr(torch, "set_num_threads", int)  # other tests keep theirs
    monkeypatch.setattr(sys, "argv", ["bench", "ops", "--out", str(tmp_path / "rows.jsonl")])
    if is_met:
        command.main()
    else:
        with pytest.raises(SystemExit, match="ops: x: ours/theirs"):
            command.main()
    row = json.loads((tmp_path / "rows.jsonl").read_text(encoding="utf-8"))
    assert row["must"] == {"ours/theirs": f"{sign} {bound:g}"}
    assert row["short"] == ([] if is_met else ["ours/theirs"])
    assert ("ok" if is_met else "SHORT") in figure.line()


def test_a_call_that_is_made_anew_is_not_timed_in_the_making() -> None:
    clock = FakeClock()

    def make() -> Callable[[], None]:
        clock.now += 100
        return clock.candidate("a", repeat(2.0))

    assert take_turns_once({"a": make}, clock=clock) == {"a": [2.0] * 7}


def test_without_peers_and_text_the_tokenizer_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CS336_DATA", str(tmp_path / "none"))
    monkeypatch.setattr(tokenizer, "everywhere", lambda _: iter(()))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert list(tokenizer.figures(7)) == []
    said = capsys.readouterr().out
    assert "gigatoken is not installed: no row against it" in said
    assert "no real text (set CS336_DATA" in said


def test_without_peers_the_bench_of_training_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert models.installed() == [models.nanogpt]
    said = capsys.readouterr().out
    assert "transformers is not installed: no figure against it" in said
    assert "litgpt is not installed: no figure against it" in said


def test_a_step_is_held_to_the_quickest_peer_and_to_the_ceiling() -> None:
    row = train.ROWS["tiny-float32"]
    seconds = {"ours": [1.0] * 7, "slow": [2.0] * 7, "quick": [1.04] * 7, "product": [1.0] * 7}
    figure = train.judged("x", row, seconds)
    assert figure.ratios["tokens/s of quick's"] == pytest.approx(1.04)
    assert figure.rates["slow tokens/s"] == 512
    assert figure.short() == ["tokens/s of quick's"], "1.05 was asked for"
    assert figure.ratios["of the ceiling"] > figure.must["of the ceiling"].value == 0.8
    slower = train.judged("x", row, seconds | {"product": [0.001] * 7})
    assert slower.short() == ["of the ceiling", "tokens/s of quick's"]


def test_nanogpt_is_causal_and_of_the_size_asked_for() -> None:
    model, logits = models.nanogpt(train.SMALL)
    ids = torch.randint(4096, (2, 128), generator=torch.Generator().manual_seed(0))
    changed = ids.clone()
    changed[:, 100:] = 0
    before, after = logits(ids), logits(changed)
    torch.testing.assert_close(before[:, :100], after[:, :100])
    assert not torch.allclose(before[:, 101:], after[:, 101:])
    assert sum(p.numel() for p in model.parameters()) == 2 * 4096 * 128 + 128 * 128 + 4 * 12 * 128**2 + 9 * 128


@pytest.mark.parametrize(
    ("asked", "kept"), [("train/small-f", ["small-float32"]), ("train/tiny", ["tiny-float32", "tiny-bfloat16"])]
)
def test_rows_can_be_chosen(asked: str, kept: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "step_figure", lambda name, *_: Figure(group="train", name=name, seconds={}))
    monkeypatch.setattr(models, "installed", list)
    assert [figure.name for figure in command.figures(asked, 7)] == kept


def test_a_corpus_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        memory.write_corpus(tmp_path / name, 1000, seed=seed)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c
    assert a.count(memory.END.encode()) == 100


@pytest.mark.parametrize("arguments", [["nonsense"], ["nonsense/x"], ["ops", "--rounds", "3"]])
def test_the_command_refuses_what_it_does_not_know(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    assert "nonsense" in capsys.readouterr().err or "--rounds" in arguments
