"""What each room loads, seen from fresh interpreters: nobody pays for what they do not use."""

import json
import pkgutil
import subprocess
import sys

import pytest

import cs336_basics

# Imports each module in turn; prints what each has added to sys.modules.
PROGRAM = """
import importlib, json, sys
added = {}
for name in sys.argv[1:]:
    before = set(sys.modules)
    importlib.import_module(name)
    added[name] = sorted(set(sys.modules) - before)
print(json.dumps(added))
"""

OPTIONAL = {"matplotlib", "numba", "tensorboard", "tiktoken", "tokenizers", "transformers"}
ROOF = {"cs336_basics.cli", "tyro", *OPTIONAL}
UPSTAIRS = {"cs336_basics.train", "cs336_basics.generate", *ROOF}

WITHOUT_TORCH = [
    "cs336_basics",
    "cs336_basics.contracts",
    "cs336_basics.files",
    "cs336_basics.config",
    "cs336_basics.accounting",
    "cs336_basics.tokenizer",
    "cs336_basics.data.token_file",
    "cs336_basics.data.sampler",
    "cs336_basics.cli",
]
WITH_TORCH = [
    "cs336_basics.ops.transformer",
    "cs336_basics.ops.loss",
    "cs336_basics.ops.sampling",
    "cs336_basics.kernels.attention",
    "cs336_basics.kernels.loss",
    "cs336_basics.nn",
    "cs336_basics.optim",
    "cs336_basics.data.batches",
]
MIDDLE = ["cs336_basics.generate", "cs336_basics.train.loop"]


@pytest.fixture(scope="module")
def without_torch() -> dict[str, set[str]]:
    """What each of these loads beyond those before it."""
    return _added(WITHOUT_TORCH)


@pytest.fixture(scope="module")
def with_torch() -> dict[str, set[str]]:
    return _added(WITH_TORCH + MIDDLE)


def test_the_package_itself_loads_nothing(without_torch: dict[str, set[str]]) -> None:
    assert not _tops(without_torch["cs336_basics"]) & {"torch", "numpy", "tyro", "jaxtyping", "beartype", "regex"}
    assert {name for name in without_torch["cs336_basics"] if name.startswith("cs336_basics")} == {"cs336_basics"}


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_loads_no_torch(room: str, without_torch: dict[str, set[str]]) -> None:
    # torch itself loads tqdm, so only here can it be seen that we do not.
    assert not _tops(without_torch[room]) & {"torch", "tqdm"}


@pytest.mark.parametrize("room", [room for room in WITHOUT_TORCH if room != "cs336_basics.cli"] + WITH_TORCH)
def test_loads_nothing_of_the_floors_above(
    room: str, without_torch: dict[str, set[str]], with_torch: dict[str, set[str]]
) -> None:
    loaded = (without_torch | with_torch)[room]
    assert not (loaded | _tops(loaded)) & UPSTAIRS


def test_the_command_line_loads_no_optional_dependency(without_torch: dict[str, set[str]]) -> None:
    assert not _tops(without_torch["cs336_basics.cli"]) & OPTIONAL


@pytest.mark.parametrize("room", MIDDLE)
def test_loads_no_command_line(room: str, with_torch: dict[str, set[str]]) -> None:
    loaded = with_torch[room]
    assert not (loaded | _tops(loaded)) & ROOF


def test_every_room_is_looked_at() -> None:
    rooms = {f"cs336_basics.{module.name}" for module in pkgutil.iter_modules(cs336_basics.__path__)}
    assert len(rooms) > 10
    # interop exists to import what is optional.
    listed = [*WITHOUT_TORCH, *WITH_TORCH, *MIDDLE]
    assert {room for room in rooms if not any(name.startswith(room) for name in listed)} <= {"cs336_basics.interop"}


def test_what_is_sought_would_be_found(with_torch: dict[str, set[str]]) -> None:
    assert "torch" in _tops(with_torch[WITH_TORCH[0]])
    assert "cs336_basics.train" in with_torch["cs336_basics.train.loop"]


def _added(names: list[str]) -> dict[str, set[str]]:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *names], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {name: set(modules) for name, modules in json.loads(done.stdout).items()}


def _tops(modules: set[str]) -> set[str]:
    """The packages that the modules belong to."""
    return {name.split(".")[0] for name in modules}
