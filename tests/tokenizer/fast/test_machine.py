"""Machine code: on disk it is of the source as it stands, and numba still has the steps that are left out."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from numba import types
from numba.core.compiler import DefaultPassBuilder

import cs336_basics
from cs336_basics.tokenizer.fast import machine

ENCODE = """
from cs336_basics.tokenizer import Tokenizer
vocab = {byte: bytes([byte]) for byte in range(256)} | {256: b"ab"}
print(Tokenizer(vocab, [(b"a", b"b")], engine="fast").encode("abab ab"))
"""


@pytest.mark.slow
def test_a_change_in_a_callee_is_seen(tmp_path: Path) -> None:
    """`rank_of` is called by an entry in another file. Here it is made to know no rule."""
    package = tmp_path / "src" / "cs336_basics"
    shutil.copytree(Path(cs336_basics.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "src"), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def encode() -> str:
        return subprocess.run(
            [sys.executable, "-c", ENCODE], env=env, check=True, capture_output=True, text=True
        ).stdout

    before = encode()
    assert before == "[256, 256, 32, 256]\n"
    assert encode() == before
    path = package / "tokenizer" / "fast" / "merging.py"
    source = path.read_text(encoding="utf-8")
    start = source.index("def rank_of(")
    body = source.index('"""', source.index('"""', start) + 3) + 3
    path.write_text(source[:body] + "\n    return (1 << 31) - 1\n" + source[body:], encoding="utf-8")
    assert encode() == "[97, 98, 97, 98, 32, 97, 98]\n"


def test_what_the_leaner_compilation_leaves_out_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of numba go by name: one of another name would be taken again, and nobody would notice."""
    inner, seen = DefaultPassBuilder.define_nopython_pipeline, set[str]()

    def watch(state: Any) -> Any:
        found = inner(state)
        seen.update(step[0].name() for step in found.passes)
        return found

    monkeypatch.setattr(DefaultPassBuilder, "define_nopython_pipeline", staticmethod(watch))

    @machine.compiled
    def one_more(value: int) -> int:
        return value + 1

    compiled: Any = one_more
    compiled.compile((types.int64,))
    assert set(machine._Lean._LEFT_OUT) <= seen
