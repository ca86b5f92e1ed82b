"""Runs are listed, shown, compared and exported; looking at one never disturbs it."""

import hashlib
import json
import shutil
import threading
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from cs336_basics.cli.main import main
from cs336_basics.train.keep import read_newest
from cs336_basics.train.run import RunFolder
from tests.cli.small import MODEL, TRAIN, run
from tests.faults.campaigns import Undisturbed
from tests.faults.workers import Ended, Workers

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def two(trained: Path) -> Path:
    """The folder with a second run, of another rate and longer."""
    words = "train --run other --data.train text.bin --data.tokenizer tok --train.steps 12 --optimizer.lr 0.01"
    assert run(trained, words, *TRAIN, *MODEL) == 0
    return trained


def test_list(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(two / "run", two / "smudged")
    (two / "smudged" / "metrics.jsonl").write_text("no record\n")
    with RunFolder(two / "other").held():
        assert run(two, "runs list .") == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "step", "train", "loss", "valid", "loss", "trainer"]
    cells = {line.split()[0]: line.split() for line in lines}
    assert cells["run"][1] == "8/8"
    assert cells["other"][1] == "12/12"
    assert cells["run"][-1] == "-"
    assert cells["other"][4:6] == ["process", cells["other"][5]]
    assert "line 1 of smudged/metrics.jsonl must be" in " ".join(cells["smudged"])
    shutil.rmtree(two / "smudged")
    assert run(two, "runs list tok") == 0
    assert capsys.readouterr().out == "no runs in tok\n"
    assert run(two, "runs list nowhere") == 2
    assert "folder must be one that is there, got nowhere" in capsys.readouterr().err


def test_show(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(two / "other", two / "hurt")
    path = RunFolder(two / "hurt").newest_checkpoint()
    path.write_bytes(path.read_bytes()[:-5])
    for name, state in (("other", "whole"), ("hurt", "damaged: its seal must begin at byte offset ")):
        assert run(two, f"runs show {name}") == 0
        out = capsys.readouterr().out
        assert f"{name}: step 12 of 12, trained in by nobody\n" in out
        assert "  optimizer.lr = 0.01\n" in out
        assert "  checkpoint at step 12: " in out
        assert f", {state}" in out
        assert "lowest" in out
    shutil.rmtree(two / "hurt")
    assert run(two, "runs show tok") == 2
    assert "it is not a run folder" in capsys.readouterr().err


def test_compare(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(two, "runs compare run other") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["run", "other"]
    assert ["optimizer.lr", "0.001", "0.01"] in lines
    assert ["train.steps", "8", "12"] in lines
    assert ["step", "8", "12"] in lines
    assert len([line for line in lines if line[0].startswith(("model.", "data."))]) == 0
    assert run(two, "runs compare run") == 2
    assert "runs must be two or more run folders" in capsys.readouterr().err


RUN_FILES = ("config.toml", "data.toml", "metrics.jsonl", "tokenizer/vocab.json")


def test_export(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(two, "export --run run --out w.safetensors") == 0
    assert "parameters, " in capsys.readouterr().out
    weights = safetensors.torch.load_file(two / "w.safetensors")
    kept = read_newest(RunFolder(two / "run"))[1]["model"]
    assert weights.keys() == kept.keys()
    assert all(torch.equal(weights[name], kept[name]) for name in kept)
    content = (two / "w.safetensors").read_bytes()
    with safe_open(two / "w.safetensors", "pt") as file:
        about = file.metadata()
    assert json.loads(about["config"])["d_model"] == 32
    assert about["sha256"] == hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()
    for out, message in (
        *((f"run/{name}", "out must not write over what is read") for name in RUN_FILES),
        ("nowhere/w", "out must lie in a folder that exists"),
        ("tok", "out must be a file"),
    ):
        assert run(two, f"export --run run --out {out}") == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_looking_never_disturbs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changes = {"steps": 60, "eval_every": 5}
    with Workers() as workers:
        plain = Undisturbed(tmp_path / "plain", workers, changes=changes)
        folder, ended = tmp_path / "runs" / "run", list[Ended]()
        thread = threading.Thread(target=lambda: ended.append(workers.run("run", folder=str(folder), changes=changes)))
        thread.start()
        looks = running = 0
        while thread.is_alive():
            if (folder / "config.toml").exists():
                assert main(["runs", "show", str(folder)]) == 0
                assert main(["runs", "list", str(folder.parent)]) == 0
                assert main(["runs", "compare", str(folder), str(tmp_path / "plain")]) == 0
                found = capsys.readouterr()
                assert found.err == ""
                looks, running = looks + 1, running + ("process " in found.out)
        thread.join()
    assert ended[0].code == 0, ended[0].said
    assert plain.difference(folder) == ""
    assert looks > 5
    assert running > 0
