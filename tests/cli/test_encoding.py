"""A standard output that cannot say every character: text is escaped, bytes stay what they are."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.small import run

pytestmark = pytest.mark.e2e


def printed(folder: Path, line: str, *more: str, encoding: str) -> tuple[int, bytes]:
    """Exit code and standard output of a command whose output has that encoding."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        code = run(folder, line, *more)
    out.flush()
    buffer = out.buffer
    assert isinstance(buffer, io.BytesIO)
    return code, buffer.getvalue()


@pytest.mark.parametrize(
    ("encoding", "prompt"), [("ascii", b"na\\xefve \\U0001f98a"), ("latin-1", b"na\xefve \\U0001f98a")]
)
def test_generated_text_is_escaped(trained: Path, encoding: str, prompt: bytes) -> None:
    words = "generate --run run --device cpu --max-new-tokens 3 --prompt"
    code, out = printed(trained, words, "naïve 🦊", encoding=encoding)
    assert code == 0
    assert out.startswith(prompt)


def test_utf8_stays_as_it_is(trained: Path) -> None:
    words = "generate --run run --device cpu --max-new-tokens 3 --prompt"
    code, out = printed(trained, words, "naïve 🦊", encoding="utf-8")
    assert code == 0
    assert out.startswith("naïve 🦊".encode())


def test_decode_writes_exact_bytes_whatever_the_encoding(work: Path) -> None:
    text = "naïve 🦊\r\n".encode() * 3
    (work / "wide.txt").write_bytes(text)
    assert run(work, "tokenizer encode wide.txt --tokenizer tok --out wide.bin") == 0
    code, out = printed(work, "tokenizer decode wide.bin --tokenizer tok", encoding="ascii")
    assert (code, out) == (0, text)


def test_inspect_in_a_real_shell(work: Path) -> None:
    words = "tokenizer train text.txt --out wide --vocab-size 260 --workers 1 --special-tokens"
    assert run(work, words, "<🦊>") == 0
    done = subprocess.run(
        [sys.executable, "-m", "cs336_basics.cli", "tokenizer", "inspect", "wide"],
        cwd=work,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"special: <\\U0001f98a>" in done.stdout
