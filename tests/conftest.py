"""Options and fixtures shared by every room."""

import os
from pathlib import Path

import pytest

# Before torch is loaded: on tensors this small, threads cost several times what they save.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`pytest -m gpu --gpu-device cpu` runs the bodies of the GPU tests where there is no GPU."""
    parser.addoption("--gpu-device", default="cuda", help="device of the tests marked gpu (default: cuda)")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real text: CS336_DATA, or `../shared/data` beside the checkout."""
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("CS336_DATA", root.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real text: {folder} is not a folder (set CS336_DATA to one)")
    return folder
