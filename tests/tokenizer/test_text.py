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


@pytest.mark.parametrize(
    ("bad", "at"),  # at: how far into these bytes the first is that belongs to no character
    [(b"\xff", 0), (b"\xe6\xbca", 0), (b"\xf0\x9f\x91 ", 0), (b"\xc3", 0), (b"\xe6\xbc", 0), (b"\xed\xa0\x80", 0),
     (b"\xc3\xa9\x80", 2), (b"\xf4\x90\x80\x80", 0)],
)  # fmt: skip
@pytest.mark.parametrize("before", range(9))
def test_bad_bytes_are_found_at_every_border_of_blocks(
    before: int, bad: bytes, at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.setattr("cs336_basics.tokenizer.text._BLOCK_BYTES", 4)
    path = tmp_path / "text.txt"
    for after in (b"", b"abcdefgh"):
        path.write_bytes(b"0123456789"[:before] + bad + after)
        refused(lambda: list(read_text(path)), "read_text: path must be UTF-8", f"byte offset {before + at} (")
        refused(lambda: list(read_text(path, start=before // 2)), f"byte offset {before + at} (")


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
