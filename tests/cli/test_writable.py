"""A place where nothing can be written is refused before the work, and nothing is left of asking."""

from pathlib import Path

import pytest

from cs336_basics.cli.inputs import require_writable
from cs336_basics.config import ConfigError


def test_asks_the_next_folder_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for out in (tmp_path, tmp_path / "new", tmp_path / "new" / "below"):
        require_writable(out, out)
    monkeypatch.chdir(tmp_path)
    require_writable("new", "new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("file", "Not a directory"),
        ("file/below", "Not a directory"),
        ("/dev/null", "Not a directory"),
        ("a" * 300, "File name too long"),
    ],
)
def test_refuses_by_name_and_reason(out: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=f"^out: .*{out} cannot be written \\({reason}.*; choose another place$"):
        require_writable(tmp_path / out, tmp_path / out)


def test_training_asks_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cs336_basics.cli import tokenizer
    from cs336_basics.cli.commands import TokenizerEncode, TokenizerTrain

    monkeypatch.setattr(tokenizer, "train_tokenizer", None)  # calling it would fail otherwise
    monkeypatch.setattr(tokenizer, "load_tokenizer", None)
    (tmp_path / "text").write_text("a text")
    text, out = str(tmp_path / "text"), "/dev/null/x"
    with pytest.raises(ConfigError, match=r"^out: /dev/null/x cannot be written"):
        tokenizer.train(TokenizerTrain(text=text, out=out, vocab_size=300))
    with pytest.raises(ConfigError, match=r"^out: /dev/null/x cannot be written"):
        tokenizer.encode(TokenizerEncode(text=text, out=out, tokenizer=str(tmp_path)))
