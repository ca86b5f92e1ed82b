"""Metrics: every line is JSON of its own, a file cut short by a kill is read up to the cut, and goes on from a step."""

import json
from pathlib import Path

import pytest

from cs336_basics.train.errors import MetricsError
from cs336_basics.train.tracker import JsonlTracker, Tracker, read_metrics


def lines(path: Path) -> list[dict[str, float | None]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_one_line_a_record(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    tracker: Tracker = JsonlTracker(path)
    tracker.log(1, {"train_loss": 2.5, "lr": 1e-3})
    tracker.log(2, {"valid_loss": 2.25})
    assert path.read_text() == '{"step": 1, "train_loss": 2.5, "lr": 0.001}\n{"step": 2, "valid_loss": 2.25}\n'
    assert list(read_metrics(path)) == lines(path)


def test_floats_come_back_exactly(tmp_path: Path) -> None:
    tracker = JsonlTracker(tmp_path / "m.jsonl")
    values = {"a": 0.1 + 0.2, "b": 1e-308, "c": 3.0, "d": 1 / 3}
    tracker.log(1, values)
    assert next(read_metrics(tmp_path / "m.jsonl")) == {"step": 1, **values}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_json_cannot_say_becomes_null(tmp_path: Path, value: float) -> None:
    JsonlTracker(tmp_path / "m.jsonl").log(3, {"valid_loss": value, "lr": 1.0})
    assert (tmp_path / "m.jsonl").read_text() == '{"step": 3, "valid_loss": null, "lr": 1.0}\n'


@pytest.mark.parametrize("cut", range(1, 24))
def test_a_cut_off_last_line_is_left_out_and_written_over(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "m.jsonl"
    whole = '{"step": 1, "wall_s": 0.5}\n'
    path.write_text(whole + '{"step": 2, "wall_s": 0.75}\n'[:cut])
    assert list(read_metrics(path)) == [{"step": 1, "wall_s": 0.5}]
    tracker = JsonlTracker(path, start_step=2)
    assert path.read_text() == whole
    tracker.log(2, {"wall_s": 1.0})
    assert [line["step"] for line in lines(path)] == [1, 2]


def test_going_on_drops_later_lines(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    first = JsonlTracker(path)
    for step in range(6):
        first.log(step, {"wall_s": float(step), "train_loss": 9.0 - step})
    tracker = JsonlTracker(path, start_step=3)
    assert [line["step"] for line in lines(path)] == [0, 1, 2, 3]
    tracker.log(4, {"train_loss": 0.0})
    assert [line["step"] for line in lines(path)] == [0, 1, 2, 3, 4]


def test_last_holds_the_newest_of_each_metric(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    first = JsonlTracker(path)
    first.log(1, {"wall_s": 1.0, "train_loss": 3.0})
    first.log(2, {"wall_s": 2.0, "valid_loss": 2.5})
    first.log(3, {"wall_s": 3.0, "valid_loss": float("nan")})
    first.log(4, {"wall_s": 4.0, "train_loss": 1.0})
    assert JsonlTracker(path, start_step=3).last == {"wall_s": 3.0, "train_loss": 3.0, "valid_loss": 2.5}


def test_starting_at_nought_begins_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    JsonlTracker(path).log(0, {"valid_loss": 4.0})
    assert JsonlTracker(path).last == {}
    assert path.read_text() == ""


def test_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    JsonlTracker(tmp_path / "m.jsonl", start_step=5).log(6, {"a": 1.0})
    assert [path.name for path in tmp_path.iterdir()] == ["m.jsonl"]


# Damage

GOOD = b'{"step": 1, "wall_s": 0.5}\n'
DAMAGED = [
    b"",
    b"step,loss",
    b'{"step": 2, "wall_s": 0.7',
    b"\x00\x00\x00\x00",
    b'{"step": 2, "caf\xe9": 1}',
    b"[1, 2]",
    b"7",
    b"null",
    b"{}",
    b'{"wall_s": 1.0}',
    b'{"step": "2"}',
    b'{"step": true}',
    b'{"step": 2.0}',
    b'{"step": null}',
    b'{"step": 2, "wall_s": "0.7"}',
    b'{"step": 2, "wall_s": [0.7]}',
    b'{"step": 2, "wall_s": true}',
    b'{"step": 2, "wall_s": NaN}',
    b'{"step": 2, "wall_s": 1e999}',
    b'{"step": 2, "wall_s": 1' + b"0" * 400 + b"}",
    b'{"step": 2, "wall_s": 1' + b"0" * 5000 + b"}",
    b"[" * 100_000,
]


@pytest.mark.parametrize("damaged", DAMAGED, ids=lambda line: repr(line[:30]))
@pytest.mark.parametrize("after", [b"", GOOD], ids=["last", "in the middle"])
def test_a_damaged_line_is_named_with_its_mend(tmp_path: Path, damaged: bytes, after: bytes) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(GOOD + damaged + b"\n" + after)
    for read in (lambda: list(read_metrics(path)), lambda: JsonlTracker(path, start_step=3)):
        with pytest.raises(MetricsError) as caught:
            read()
        text = str(caught.value)
        assert text.startswith(f"read_metrics: line 2 of {path} must be a JSON object of a whole step")
        assert "delete that line" in text
        assert "\n" not in text
        assert len(text) < 300 + len(str(path)), "a long line is not repeated whole"
    assert path.read_bytes() == GOOD + damaged + b"\n" + after, "left for its owner to look at"
    path.write_bytes(GOOD + after)
    assert JsonlTracker(path, start_step=3).last == {"wall_s": 0.5}


def test_a_file_edited_on_windows_is_read(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_bytes(b'{"step": 1, "wall_s": null}\r\n')
    assert list(read_metrics(tmp_path / "m.jsonl")) == [{"step": 1, "wall_s": None}]
