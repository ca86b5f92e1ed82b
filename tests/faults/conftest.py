"""The workers that the tests of this room share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.small import MODEL, TRAIN, run
from tests.faults.workers import Workers


@pytest.fixture(scope="session")
def workers() -> Iterator[Workers]:
    with Workers() as found:
        yield found


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text, its tokenizer and tokens, and a run of four updates, as the commands make them."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "text.txt").write_text("".join(f"Once there were {n} hens.\n<|endoftext|>\n" for n in range(400)))
    assert run(folder, "tokenizer train text.txt --out tok --vocab-size 300 --workers 1") == 0
    assert run(folder, "tokenizer encode text.txt --tokenizer tok --out text.bin") == 0
    words = "train --run run --data.train text.bin --data.tokenizer tok --train.steps 4 --train.save-every 2"
    assert run(folder, words, *TRAIN, *MODEL) == 0
    return folder
