"""Config files: each fault is one ConfigError that names the file and what is wrong in it."""

from pathlib import Path

import pytest

from cs336_basics.config import ConfigError, RunConfig, load_config, read_toml

FILES = [
    (b"[model]\nd_modle = 64\n", "[model]: d_modle is not a field of ModelConfig; did you mean d_model?"),
    (b"[model]\nn_heads = 7\n", "[model]: n_heads must be a divisor of d_model = 512, got 7"),
    (b"[train]\nsteps = 1.5\n", "[train]: steps must be a whole number, got 1.5"),
    (b"[optimizer]\nlr = nan\n", "[optimizer]: lr must be a number, got nan"),
    (b"model = 3\n", ": model must be a table, got 3"),
    (b"[mdoel]\n", ": mdoel is not a field of RunConfig; did you mean model?"),
    (b"d_model = 64\n", ": d_model is not a field of RunConfig; did you mean model?"),
    (b"# caf\xe9\n", ": not TOML: 'utf-8' codec can't decode byte 0xe9 in position 5: invalid continuation byte"),
]


@pytest.mark.parametrize(("content", "message"), FILES)
def test_a_bad_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as raised:
        load_config(RunConfig, path)
    assert str(raised.value) == f"{path}{message}"


@pytest.mark.parametrize(("content", "line"), [("[model\n", 1), ("a = 1\na = 2\n", 2)])
def test_what_is_not_toml_is_told_the_line(tmp_path: Path, content: str, line: int) -> None:
    path = tmp_path / "run.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"run\.toml: not TOML: .*line {line}\b"):
        load_config(RunConfig, path)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read: No such file or directory$"):
        load_config(RunConfig, tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match=": cannot be read: "):
        load_config(RunConfig, str(tmp_path))  # a folder


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.touch()
    assert load_config(RunConfig, path) == RunConfig()


@pytest.mark.parametrize("content", [b"a = " + b"9" * 5000, b"a = " + b"[" * 5000], ids=["digits", "brackets"])
def test_what_pythons_reader_chokes_on_is_an_error_like_any_other(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"run\.toml: not TOML: "):
        load_config(RunConfig, path)


def test_read_toml_begins_its_errors_as_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    with pytest.raises(ConfigError, match=r"^config: \S+a\.toml: cannot be read: No such file or directory$"):
        read_toml(path, where="config: ")
    path.write_text("a =")
    with pytest.raises(ConfigError, match=r"^config: \S+a\.toml: not TOML: "):
        read_toml(path, where="config: ")
    path.write_bytes("a = 1\r\nb = 'é'\r\n".encode())
    assert read_toml(path) == {"a": 1, "b": "é"}
