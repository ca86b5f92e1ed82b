"""That the GPU tests are all there: run on every machine, so that none of them can go missing where there is no GPU."""

import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import cs336_basics.kernels
import cs336_basics.nn
import cs336_basics.ops
import cs336_basics.optim
from cs336_basics.data.batches import batch_at, get_batch
from cs336_basics.generate import generate, generate_text
from tests.gpu.compare import COVERED, DTYPES, Case
from tests.gpu.conftest import NO_DEVICE
from tests.gpu.test_kernels import KERNELS
from tests.gpu.test_nn import MODULES, ModuleCase
from tests.gpu.test_ops import CASES

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path.stem for path in Path(__file__).parent.glob("test_*.py") if path != Path(__file__))


def public(room: ModuleType) -> Iterator[tuple[str, Any]]:
    """Every public function and class that a room defines, file by file; a Protocol has nothing to run."""
    for found in pkgutil.iter_modules(room.__path__):
        if found.name.startswith("_"):
            continue
        module = importlib.import_module(f"{room.__name__}.{found.name}")
        for name, value in vars(module).items():
            defined = inspect.isfunction(value) or inspect.isclass(value)
            own = defined and value.__module__ == module.__name__ and not name.startswith("_")
            if own and not getattr(value, "_is_protocol", False):
                yield f"{module.__name__}.{name}", value


@pytest.fixture(scope="module", autouse=True)
def every_gpu_test_file() -> None:
    """A file fills COVERED when it is imported."""
    for name in FILES:
        importlib.import_module(f"tests.gpu.{name}")


@pytest.mark.parametrize(
    ("room", "at_least"),
    [(cs336_basics.ops, 10), (cs336_basics.nn, 10), (cs336_basics.optim, 10), (cs336_basics.kernels, 2)],
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_everything_public_has_a_gpu_test(room: ModuleType, at_least: int) -> None:
    names = dict(public(room))
    assert len(names) >= at_least  # else the search itself is broken
    assert [name for name, value in names.items() if value not in COVERED] == []


def test_batches_and_generation_have_gpu_tests() -> None:
    assert {get_batch, batch_at, generate, generate_text} <= COVERED


@pytest.mark.slow
def test_the_tests_are_collected_and_skipped_for_one_reason() -> None:
    """`pytest -m gpu` in a fresh process that sees no CUDA device finds them all, and says once why it skips each."""
    arguments = ("-m", "pytest", "-m", "gpu", "tests/gpu", "-v", "-p", "no:cacheprovider")
    blind = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    report = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=blind, capture_output=True, text=True, check=False
    )
    assert report.returncode == 0, report.stdout + report.stderr
    skipped = set(re.findall(r"^(tests/gpu/.*?) SKIPPED", report.stdout, re.MULTILINE))
    summary = [line for line in report.stdout.splitlines() if line.startswith("SKIPPED [")]
    assert [re.sub(r" tests/gpu/conftest.py:\d+: ", " ", line) for line in summary] == [
        f"SKIPPED [{len(skipped)}] {NO_DEVICE}"
    ]
    table: dict[str, Sequence[Case | ModuleCase]] = {"ops": CASES, "kernels": KERNELS, "nn": MODULES}
    for room, cases in table.items():
        test = f"tests/gpu/test_{room}.py::test_agrees_with_float64_on_the_cpu"
        assert {f"{test}[{case.name}-{dtype}]" for case in cases for dtype in DTYPES} <= skipped
    assert {name: sum(f"/{name}.py::" in test for test in skipped) > 1 for name in FILES} == dict.fromkeys(FILES, True)
