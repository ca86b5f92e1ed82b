"""Reading text files block by block."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cs336_basics.tokenizer import read_text, text_size

Refused = Callable[..., None]


@pytest.mark.parametrize("block", [1, 2, 3, 1 << 20])
def test_blocks_join_to_the_text(block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cs336_basics.tokenizer.text._BLOCK_BYTES", block)
    text = "\ufeffSchöne 漢字\r\n👍\r"
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode())
    steps: list[int] = []
    assert "".join(read_text(str(path), advance=steps.append)) == text
    assert sum(steps) == text_size(path) == len(text.encode())
    assert "".join(read_text(path, start=3, end=10)) == "Schöne"


def test_bad_files(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    refused(lambda: text_size(tmp_path / "empty.txt"), "text_size: path must hold text", "empty.txt")
    refused(lambda: text_size(tmp_path / "none.txt", where="encode: text"), "encode: text", "none.txt", "No such file")
    refused(lambda: list(read_text(tmp_path / "none.txt")), "read_text: path", "No such file")
    refused(lambda: list(read_text(tmp_path)), "read_text: path", "directory")
    refused(
        lambda: list(read_text(tmp_path / "latin.txt", where="it")), "it must be UTF-8", "byte offset 3 ", "convert"
    )
