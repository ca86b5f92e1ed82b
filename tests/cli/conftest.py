"""Fixtures of the command line: a folder with a text and what the commands make of it."""

from pathlib import Path

import pytest

from cs336_basics.cli.stdlib_text import END
from tests.cli.small import MODEL, TRAIN, run


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text, its tokenizer and its tokens, each made by a command."""
    folder = tmp_path_factory.mktemp("work")
    stories = (f"Once upon a time there was a {animal} who ate {n} apples.\n{END}\n" for n in range(150)
               for animal in ("fox", "bear", "hen"))  # fmt: skip
    (folder / "text.txt").write_text("".join(stories))
    assert run(folder, "tokenizer train text.txt --out tok --vocab-size 300 --workers 1") == 0
    assert run(folder, "tokenizer encode text.txt --tokenizer tok --out text.bin") == 0
    return folder


@pytest.fixture(scope="module")
def trained(work: Path) -> Path:
    """The same folder with a run of eight updates in it."""
    assert run(work, "train --run run --data.train text.bin --data.tokenizer tok --train.steps 8", *TRAIN, *MODEL) == 0
    return work
