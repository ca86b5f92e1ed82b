"""Which twin works: by the size of the text, by what is installed, and by what lies in the cache."""

import subprocess
import sys
from pathlib import Path

import pytest

from cs336_basics.tokenizer import engine as engines
from cs336_basics.tokenizer import train_bpe
from cs336_basics.tokenizer.engine import PAYS_BYTES, PAYS_COLD_BYTES, compile_in_background, is_fast
from cs336_basics.tokenizer.errors import TokenizerError
from cs336_basics.tokenizer.fast import warm

TEXT = "the cat sat on the mat, the cat that sat<|end|>naïve café, 42 café<|end|>" * 40


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether a compilation in the background was asked for; none starts."""
    asked: list[bool] = []
    monkeypatch.setattr(engines, "compile_in_background", lambda: asked.append(True))
    return asked


@pytest.mark.parametrize("compiled", [True, False])
def test_auto_is_fast_where_it_pays(compiled: bool, started: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "is_compiled", lambda: compiled)
    assert not is_fast("auto", PAYS_BYTES - 1, where="here")
    assert started == []
    assert is_fast("auto", PAYS_BYTES, where="here") == compiled
    assert started == [True] * (not compiled)
    assert is_fast("auto", PAYS_COLD_BYTES, where="here")
    assert is_fast("fast", 1, where="here")
    assert not is_fast("python", PAYS_COLD_BYTES, where="here")


def test_without_numba(started: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert not is_fast("auto", PAYS_COLD_BYTES, where="here")
    with pytest.raises(TokenizerError, match=r"^here: engine 'fast' needs numba: pip install 'cs336-basics\[fast\]'"):
        is_fast("fast", 1, where="here")
    assert started == []


def test_other_words() -> None:
    with pytest.raises(TokenizerError, match=r"^here: engine must be 'auto', 'python' or 'fast', got str 'quick'$"):
        is_fast("quick", 1, where="here")  # type: ignore[arg-type]  # the bad input


def test_both_train_the_same(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text(TEXT)
    slow = train_bpe(path, 300, ["<|end|>"], engine="python")
    assert train_bpe(path, 300, ["<|end|>"], engine="fast") == slow
    assert train_bpe(path, 300, ["<|end|>"]) == slow


def test_small_text_loads_no_numba(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text(TEXT)
    code = (
        "import sys; from cs336_basics.tokenizer import train_bpe; "
        f"train_bpe({str(path)!r}, 300, ['<|end|>']); sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_background_compiles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a folder of its own, where nothing is compiled yet."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    compile_in_background.cache_clear()
    process = compile_in_background()
    assert process is not None
    assert compile_in_background() is process
    assert process.wait(120) == 0
    assert list(tmp_path.rglob("joints.run-*.nbi"))
    compile_in_background.cache_clear()


def test_nothing_starts_where_python_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    compile_in_background.cache_clear()
    assert compile_in_background() is None
    compile_in_background.cache_clear()
